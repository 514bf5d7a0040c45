"""Images that want out: links to the host in every place that a runtime touches, and renames while it does so.

A sentinel of the host lies beside each image, and the fixture proves after every test that nothing of it has changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import MountFlag
from kernelproof.impl._syscalls.mount import mount as mount_call
from kernelproof.impl.libcontainer.config.records import Device, Mount
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs import mounting
from kernelproof.impl.libcontainer.rootfs.entering import WriteSysctl
from kernelproof.impl.libcontainer.rootfs.hiding import MaskPaths
from kernelproof.impl.libcontainer.rootfs.opening import BindRoot, IsolateMounts, OpenProcfs, OpenRoot
from kernelproof.impl.libcontainer.rootfs.places import open_place

pytestmark = pytest.mark.machine

PROC = Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev"))
PTS = Mount("/dev/pts", "devpts", "devpts", ())
RENAME_EXCHANGE = 2
# What a race may end in for who does it right: what was looked up was another thing, or nothing, at that moment.
LOST = (errno.ENOENT, errno.EAGAIN, errno.EXDEV, errno.ENOTDIR, errno.ELOOP, errno.EEXIST)


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Another process exchanges two names as fast as it can."""
    exchange = ctypes.CDLL(None).renameat2
    names = os.fsencode(one), os.fsencode(other)
    attacker = os.fork()
    if attacker == 0:
        try:
            while True:
                exchange(-100, names[0], -100, names[1], RENAME_EXCHANGE)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)


def make_by_text(image: Path, destination: str) -> None:
    """What runtimes did: the path is resolved as text inside the root, and then used."""
    path = str(image)
    for part in destination.strip("/").split("/"):
        path = os.path.join(path, part)
        with suppress(OSError):  # no link
            path = os.path.join(image, os.readlink(path).lstrip("/"))
    os.makedirs(path, exist_ok=True)


def make_by_descriptors(image: Path, destination: str) -> None:
    """Ours."""
    site = Site()
    try:
        OpenRoot(str(image)).do(site)
        os.close(open_place(site, destination))
    finally:
        site.close()


def create_for(seconds: float, container: Any, make: Callable[[Path, str], None]) -> int:
    """Make missing destinations below a directory that is exchanged with a link to the host; count those made.

    The first that is on the host ends it.
    """
    number = made = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and os.listdir(container.host) == ["sentinel"]:
        number += 1
        try:
            make(container.image, f"volume/a/{os.getpid()}-{number}/below")
        except OSError as error:
            if error.errno not in LOST:
                raise
        else:
            made += 1
    return made


@pytest.mark.machine(time="real")
@pytest.mark.long
@pytest.mark.rule("K5", ours=make_by_descriptors, wrong=make_by_text)
def test_destinations_are_made_inside_whatever_is_renamed(
    container: Any, race_seconds: float, subject: Callable[[Path, str], None]
) -> None:
    """For seconds two processes make destinations where a third exchanges a directory with a link to the host."""
    seconds = race_seconds if subject is make_by_descriptors else 10.0
    volume = container.image / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "link").symlink_to(container.host)
    with exchanging(volume / "a", volume / "link"):
        other = os.fork()
        if other == 0:
            status = 1
            try:
                status = 0 if create_for(seconds, container, subject) else 1
            finally:
                os._exit(status)
        made = create_for(seconds, container, subject)
        _, status = os.waitpid(other, 0)
    escaped = sorted(os.listdir(container.host))
    for name in escaped[:-1]:
        shutil.rmtree(container.host / name)
    assert escaped == ["sentinel"]
    assert made
    assert status == 0


def test_those_who_make_the_same_destination_do_not_disturb_each_other(container: Any) -> None:
    """Eight processes make the same fifty missing destinations at once, directories and files: none fails."""
    ready, go = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(go)
                os.read(ready, 1)
                site = Site()
                OpenRoot(str(container.image)).do(site)
                for number in range(50):
                    os.close(open_place(site, f"/x/y{number}/z", is_directory=bool(number % 2)))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(go)
    os.close(ready)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert (container.image / "x/y2/z").is_file()
    assert (container.image / "x/y3/z").is_dir()


