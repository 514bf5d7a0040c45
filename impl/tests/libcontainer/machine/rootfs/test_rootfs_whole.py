"""Root filesystems of whole containers: through the library, and through the command of a user without rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kernelproof
from kernelproof.impl import mount
from kernelproof.impl.libcontainer import PIPE, Runtime, StartError
from kernelproof.impl.libcontainer.config.records import Config, IdMapping, Linux, Mount, Namespace, Process, Root
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = pytest.mark.machine(profile="runtimes")

APPLETS = ("sh", "cat", "ls", "touch", "mkdir", "stat", "sleep", "wc", "tty")
USER = 1234
USUAL = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
    Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)
HIDDEN: dict[str, Any] = {
    "masked_paths": ("/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"),
    "readonly_paths": ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
}


class Bundle:
    """A bundle whose root holds busybox, in a directory that everybody reaches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"

    def config(
        self, script: str, *, kinds: str = "pid network ipc uts mount", readonly: bool = False,
        mounts: tuple[Mount, ...] = USUAL, **linux: object,
    ) -> Config:  # fmt: skip
        """A configuration that runs a script."""
        return Config(
            "1.2.0",
            Root("rootfs", readonly),
            Process("/", ("sh", "-c", script), ("PATH=/bin",)),
            mounts=mounts,
            linux=Linux(tuple(Namespace(kind) for kind in kinds.split()), **linux),  # type: ignore[arg-type]
        )


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    """It, and a host on which nothing is mounted afterwards that was not before."""
    path = Path(tempfile.mkdtemp(prefix="bundle-", dir="/var/tmp"))
    path.chmod(0o755)
    made = Bundle(path)
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
        (made.rootfs / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "the profile `runtimes` has busybox"
    shutil.copy(busybox, made.rootfs / "bin/busybox")
    for name in APPLETS:
        (made.rootfs / "bin" / name).symlink_to("busybox")
    before = [each.mount_point for each in mount.MountTable.read()]
    yield made
    assert [each.mount_point for each in mount.MountTable.read()] == before
    shutil.rmtree(path)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with a warm helper."""
    with Runtime(tmp_path / "states") as made:
        yield made


def run(runtime: Runtime, bundle: Bundle, config: Config) -> str:
    """What a container's script says."""
    with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        text = container.process.read_output(20).decode()
        container.wait(20)
        return text


def test_read_only_root(bundle: Bundle, runtime: Runtime) -> None:
    """With a read-only root nothing can be written to it; its mounts are as they say, from inside and outside."""
    script = "touch /x 2>/dev/null || echo ro; touch /dev/shm/y && echo rw; cat /proc/self/mountinfo; sleep 1000"
    config = bundle.config(script, readonly=True, **HIDDEN)
    with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        text = b""
        while b" /sys/firmware " not in text and b" /proc/keys " not in text:
            text += os.read(container.process.stdout, 1 << 16)
        outside = Path(f"/proc/{container.process.pid}/mountinfo").read_text(encoding="utf-8")
    assert text.startswith(b"ro\nrw\n")
    table = mount.MountTable(mount.parse_mountinfo(outside).mounts)
    assert table.find("/").is_read_only
    assert table.find("/dev/shm").opts == "rw,nosuid,nodev,noexec,relatime"
    assert table.find("/proc/sys").opts == "ro,nosuid,nodev,noexec,relatime"
    assert not (bundle.rootfs / "x").exists()


def test_options_of_mounts(bundle: Bundle, runtime: Runtime) -> None:
    """Options reach the mounts of a whole container: binds, copies, trees, propagation."""
    source = bundle.path / "source"
    source.mkdir()
    (bundle.rootfs / "etc/file").write_text("kept")
    wanted = {
        "/a": (Mount("/a", None, str(source), ("bind", "ro", "nosuid", "relatime")), "ro,nosuid,relatime"),
        "/b": (Mount("/b", None, "source", ("rbind", "noexec", "noatime")), "rw,noexec,noatime"),
        "/etc": (Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup", "nodev", "ro")), "ro,nodev,relatime"),
        "/c/d": (Mount("/c/d", "tmpfs", "tmpfs", ("size=1m", "shared")), "rw,relatime"),
    }
    mounts = (*USUAL[:2], *(each for each, _ in wanted.values()))
    script = "cat /etc/file; echo; cat /proc/self/mountinfo"
    first, _, text = run(runtime, bundle, bundle.config(script, mounts=mounts)).partition("\n")
    assert first == "kept"
    table = mount.MountTable(mount.parse_mountinfo(text).mounts)
    assert {path: table.find(path).opts for path in wanted} == {path: options for path, (_, options) in wanted.items()}
    assert table.find("/c/d").optional_fields[0].startswith("shared:")


def test_refusals_are_told_with_their_step(bundle: Bundle, runtime: Runtime) -> None:
    """An error of the root filesystem has its stage, operation, path and number, and nothing is left."""
    (bundle.rootfs / "proc").rmdir()
    (bundle.rootfs / "proc").symlink_to("etc")
    with pytest.raises(StartError) as failed:
        runtime.create("box", bundle.config("true"), bundle=bundle.path)
    assert (failed.value.stage, failed.value.call, failed.value.errno) == ("init", "MountKernel", 40)
    assert "/proc" in str(failed.value)
    bad = (*USUAL[:2], Mount("/data", None, "/nowhere", ("bind",)))
    (bundle.rootfs / "proc").unlink()
    with pytest.raises(StartError, match="/nowhere") as failed:
        runtime.create("box", bundle.config("true", mounts=bad), bundle=bundle.path)
    assert failed.value.call == "Bind"


@pytest.mark.parametrize("network", ["own", "host's"])
def test_user_without_rights(bundle: Bundle, network: str) -> None:
    """A user without rights has a container with all usual mounts; /sys is read-only whoever's it is, devices work."""
    for path in [bundle.path, *bundle.path.rglob("*")]:
        os.chown(path, USER, USER, follow_symlinks=False)
    kinds = "user pid ipc uts mount" + (" network" if network == "own" else "")
    maps = (IdMapping(0, USER, 1),)
    script = (
        "echo x > /dev/null && echo null; touch /x 2>/dev/null || echo ro; ls /sys/firmware | wc -l;"
        "cat /proc/self/mountinfo"
    )
    config = bundle.config(script, kinds=kinds, readonly=True, uid_mappings=maps, gid_mappings=maps, **HIDDEN)
    (bundle.path / "config.json").write_text(dump(config), encoding="utf-8")
    places = kernelproof.__path__
    words = ["--root", str(bundle.path / "states"), "run", "--bundle", str(bundle.path), "box"]
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; import kernelproof; kernelproof.__path__[:] = {list(places)!r};"
        "from kernelproof.impl.libcontainer.nsinit.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *words],
        user=USER, group=USER, extra_groups=[], capture_output=True, text=True, timeout=50, check=False, env={},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n", 3)
    assert lines[:3] == ["null", "ro", "0"]
    table = mount.MountTable(mount.parse_mountinfo(lines[3]).mounts)
    assert table.find("/").is_read_only
    assert all(each.is_read_only for each in table.below("/sys"))
    assert table.find("/dev/null").fstype == "devtmpfs"
    assert {each.mount_point for each in table} >= {each.destination for each in USUAL}
