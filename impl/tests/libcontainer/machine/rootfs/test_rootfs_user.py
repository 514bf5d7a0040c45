"""A root filesystem in a user namespace: what is refused there is done another way, and what is locked stays."""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl.libcontainer.config.records import IdMapping, Mount

pytestmark = pytest.mark.machine

KINDS = ("user", "mount", "pid", "ipc", "uts")
USUAL = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "mode=755", "size=64k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)


@pytest.fixture
def owned(container: Any) -> Any:
    """The image belongs to the root of the user namespace."""
    for path in [container.image, *container.image.rglob("*")]:
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    return container


def read_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def table_of(text: object) -> mount.MountTable:
    assert isinstance(text, str), text
    return mount.MountTable(mount.parse_mountinfo(text).mounts)


def test_devices_are_the_host_s(owned: Any) -> None:
    """Device nodes, which can't be made here, are those of the host; masks, links and a read-only root work as ever."""
    linux = {"masked_paths": ("/proc/kcore", "/proc/acpi", "/sys/firmware"), "readonly_paths": ("/proc/sys",)}

    def look() -> list[object]:
        numbers = [os.stat(f"/dev/{name}").st_rdev for name in ("null", "zero", "full", "random", "urandom", "tty")]
        with open("/dev/null", "w", encoding="utf-8") as file:
            file.write("x")
        kinds = stat.S_ISCHR(os.stat("/proc/kcore").st_mode)
        return [numbers, os.readlink("/dev/ptmx"), kinds, os.access("/", os.W_OK), read_mountinfo()]

    seen: Any = owned.run(owned.config(USUAL, kinds=KINDS, linux=linux, readonly=True), look)
    assert isinstance(seen, list), seen
    makedev = os.makedev
    assert seen[0] == [makedev(1, 3), makedev(1, 5), makedev(1, 7), makedev(1, 8), makedev(1, 9), makedev(5, 0)]
    assert seen[1:4] == ["pts/ptmx", True, False]


def sysfs_bound_as_in_crun(container: Any) -> Any:
    """What a runtime did: the substitute for a sysfs was bound without the options of the mount that was asked for."""
    mounts = [*USUAL[:-1], Mount("/sys", None, "/sys", ("rbind", "rprivate"))]
    return container.run(container.config(mounts, kinds=KINDS), read_mountinfo)


def sysfs_as_planned(container: Any) -> Any:
    """Ours."""
    return container.run(container.config(USUAL, kinds=KINDS), read_mountinfo)


@pytest.mark.rule("K17", ours=sysfs_as_planned, wrong=sysfs_bound_as_in_crun)
def test_sysfs_is_read_only_in_its_substitute_too(owned: Any, subject: Any) -> None:
    """Without a network namespace of its own /sys is the host's, with all below it, and each mount as was asked for."""
    mount.force_mount("below", "/sys/kernel/debug", "tmpfs", "noatime")
    try:
        below = table_of(subject(owned)).below("/sys")
    finally:
        mount.unmount("/sys/kernel/debug")
    assert (below[0].fstype, below[-1].source) == ("sysfs", "below")
    for each in below:
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(each.mount_options), (each.mount_point, each.opts)
    assert "noatime" in below[-1].mount_options


def test_substitute_for_a_sysfs_keeps_what_is_locked(owned: Any) -> None:
    """Words that would take flags away from the host's /sys change nothing of it, and do not stop the start."""
    mounts = [*USUAL[:-1], Mount("/sys", "sysfs", "sysfs", ("rw", "suid", "noatime"))]
    host = next(iter(mount.MountTable.read().at("/sys")))
    (found,) = table_of(owned.run(owned.config(mounts, kinds=KINDS), read_mountinfo)).at("/sys")
    assert (found.fstype, set(found.mount_options)) == ("sysfs", set(host.mount_options))


def test_sysfs_is_new_with_a_network_namespace(owned: Any) -> None:
    """With a network namespace of its own it has a sysfs of its own."""
    table = table_of(owned.run(owned.config(USUAL, kinds=(*KINDS, "network")), read_mountinfo))
    assert [each.mount_point for each in table.below("/sys")] == ["/sys"]
    assert table.find("/sys").opts == "ro,nosuid,nodev,noexec,relatime"


@pytest.mark.parametrize("words", [("bind",), ("bind", "idmap")], ids=["plain", "other owners"])
def test_binds_are_more_than_descriptors(owned: Any, words: tuple[str, ...]) -> None:
    """Three hundred binds, whose mounts are copied before, need no more descriptors than the limit of 128 allows."""
    maps = (IdMapping(0, 100_000, 65536),)
    linux = {"uid_mappings": maps, "gid_mappings": maps}
    mounts = [Mount(f"/binds/{number}", None, str(owned.host), words) for number in range(300)]
    config = owned.config([USUAL[0], *mounts], kinds=KINDS, linux=linux)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        seen = owned.run(config, lambda: [len(os.listdir("/binds")), *resource.getrlimit(resource.RLIMIT_NOFILE)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    if isinstance(seen, tuple):
        assert (seen[0], "idmap" in words) == ("MapOwners", True)  # a filesystem, or a kernel, that maps no owners
        assert seen[2] != errno.EMFILE
        return
    assert seen == [300, 128, before[1]]


def test_locked_flags_stay(owned: Any) -> None:
    """A bind that asks for flags to go which are locked here keeps them; so it does with times of access."""
    locked = owned.host / "locked"
    locked.mkdir()
    mount.mount("locked", locked, "tmpfs", "nosuid,nodev,noexec,noatime")
    mounts = [
        *USUAL[:2],
        Mount("/a", None, str(locked), ("bind", "ro")),
        Mount("/b", None, str(locked), ("rbind", "exec", "suid", "dev", "relatime", "rw", "nodiratime")),
    ]
    try:
        table = table_of(owned.run(owned.config(mounts, kinds=KINDS), read_mountinfo))
        assert table.find("/a").opts == "ro,nosuid,nodev,noexec,noatime"
        assert table.find("/b").opts == "rw,nosuid,nodev,noexec,noatime"
    finally:
        mount.unmount(locked)
        locked.rmdir()


def test_gid_that_is_not_mapped_is_named(owned: Any) -> None:
    """An option that can't be meant in this user namespace is refused with its name."""
    pts = Mount("/dev/pts", "devpts", "devpts", ("gid=4000000",))
    refused = owned.run(owned.config([*USUAL[:2], pts], kinds=KINDS))
    assert refused.operation == "MountNew"
    assert "gid" in refused.text


def test_root_out_of_reach_says_what_helps(owned: Any) -> None:
    """A root that the container's root can't reach is refused, and the remedy is named."""
    owned.image.parent.chmod(0o700)
    try:
        refused = owned.run(owned.config(USUAL, kinds=KINDS))
    finally:
        owned.image.parent.chmod(0o755)
    assert (refused.operation, refused.kind) == ("OpenRoot", "PermissionError")
    assert "user namespace" in refused.text


def test_no_pivot_hides_what_is_locked(owned: Any) -> None:
    """Entered by moving, with the host's procfs locked below, nothing of it is to be mounted anew or seen."""
    config = owned.config(USUAL[:2], kinds=(*KINDS, "network"), no_pivot_root=True)
    seen = owned.run(config, lambda: [os.listdir("/proc/self") != [], sorted(os.listdir("/"))])
    assert isinstance(seen, list), seen
    assert seen[1] == ["bin", "dev", "etc", "proc", "run", "sys", "tmp"]
