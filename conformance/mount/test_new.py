"""mount(2): which operation is meant, and what a new mount is refused for."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.libc import STRING, ULONG, Call
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

_mount_by_address = Call("mount", source=STRING, target=ULONG, fstype=STRING, flags=ULONG, data=ULONG)
UNMAPPED = 16  # the first page of a process is never mapped


@behaviour("mount.new.requires-cap-sys-admin", subject="impl")
def test_capability_is_needed(public_tree: Path, as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """A process without CAP_SYS_ADMIN can't mount a tmpfs on a directory that it owns."""
    target = public_tree / "a"
    os.chown(target, 65534, 65534)
    answers = as_nobody(
        lambda: [refusal(mount.force_mount, "x", target, "tmpfs", ""), refusal(calls.mount, "x", target, "tmpfs")]
    )
    assert seen(answers) == ["EPERM", "EPERM"]


@behaviour("mount.new.unknown-type-enodev", subject="impl")
def test_unknown_type(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A type that the kernel neither has nor can load is refused."""
    assert refusal(mount.force_mount, "x", tree / "a", "nosuchfs", "") == "ENODEV"
    assert seen.errno_of(calls.mount, "x", tree / "a", "nosuchfs") == "ENODEV"


@behaviour("mount.new.target-not-directory-enotdir", subject="impl")
def test_directory_on_a_file(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A tmpfs can't be mounted on a regular file."""
    (tree / "file").touch()
    assert refusal(mount.force_mount, "x", tree / "file", "tmpfs", "") == "ENOTDIR"
    assert seen.errno_of(calls.mount, "x", tree / "file", "tmpfs") == "ENOTDIR"


@behaviour("mount.new.target-missing-enoent", subject="impl")
def test_missing_target(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A path that does not exist can't be mounted on."""
    assert refusal(mount.force_mount, "x", tree / "missing", "tmpfs", "") == "ENOENT"
    assert seen.errno_of(calls.mount, "x", tree / "missing", "tmpfs") == "ENOENT"


@behaviour("mount.new.target-empty-enoent", subject="impl")
def test_empty_target(refusal: Refusal, seen: Seen) -> None:
    """An empty target is refused."""
    assert refusal(mount.force_mount, "x", "", "tmpfs", "") == "ENOENT"
    assert seen.errno_of(calls.mount, "x", "", "tmpfs") == "ENOENT"


@behaviour("mount.new.source-not-block-enotblk", subject="impl")
def test_source_that_is_no_block_device(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A filesystem for block devices is mounted neither from a regular file nor from a character device."""
    (tree / "image").write_bytes(bytes(1 << 20))
    answers = [seen.errno_of(calls.mount, source, tree / "a", "ext4") for source in (tree / "image", "/dev/null")]
    assert refusal(mount.force_mount, tree / "image", tree / "a", "ext4", "") == "ENOTBLK"
    assert seen(answers) == ["ENOTBLK", "ENOTBLK"]


@behaviour("mount.new.target-too-long-enametoolong", subject="impl")
def test_target_too_long(refusal: Refusal, seen: Seen) -> None:
    """A target of 5000 bytes is refused."""
    assert refusal(mount.force_mount, "x", "/" + "x" * 4999, "tmpfs", "") == "ENAMETOOLONG"
    assert seen.errno_of(calls.mount, "x", "/" + "x" * 4999, "tmpfs") == "ENAMETOOLONG"


@behaviour("mount.new.bad-pointer-efault", subject="impl")
def test_pointer_to_nowhere(seen: Seen) -> None:
    """A target at an address that is not mapped is refused."""
    assert seen.errno_of(_mount_by_address, "x", UNMAPPED, "tmpfs", 0, 0) == "EFAULT"


@behaviour("mount.new.nodev-source-eacces", subject="impl")
def test_device_node_on_nodev(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A block device is not mounted by a node that lies on a filesystem with MS_NODEV."""
    disc = os.stat("/dev/disc/scratch").st_rdev
    mount.mount("nodev", tree / "a", "tmpfs", "nodev")
    os.mknod(tree / "a/disc", 0o600 | stat.S_IFBLK, disc)
    assert refusal(mount.force_mount, tree / "a/disc", tree / "b", "ext4", "") == "EACCES"
    assert seen.errno_of(calls.mount, tree / "a/disc", tree / "b", "ext4") == "EACCES"


@behaviour("mount.new.same-superblock-same-target-ebusy", subject="impl")
def test_same_filesystem_twice(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A filesystem that has one superblock is not mounted on itself."""
    mount.force_mount("sysfs", tree / "a", "sysfs", "")
    assert refusal(mount.force_mount, "sysfs", tree / "a", "sysfs", "") == "EBUSY"
    assert seen.errno_of(calls.mount, "sysfs", tree / "a", "sysfs") == "EBUSY"


@behaviour("mount.new.stacked-mount-hides-and-reveals", subject="impl")
def test_second_mount_hides_the_first(tree: Path, seen: Seen) -> None:
    """What is mounted on a mount point that is in use hides what was there, until it is unmounted."""
    names = []
    for name in ("first", "second"):
        mount.force_mount(name, tree / "a", "tmpfs", "")
        (tree / "a" / name).touch()
        names.append(os.listdir(tree / "a"))
    mount.unmount(tree / "a")
    names.append(os.listdir(tree / "a"))
    assert seen(names) == [["first"], ["second"], ["first"]]


@behaviour("mount.new.stacked-parent-is-previous", subject="impl")
def test_stacked_mount_is_on_the_one_before(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """The parent of a mount that is stacked on another one is that."""
    mount.force_mount("first", tree / "a", "tmpfs", "")
    lower = line_at(tree / "a")
    mount.force_mount("second", tree / "a", "tmpfs", "")
    upper = line_at(tree / "a")
    assert upper.source == "second"
    assert seen(upper.parent_id) == lower.id


@behaviour("mount.new.mgc-val-ignored", subject="impl")
def test_magic_of_old_callers_is_ignored(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """0xC0ED in the upper half of the flags changes nothing."""
    calls.mount("x", tree / "a", "tmpfs", 0xC0ED0000 | MountFlag.NOSUID)
    calls.mount("x", tree / "b", "tmpfs", MountFlag.NOSUID)
    assert seen(line_at(tree / "a").options) == line_at(tree / "b").options
    assert line_at(tree / "a").tags == line_at(tree / "b").tags == frozenset()


@behaviour("mount.new.filesystems-list", subject="impl")
def test_types_that_are_listed_are_known(seen: Seen) -> None:
    """fsopen takes each type of /proc/filesystems."""
    with open("/proc/filesystems", encoding="utf-8") as file:
        types = [line.split()[-1] for line in file]
    refused = []
    for name in types:
        try:
            os.close(calls.fsopen(name))
        except OSError as error:
            refused.append(f"{name}: {error.strerror}")
    assert len(types) > 10
    assert seen(refused) == []


@behaviour("mount.new.remount-bit-wins-over-bind", subject="impl")
def test_remount_wins_over_bind(tree: Path, line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """MS_REMOUNT|MS_BIND changes what is mounted, and binds nothing."""
    mount.force_mount("x", tree / "b", "tmpfs", "")
    before = line_at(tree / "b")
    calls.mount(tree / "a", tree / "b", None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.NOSUID)
    after = line_at(tree / "b")
    assert "nosuid" in after.options
    assert seen((after.id, after.root)) == (before.id, before.root)
    mount.unmount(tree / "b")
    assert mount_at(tree / "b") is None


@behaviour("mount.new.bind-empty-source", subject="impl")
def test_bind_of_an_empty_source(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """An empty source to bind is a path that does not exist."""
    assert refusal(mount.bind, "", tree / "a") != "no error"
    assert seen.errno_of(calls.mount, "", tree / "a", None, MountFlag.BIND) == "ENOENT"
