"""Changing a mount, and changing a filesystem, with MS_REMOUNT and with fspick(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen


@behaviour("mount.remount.not-a-mount-einval", subject="impl")
def test_remount_of_what_is_no_mount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A directory that is no mount point can't be remounted."""
    assert refusal(mount.remount, tree / "a", "ro") == "EINVAL"
    assert seen.errno_of(calls.mount, None, tree / "a", None, MountFlag.REMOUNT | MountFlag.RDONLY) == "EINVAL"


@behaviour("mount.remount.ro-with-writer-ebusy", subject="impl")
def test_filesystem_with_a_writer(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A filesystem with a file open for writing can't be made read-only; when it is closed, it can."""
    with open(tree / "file", "w"):
        assert refusal(mount.remount, tree, "ro") == "EBUSY"
        assert seen.errno_of(calls.mount, None, tree, None, MountFlag.REMOUNT | MountFlag.RDONLY) == "EBUSY"
    assert refusal(mount.remount, tree, "ro") == "no error"


@behaviour("mount.remount.bind-ro-with-writer-ebusy", subject="impl")
def test_mount_with_a_writer(tree: Path, seen: Seen) -> None:
    """A file open for writing keeps the mount that it was opened through from being made read-only, and no other."""
    mount.bind(tree, tree / "b")
    flags = MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY
    with open(tree / "b/file", "w"):
        through_it = seen.errno_of(calls.mount, None, tree / "b", None, flags)
    with open(tree / "file", "w"):
        through_another = seen.errno_of(calls.mount, None, tree / "b", None, flags)
    assert seen([through_it, through_another]) == ["EBUSY", "no error"]


@behaviour("mount.remount.writable-needs-both", subject="impl")
def test_writable_needs_both(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Clearing the mount's flag on a read-only filesystem leaves it read-only."""
    mount.remount(tree, "ro")
    mount.remount(tree, "bind,rw")
    assert "rw" in line_at(tree).options
    assert "ro" in line_at(tree).super_options
    assert seen.errno_of((tree / "file").touch) == "EROFS"


@behaviour("mount.remount.keeps-atime-mode", subject="impl")
def test_access_times_are_kept(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount that names no flag about access times keeps those of the mount."""
    mount.mount("x", tree / "a", "tmpfs", "noatime,nodiratime")
    calls.mount(None, tree / "a", None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.NOSUID)
    assert "nosuid" in line_at(tree / "a").options
    assert {"noatime", "nodiratime"} <= seen(line_at(tree / "a").options)


@behaviour("mount.remount.bind-clears-unnamed-flags", subject="impl")
def test_flags_not_named_are_cleared(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_REMOUNT|MS_BIND without MS_NOSUID takes nosuid off a mount."""
    mount.mount("x", tree / "a", "tmpfs", "nosuid")
    mount.remount(tree / "a", "bind,ro")
    assert "ro" in line_at(tree / "a").options
    assert "nosuid" not in seen(line_at(tree / "a").options)


@behaviour("mount.remount.source-and-type-ignored", subject="impl")
def test_source_and_type_are_ignored(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount with a source and a type that do not exist succeeds and changes neither."""
    before = line_at(tree)
    calls.mount("/nowhere", tree, "nosuchfs", MountFlag.REMOUNT | MountFlag.RDONLY)
    after = line_at(tree)
    assert "ro" in after.super_options
    assert seen((after.source, after.fstype)) == (before.source, before.fstype)


@behaviour("mount.remount.fspick-changes-only-named", subject="impl")
def test_fspick_changes_what_is_named(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """ "ro" through fspick keeps "sync" of the filesystem, and a remount with MS_RDONLY clears it."""
    for name in ("a", "b"):
        mount.mount("x", tree / name, "tmpfs", "sync")
    with mount.FsContext.pick(tree / "a") as context:
        context.set_flag("ro").reconfigure()
    calls.mount(None, tree / "b", None, MountFlag.REMOUNT | MountFlag.RDONLY)
    options = [line_at(tree / name).super_options & {"ro", "sync"} for name in ("a", "b")]
    assert seen(options) == [{"ro", "sync"}, {"ro"}]
