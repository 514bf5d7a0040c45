"""mount_setattr(2): attributes of mounts and of trees."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.libc import BYTES, INT, STRING, UINT, ULONG, Call
from kernelproof.impl._syscalls.mount import AT_FDCWD, MountAttribute, MountFlag, SetAttributeFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, LinesBelow, Refusal
    from kernelproof.conformance.seen import Seen

_mount_setattr = Call("mount_setattr", dir_fd=INT, path=STRING, flags=UINT, attributes=BYTES, size=ULONG)
RDONLY = MountAttribute.RDONLY


@behaviour("mount.setattr.clear-then-set", subject="impl")
def test_clear_then_set(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A flag that is both to be cleared and to be set is set."""
    mount.set_attributes(tree, set=MountAttribute.NOSUID, clear=MountAttribute.NOSUID)
    assert "nosuid" in seen(line_at(tree).options)
    mount.set_attributes(tree, clear=MountAttribute.NOSUID)
    assert "nosuid" not in line_at(tree).options


def tree_of_two(tree: Path) -> Path:
    """A mount with one below it."""
    mount.mount("top", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("sub", tree / "a/sub", "tmpfs", "")
    return tree / "a"


@behaviour("mount.setattr.recursive-readonly", subject="impl")
def test_recursive_read_only(tree: Path, lines_below: LinesBelow, refusal: Refusal, seen: Seen) -> None:
    """With AT_RECURSIVE the mount and all below it are read-only."""
    top = tree_of_two(tree)
    mount.set_attributes(top, set=RDONLY, recursive=True)
    assert all("ro" in line.options for line in lines_below(top).values())
    assert seen([refusal((top / name).touch) for name in ("file", "sub/file")]) == ["EROFS", "EROFS"]


@behaviour("mount.setattr.recursive-all-or-nothing", subject="impl")
def test_all_or_nothing(tree: Path, lines_below: LinesBelow, refusal: Refusal, seen: Seen) -> None:
    """A file open for writing on a mount below makes the whole change fail, and no mount is read-only."""
    top = tree_of_two(tree)
    with open(top / "sub/file", "w"):
        assert refusal(mount.set_attributes, top, set=RDONLY, recursive=True) == "EBUSY"
        flags = SetAttributeFlag.RECURSIVE
        assert seen.errno_of(calls.mount_setattr, AT_FDCWD, top, flags, attr_set=RDONLY) == "EBUSY"
    assert ["ro" in line.options for line in lines_below(top).values()] == [False, False]


@behaviour("mount.setattr.not-a-mount-einval", subject="impl")
def test_not_a_mount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A directory that is no mount point has no attributes."""
    assert refusal(mount.set_attributes, tree / "a", set=RDONLY) == "EINVAL"
    assert seen.errno_of(calls.mount_setattr, AT_FDCWD, tree / "a", attr_set=RDONLY) == "EINVAL"


@behaviour("mount.setattr.atime-needs-full-clear", subject="impl")
def test_time_of_access_needs_its_mask(tree: Path, line_at: LineAt, refusal: Refusal, seen: Seen) -> None:
    """NOATIME is set only with the whole mask cleared; the layer above does that."""
    noatime, mask = MountAttribute.NOATIME, calls.MOUNT_ATTRIBUTE_ATIME
    answers = [
        refusal(calls.mount_setattr, AT_FDCWD, tree, attr_set=noatime, attr_clr=clear) for clear in (0, noatime, mask)
    ]
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]
    assert "noatime" in line_at(tree).options
    mount.set_attributes(tree, clear=noatime)
    assert "relatime" in line_at(tree).options


@behaviour("mount.setattr.atime-partial-clear-einval", subject="impl")
def test_part_of_the_mask(tree: Path, seen: Seen) -> None:
    """A part of the mask can't be cleared."""
    assert seen.errno_of(calls.mount_setattr, AT_FDCWD, tree, attr_clr=MountAttribute.NOATIME) == "EINVAL"


@behaviour("mount.setattr.two-propagation-types-einval", subject="impl")
def test_two_types_of_propagation(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Two types of propagation at once are refused, one is not."""
    both = MountFlag.SHARED | MountFlag.PRIVATE
    assert refusal(mount.set_attributes, tree, propagation=both) == "EINVAL"
    assert refusal(mount.set_attributes, tree, propagation=MountFlag.SHARED) == "no error"
    assert seen.errno_of(calls.mount_setattr, AT_FDCWD, tree, propagation=both) == "EINVAL"


def longer(tail: bytes) -> bytes:
    """A structure that sets nosuid, longer than any kernel knows."""
    return struct.pack("=4Q", MountAttribute.NOSUID, 0, 0, 0) + tail


@behaviour("mount.setattr.larger-struct", subject="impl")
def test_longer_structure(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A structure that is longer than the kernel knows is taken if the rest is zero."""
    data = longer(bytes(512))
    assert seen.errno_of(_mount_setattr, AT_FDCWD, tree, 0, data, len(data)) == "no error"
    assert "nosuid" in line_at(tree).options


@behaviour("mount.setattr.larger-struct-nonzero-e2big", subject="impl")
def test_longer_structure_with_something_in_it(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A structure that is longer than the kernel knows is refused if the rest is not zero."""
    data = longer(bytes(511) + b"\1")
    assert seen.errno_of(_mount_setattr, AT_FDCWD, tree, 0, data, len(data)) == "E2BIG"
    assert "nosuid" not in line_at(tree).options


@behaviour("mount.setattr.nodev-nosuid-noexec", subject="impl")
def test_three_attributes(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """NODEV, NOSUID and NOEXEC are set and cleared one by one."""
    words = {"nodev", "nosuid", "noexec"}
    states = []
    for name in ("NODEV", "NOSUID", "NOEXEC"):
        mount.set_attributes(tree, set=MountAttribute[name])
        states.append(line_at(tree).options & words)
    mount.set_attributes(tree, clear=MountAttribute.NOSUID)
    states.append(line_at(tree).options & words)
    assert seen(states) == [{"nodev"}, {"nodev", "nosuid"}, words, {"nodev", "noexec"}]


@behaviour("mount.setattr.nosymfollow", subject="impl")
def test_nosymfollow(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """NOSYMFOLLOW is set and cleared."""
    mount.set_attributes(tree, set=MountAttribute.NOSYMFOLLOW)
    states = ["nosymfollow" in line_at(tree).options]
    mount.set_attributes(tree, clear=MountAttribute.NOSYMFOLLOW)
    states.append("nosymfollow" in line_at(tree).options)
    assert seen(states) == [True, False]


@behaviour("mount.setattr.locked-eperm", subject="impl")
def test_locked_attribute(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """In a less privileged namespace an inherited mount stays read-only."""
    mount.mount("x", tree / "a", "tmpfs", "")
    mount.remount(tree / "a", "bind,ro")
    answers = as_guest_root(
        lambda: [
            refusal(mount.set_attributes, tree / "a", clear=RDONLY),
            refusal(calls.mount_setattr, AT_FDCWD, tree / "a", attr_clr=RDONLY),
            refusal(calls.mount_setattr, AT_FDCWD, tree / "a", attr_set=MountAttribute.NODEV),
        ]
    )
    assert seen(answers) == ["EPERM", "EPERM", "no error"]
