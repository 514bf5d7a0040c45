"""Into the root: pivot or move or chroot alone, its propagation, the directory to begin in, sysctls."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl.libcontainer.config.records import Mount

pytestmark = pytest.mark.machine

PROC = Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev"))


def read_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def table_of(text: object) -> mount.MountTable:
    assert isinstance(text, str), text
    return mount.MountTable(mount.parse_mountinfo(text).mounts)


@pytest.mark.parametrize("no_pivot_root", [False, True], ids=["pivot", "move"])
def test_only_the_root_is_left(container: Any, no_pivot_root: bool) -> None:
    """In either way the root is the image, the working directory is in it, and `..` leads nowhere."""

    def look() -> list[object]:
        up = os.stat("..").st_ino == os.stat("/").st_ino == os.stat("/../..").st_ino
        return [sorted(os.listdir("/")), os.getcwd(), up, read_mountinfo()]

    seen: Any = container.run(container.config([PROC], no_pivot_root=no_pivot_root), look)
    assert seen[:3] == [["bin", "dev", "etc", "proc", "run", "sys", "tmp"], "/", True]
    assert [each.mount_point for each in table_of(seen[3])] == ["/", "/proc"]


def test_without_a_mount_namespace_it_is_a_chroot(container: Any) -> None:
    """A container that shares the host's mounts is entered by chroot; whatever would change them is refused."""
    config = container.config(kinds=("pid", "uts"))
    before = [each.mount_point for each in mount.MountTable.read()]
    assert container.run(config, lambda: sorted(os.listdir("/"))) == ["bin", "dev", "etc", "proc", "run", "sys", "tmp"]
    assert [each.mount_point for each in mount.MountTable.read()] == before
    for changed in (
        {"mounts": [PROC]},
        {"readonly": True},
        {"linux": {"masked_paths": ("/proc/kcore",)}},
        {"terminal": True},
    ):
        with pytest.raises(mount.OptionError, match="without a mount namespace"):
            container.run(container.config(**{"kinds": ("pid",), "linux": {}, **changed}))


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        ("private", []), ("rprivate", []), ("slave", []), ("rslave", []), ("shared", ["shared"]),
        ("rshared", ["shared"]), ("unbindable", ["unbindable"]), ("runbindable", ["unbindable"]),
    ],
)  # fmt: skip
def test_propagation_of_the_root(container: Any, word: str, fields: list[str]) -> None:
    """The root has the type that was asked for, and none of its mounts is seen on the host, shared or not."""
    mount.make_rshared(container.image.parent)
    outer: list[int] = []
    before = len(mount.MountTable.read())
    try:
        config = container.config([PROC, Mount("/a", "tmpfs", "x")], linux={"rootfs_propagation": word})
        seen = container.run(config, read_mountinfo, outside=lambda pid: outer.append(len(mount.MountTable.read())))
        found = [text.partition(":")[0] for text in table_of(seen).find("/").optional_fields]
        assert [each for each in found if each != "master"] == fields
        assert outer == [before]
    finally:
        mount.make_rprivate(container.image.parent)


def test_volume_of_a_shared_root_reaches_the_host(container: Any) -> None:
    """With a shared root, what is mounted in a shared volume is seen on the host, as was asked for."""
    volume = container.host / "volume"
    volume.mkdir()
    mount.mount("volume", volume, "tmpfs", "shared")
    (volume / "point").mkdir()
    mounts = [PROC, Mount("/volume", None, str(volume), ("rbind", "rshared"))]
    seen: list[bool] = []

    def look() -> None:
        mount.force_mount("inner", "/volume/point", "tmpfs", "")

    try:
        config = container.config(mounts, linux={"rootfs_propagation": "rshared"})
        container.run(config, look, outside=lambda pid: seen.append(mount.mounted(volume / "point")))
        assert seen == [True]
    finally:
        mount.unmount_recursive(volume, lazy=True)
        volume.rmdir()


def test_directory_to_begin_in_is_made(container: Any) -> None:
    """A missing working directory is made, also in what becomes read-only; inside the root, whatever links say."""
    (container.image / "out").symlink_to(str(container.host))
    seen = container.run(container.config([PROC], cwd="/srv/a/b", readonly=True), lambda: os.path.isdir("/srv/a/b"))
    assert seen is True
    seen = container.run(container.config([PROC], cwd="/out/made"), lambda: os.path.isdir("/out/made"))
    assert seen is True
    assert (container.image / str(container.host).lstrip("/") / "made").is_dir()
    assert os.listdir(container.host) == ["sentinel"]


def test_sysctls_are_those_of_the_container(container: Any) -> None:
    """Parameters of the container's namespaces are set, in both ways to write their names; the host's stay."""
    with open("/proc/sys/kernel/msgmax", encoding="ascii") as file:
        before = file.read()
    sysctl = (("kernel.msgmax", "4321"), ("net/ipv4/ip_forward", "1"), ("kernel.domainname", "inside"))

    def look() -> list[str]:
        found = []
        for name in ("kernel/msgmax", "net/ipv4/ip_forward", "kernel/domainname"):
            with open(f"/proc/sys/{name}", encoding="ascii") as file:
                found.append(file.read().strip())
        return found

    config = container.config(
        [PROC],
        kinds=("mount", "pid", "ipc", "uts", "network"),
        linux={"sysctl": sysctl, "readonly_paths": ("/proc/sys",)},
    )
    assert container.run(config, look) == ["4321", "1", "inside"]
    with open("/proc/sys/kernel/msgmax", encoding="ascii") as file:
        assert file.read() == before
    refused = container.run(container.config([PROC], linux={"sysctl": (("kernel.nothing", "1"),)}))
    assert (refused.operation, refused.errno) == ("WriteSysctl", errno.ENOENT)
    assert "kernel.nothing" in refused.text


def test_nothing_is_imported_on_the_other_side(container: Any) -> None:
    """From the first operation in the new namespaces to the last, no module is loaded."""
    config = container.config(
        [PROC, Mount("/dev", "tmpfs", "tmpfs", ("mode=755",)), Mount("/dev/pts", "devpts", "devpts", ())],
        linux={
            "masked_paths": ("/proc/kcore",),
            "readonly_paths": ("/proc/sys",),
            "sysctl": (("kernel.sem", "1 2 3 4"),),
        },
        readonly=True,
        terminal=True,
    )
    kinds = [each.type for each in config.linux.namespaces]
    plan = container.plan(config)
    before = sorted(sys.modules)
    seen: object = container.perform(plan, kinds, lambda: sorted(sys.modules))
    assert seen == before


@pytest.mark.machine(profile="bare")
def test_root_of_an_initial_ramfs_is_moved(container: Any) -> None:
    """Where the host's root is the initial ramfs, which can't be pivoted, the container's is moved over it."""
    seen: Any = container.run(container.config([PROC]), lambda: [sorted(os.listdir("/")), read_mountinfo()])
    assert isinstance(seen, list), seen
    assert seen[0] == ["bin", "dev", "etc", "proc", "run", "sys", "tmp"]
    assert [each.mount_point for each in table_of(seen[1])] == ["/", "/proc"]
