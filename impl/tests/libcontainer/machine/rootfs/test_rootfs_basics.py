"""A root filesystem as an engine asks for it, seen from inside and outside."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.capabilities import capget, capset
from kernelproof.impl.libcontainer.config.records import Device, Mount
from kernelproof.impl.libcontainer.operations import Operation
from kernelproof.impl.libcontainer.rootfs.devices import MakeDevice

pytestmark = pytest.mark.machine

USUAL = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/missing", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/missing")


def table_of(text: str) -> mount.MountTable:
    return mount.MountTable(mount.parse_mountinfo(text).mounts)


def read_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def test_usual_container(container: Any) -> None:
    """Usual mounts are there as asked, with devices, links, masks and read-only paths; seen from outside too."""
    config = container.config(
        USUAL,
        linux={"masked_paths": MASKED, "readonly_paths": READ_ONLY},
        readonly=True,
        cwd="/srv/work",
        kinds=("mount", "pid", "ipc", "uts", "network"),
    )
    outer: list[str] = []

    def look() -> dict[str, object]:
        devices = {}
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            found = os.stat(f"/dev/{name}")
            devices[name] = [stat.filemode(found.st_mode), os.major(found.st_rdev), os.minor(found.st_rdev)]
        refused = {}
        for path in ("/new", "/proc/sys/kernel/domainname", "/sys/new"):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
            except OSError as error:
                refused[path] = error.errno
        return {
            "mounts": read_mountinfo(),
            "root": sorted(os.listdir("/")),
            "devices": devices,
            "links": {name: os.readlink(f"/dev/{name}") for name in ("fd", "stdin", "stdout", "stderr", "ptmx")},
            "keys": os.stat("/proc/keys").st_rdev,
            "firmware": os.listdir("/sys/firmware"),
            "refused": refused,
            "cwd": os.path.isdir("/srv/work"),
        }

    seen: Any = container.run(
        config, look, outside=lambda pid: outer.append(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8"))
    )
    assert isinstance(seen, dict), seen
    table = table_of(seen["mounts"])
    assert [each.mount_point for each in table][:8] == [
        "/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/proc/bus",
    ]  # fmt: skip
    assert table.find("/").is_read_only
    assert "nosuid,nodev,noexec,relatime" in table.find("/proc").opts
    assert table.find("/dev").mount_options[:2] == ("rw", "nosuid")
    assert table.find("/dev/pts").super_options == ("rw", "gid=5", "mode=620", "ptmxmode=666")
    assert table.find("/sys").opts == "ro,nosuid,nodev,noexec,relatime"
    assert table.find("/proc/sys").opts == "ro,nosuid,nodev,noexec,relatime"
    assert seen["devices"] == {
        "null": ["crw-rw-rw-", 1, 3], "zero": ["crw-rw-rw-", 1, 5], "full": ["crw-rw-rw-", 1, 7],
        "random": ["crw-rw-rw-", 1, 8], "urandom": ["crw-rw-rw-", 1, 9], "tty": ["crw-rw-rw-", 5, 0],
    }  # fmt: skip
    assert seen["links"] == {
        "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }  # fmt: skip
    assert seen["keys"] == os.makedev(1, 3)
    assert seen["firmware"] == []
    assert seen["refused"] == {"/new": 30, "/proc/sys/kernel/domainname": 30, "/sys/new": 30}
    assert seen["cwd"]
    assert [each.mount_point for each in table_of(outer[0])] == [each.mount_point for each in table]


def test_configured_devices_have_exact_modes_and_owners(container: Any) -> None:
    """Devices are made with mode and owner as asked, whatever the umask; parents are made; FIFOs too."""
    devices = (
        Device("c", "/dev/null", 1, 3, 0o640, 7, 8),
        Device("b", "/deep/er/disk", 7, 200, 0o4606),
        Device("p", "/fifo", file_mode=0o622),
        Device("u", "/dev/fuse", 10, 229),
    )
    config = container.config(USUAL, linux={"devices": devices})

    def look() -> list[object]:
        found = [os.stat(path) for path in ("/dev/null", "/deep/er/disk", "/fifo", "/dev/fuse")]
        return [[stat.filemode(each.st_mode), each.st_rdev, each.st_uid, each.st_gid] for each in found]

    old = os.umask(0o077)
    try:
        seen = container.run(config, look)
    finally:
        os.umask(old)
    assert seen == [
        ["crw-r-----", os.makedev(1, 3), 7, 8],
        ["brwS---rw-", os.makedev(7, 200), 0, 0],
        ["prw--w--w-", 0, 0, 0],
        ["crw-rw-rw-", os.makedev(10, 229), 0, 0],
    ]


def test_read_only_root_keeps_its_other_flags(container: Any) -> None:
    """Made read-only, the root has the flags that its mount had, and no other."""
    mount.remount(container.image.parent, "bind,remount,nosuid,nodev,noatime")
    seen = container.run(container.config(USUAL[:2], readonly=True), read_mountinfo)
    assert table_of(seen).find("/").opts == "ro,nosuid,nodev,noatime"
    assert table_of(seen).find("/dev").mount_options[:2] == ("rw", "nosuid")


def test_modes_of_kernel_filesystems_stay(container: Any) -> None:
    """The root of procfs, of sysfs and of a tmpfs with a mode have the mode that they should, whatever lay below."""
    for name in ("proc", "sys"):
        (container.image / name).chmod(0o700)

    def look() -> list[int]:
        return [stat.S_IMODE(os.stat(path).st_mode) for path in ("/proc", "/sys", "/dev/shm", "/dev")]

    config = container.config(USUAL, kinds=("mount", "pid", "ipc", "uts", "network"))
    assert container.run(config, look) == [0o555, 0o555, 0o1777, 0o755]


def test_devices_without_the_right_to_make_them(container: Any) -> None:
    """Where mknod is refused, as without CAP_MKNOD, the host's node is bound; a device that it has not is refused."""

    def give_up_the_right(operation: Operation) -> None:
        if isinstance(operation, MakeDevice) and operation.path == "/dev/null":
            give_up(CAP_MKNOD)

    seen = container.run(
        container.config(USUAL),
        lambda: [os.stat("/dev/null").st_rdev, read_mountinfo()],
        before=give_up_the_right,
    )
    assert isinstance(seen, list), seen
    assert seen[0] == os.makedev(1, 3)
    assert table_of(seen[1]).find("/dev/null").fstype == "devtmpfs"
    config = container.config(USUAL, linux={"devices": (Device("c", "/dev/null", 1, 3), Device("c", "/dev/no", 1, 77))})
    refused = container.run(config, before=give_up_the_right)
    assert (refused.operation, refused.errno) == ("MakeDevice", errno.ENOENT)


CAP_MKNOD = 27


def give_up(capability: int) -> None:
    """Drops a capability from all sets of this process."""
    effective, permitted, inheritable = (each & ~(1 << capability) for each in capget())
    capset(effective, permitted, inheritable)