@pytest.mark.machine(time="real")
@pytest.mark.long
@pytest.mark.parametrize("is_file", [False, True], ids=["directory", "file"])
def test_no_rename_leads_a_mount_out(container: Any, race_seconds: float, is_file: bool) -> None:
    """CVE-2021-30465, CVE-2019-18837: for seconds containers start with a destination below a racing volume."""
    volume = container.host.parent / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "link").symlink_to(f"/../..{container.host}")
    source = container.image / "etc/hostname" if is_file else container.image / "etc"
    mounts = [
        PROC,
        Mount("/volume", None, str(volume), ("rbind",)),
        Mount("/volume/a/point", None, str(source), ("bind", "ro")),
    ]
    config = container.config(mounts, kinds=("mount",))
    counts = {"inside": 0, "refused": 0}
    deadline = time.monotonic() + race_seconds
    with exchanging(volume / "a", volume / "link"):
        while time.monotonic() < deadline or not counts["inside"]:  # on a busy host few are started in that time
            seen = container.run(config, lambda: Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
            if isinstance(seen, str):
                # Whatever the directory's name is by now: the mount is in the volume, in the container; or where the
                # link leads inside the container.
                assert any(f" {where}/point " in seen for where in ("/volume/a", "/volume/link", container.host)), seen
                counts["inside"] += 1
            else:
                assert seen.errno in LOST, seen
                counts["refused"] += 1
    assert counts["inside"]


# What the image has, and where it leads -> the operation that refuses it.
HOSTILE = {
    "dev-to-host": ("dev", "{host}", "MakeDevice"),
    "dev-to-inside": ("dev", "etc", "MakeDevice"),
    "dev-climbing": ("dev", "../host", "MakeDevice"),
    "null": ("dev/null", "{sentinel}", "MakeDevice"),
    "zero-climbing": ("dev/zero", "../../host/sentinel", "MakeDevice"),
    "proc-to-inside": ("proc", "etc", "MountKernel"),
    "proc-to-host": ("proc", "{host}", "MountKernel"),
    "sys": ("sys", "etc", "MountKernel"),
    "console": ("dev/console", "{sentinel}", "BindConsole"),
}


@pytest.mark.parametrize(("name", "target", "operation"), HOSTILE.values(), ids=HOSTILE)
def test_links_in_an_image_lead_nowhere(container: Any, name: str, target: str, operation: str) -> None:
    """CVE-2019-19921, CVE-2023-28642, CVE-2026-41579, CVE-2026-47766: a link where a runtime works stops the start."""
    path = container.image / name
    if path.is_dir():
        path.rmdir()
    path.symlink_to(target.format(host=container.host, sentinel=container.sentinel))
    mounts = [PROC, *([PTS] if name == "dev/console" else []), Mount("/sys", "sysfs", "sysfs", ("ro",))]
    refused = container.run(
        container.config(mounts, terminal=name == "dev/console", kinds=("mount", "pid", "ipc", "uts", "network"))
    )
    assert getattr(refused, "operation", refused) == operation
    assert path.is_symlink()


def test_link_to_the_host_has_its_end_made_in_the_image(container: Any) -> None:
    """A filesystem on a link to a directory of the host is mounted where the link leads inside the image."""
    (container.image / "dev/pts").symlink_to(container.host)
    seen = container.run(container.config([PROC, PTS]), lambda: Path("/proc/self/mountinfo").read_text("utf-8"))
    assert f" {container.host} " in seen
    assert (container.image / str(container.host).lstrip("/")).is_dir()


def test_links_of_dev_are_replaced_not_followed(container: Any) -> None:
    """A link in the place of /dev/ptmx is replaced; one in the place of /dev/stdin is left, and not used."""
    for name in ("ptmx", "stdin"):
        (container.image / "dev" / name).symlink_to(container.sentinel)
    seen = container.run(
        container.config([PROC, PTS]), lambda: [os.readlink(f"/dev/{name}") for name in ("ptmx", "stdin")]
    )
    assert seen == ["pts/ptmx", str(container.sentinel)]


@pytest.mark.parametrize("kind", ["c", "b"])
def test_configured_device_over_a_link_is_refused(container: Any, kind: str) -> None:
    """A configured device is never made where a link of the image leads."""
    (container.image / "dev/thing").symlink_to(container.sentinel)
    refused = container.run(container.config([PROC], linux={"devices": (Device(kind, "/dev/thing", 1, 3),)}))
    assert (refused.operation, refused.kind) == ("MakeDevice", "UnsafePathError")


@pytest.mark.parametrize("over", ["proc", "proc/self", "proc/sys", "proc/self/attr"])
def test_nothing_is_mounted_over_procfs(container: Any, over: str) -> None:
    """CVE-2019-16884, CVE-2023-27561: a volume in the place of procfs, or of a part of it, stops the start."""
    fake = container.host / "fake"
    fake.mkdir()
    try:
        refused = container.run(container.config([PROC, Mount(f"/{over}", None, str(fake), ("bind",))]))
        assert (refused.operation, refused.kind, refused.errno) == ("Bind", "UnsafePathError", errno.EPERM)
    finally:
        fake.rmdir()


def test_procfs_that_was_mounted_elsewhere_is_not_covered(container: Any) -> None:
    """Procfs is told by what it is, also under another name, and through a link."""
    (container.image / "other").mkdir()
    (container.image / "alias").symlink_to("other")
    elsewhere = Mount("/other", "proc", "proc", ())
    for destination in ("/other/sys", "/alias/self", "/tmp/../other/1"):
        refused = container.run(container.config([elsewhere, Mount(destination, "tmpfs", "x")]))
        assert (refused.operation, refused.kind) == ("MountTmpfs", "UnsafePathError"), destination


def mask_by_the_image_s_null(site: Site) -> None:
    """What a runtime did: /dev/null of the container is bound over what is to be hidden."""
    root = os.readlink(f"/proc/self/fd/{site.descriptors['root']}")
    mount_call(f"{root}/dev/null", f"{root}/etc/masked", None, MountFlag.BIND)


def mask_by_our_null(site: Site) -> None:
    """Ours."""
    MaskPaths(("/etc/masked",)).do(site)


class Act(Operation):
    """A step of a test in the place of an operation."""

    __slots__ = ("act",)
    stage = "init"

    def do(self, site: Site) -> None:
        """Does it."""
        self.act(site)  # type: ignore[attr-defined]


@pytest.mark.rule("K1", ours=mask_by_our_null, wrong=mask_by_the_image_s_null)
def test_masks_are_the_host_s_null_device(container: Any, subject: Callable[[Site], None]) -> None:
    """CVE-2025-31133: whatever an image has at /dev/null, a masked file is the null device."""
    for name in ("masked", "target"):
        (container.image / "etc" / name).write_text("secret")
    (container.image / "dev/null").symlink_to(container.image / "etc/target")
    plan = [IsolateMounts("rslave"), OpenRoot(str(container.image)), BindRoot(str(container.image)), Act(subject)]

    def look() -> list[object]:
        found = os.stat(f"{container.image}/etc/masked")
        return [stat.S_ISCHR(found.st_mode), found.st_rdev]

    assert container.perform(plan, ["mount"], look) == [True, os.makedev(1, 3)]


@pytest.mark.parametrize("kind", ["file", "link", "zero"])
def test_host_s_null_device_is_looked_at(container: Any, kind: str) -> None:
    """Where /dev/null of the host itself is something else, nothing is masked with it."""
    fake = container.image / "fake"
    if kind == "zero":
        os.mknod(fake, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        fake.write_text("")
    (container.image / "etc/masked").write_text("secret")

    def put_it_there(operation: Operation) -> None:
        if isinstance(operation, MaskPaths):
            if kind == "link":
                mount.force_mount("dev", "/dev", "tmpfs", "")
                os.symlink(fake, "/dev/null")
            else:
                mount.bind(fake, "/dev/null")

    config = container.config([PROC], linux={"masked_paths": ("/etc/masked",)})
    refused = container.run(config, before=put_it_there)
    assert (refused.operation, refused.kind, refused.errno) == ("MaskPaths", "UnsafePathError", errno.ENODEV)


def write_by_path(site: Site) -> None:
    """What runtimes did: a path below the procfs that the container can mount over."""
    root = os.readlink(f"/proc/self/fd/{site.descriptors['root']}")
    with open(f"{root}/proc/sys/kernel/msgmax", "w", encoding="ascii") as file:
        file.write("4567")


def write_by_handle(site: Site) -> None:
    """Ours."""
    WriteSysctl("kernel.msgmax", "4567").do(site)


@pytest.mark.rule("K2", ours=write_by_handle, wrong=write_by_path)
def test_parameters_are_written_to_procfs_itself(container: Any, subject: Callable[[Site], None]) -> None:
    """CVE-2025-52881: a file that is mounted over a parameter gets nothing, and the kernel gets the value."""
    (container.image / "fake").write_text("")
    root = str(container.image)

    def cover(site: Site) -> None:
        mount.force_mount("proc", f"{root}/proc", "proc", "")
        mount.bind(container.image / "fake", f"{root}/proc/sys/kernel/msgmax")

    plan = [IsolateMounts("rslave"), OpenRoot(root), BindRoot(root), OpenProcfs(), Act(cover), Act(subject)]

    def look() -> list[object]:
        covered = Path(f"{root}/fake").read_text(encoding="ascii")
        return [covered, Path("/proc/sys/kernel/msgmax").read_text(encoding="ascii")]

    assert container.perform(plan, ["mount", "ipc"], look) == ["", "4567\n"]


@pytest.mark.parametrize("kind", ["tmpfs", "sysrq"])
def test_what_covers_the_procfs_that_everybody_sees_is_noticed(container: Any, kind: str) -> None:
    """Where no procfs of one's own is to be had, a tmpfs or another file of procfs over a parameter is refused."""

    def take_the_visible_one(site: Site) -> None:
        with mount.open_procfs(private=False) as proc:
            site.descriptors["proc"] = os.dup(proc.fd)
        if kind == "tmpfs":
            mount.force_mount("x", "/proc/sys/kernel", "tmpfs", "")
        else:
            mount.bind("/proc/sysrq-trigger", "/proc/sys/kernel/msgmax")

    root = str(container.image)
    plan = [
        IsolateMounts("rprivate"),
        OpenRoot(root),
        Act(take_the_visible_one),
        WriteSysctl("kernel.msgmax", "b"),
    ]
    refused = container.perform(plan, ["mount", "ipc"], lambda: None)
    assert (refused.operation, refused.kind, refused.errno) == ("WriteSysctl", "UnsafePathError", errno.EXDEV)


def test_directory_that_is_carried_out_takes_nothing_with_it(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the host moves a directory out of the root while it is mounted on, the start fails and nothing is left."""
    (container.image / "a/b").mkdir(parents=True)
    moved = container.image.parent / "moved"
    held: list[int] = []

    def hold(operation: Operation) -> None:
        if isinstance(operation, BindRoot):  # below it the image is another mount
            held.extend(os.open(path, os.O_PATH) for path in (container.image, container.image.parent))

    def move_it_first(*values: Any, **named: Any) -> Any:
        os.rename("a", "moved", src_dir_fd=held[0], dst_dir_fd=held[1])
        return mount.mount_tmpfs(*values, **named)

    monkeypatch.setattr(mounting, "mount_tmpfs", move_it_first)
    refused = container.run(container.config([PROC, Mount("/a/b", "tmpfs", "x")]), before=hold)
    assert (refused.operation, refused.kind, refused.errno) == ("MountTmpfs", "UnsafePathError", errno.EXDEV)
    assert os.listdir(moved / "b") == []
