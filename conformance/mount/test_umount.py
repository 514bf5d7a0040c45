"""umount2(2): what is unmounted, and what is not yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import UnmountFlag, umount2

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LinesBelow, MountAt, Refusal
    from kernelproof.conformance.seen import Seen


@behaviour("mount.umount.not-a-mount-einval", subject="impl")
def test_what_is_no_mount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Neither a directory that is no mount point nor a file inside a mount can be unmounted."""
    (tree / "file").touch()
    paths = (tree / "a", tree / "file")
    assert [refusal(mount.force_unmount, path) for path in paths] == ["EINVAL", "EINVAL"]
    assert seen([refusal(umount2, path) for path in paths]) == ["EINVAL", "EINVAL"]


@behaviour("mount.umount.unknown-flag-einval", subject="impl")
def test_unknown_flag(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """A flag that is not defined is refused, and the mount stays."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert seen.errno_of(umount2, tree / "a", 0x10) == "EINVAL"
    assert mount_at(tree / "a") is not None
    mount.unmount(tree / "a")


@behaviour("mount.umount.busy-file-ebusy", subject="impl")
def test_open_file(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """An open file keeps its mount, also one that was opened with O_PATH; closed it does not."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/file").touch()
    answers = []
    for flags in (os.O_RDONLY, os.O_PATH):
        fd = os.open(tree / "a/file", flags)
        assert refusal(mount.unmount, tree / "a") == "EBUSY"
        answers.append(refusal(umount2, tree / "a"))
        os.close(fd)
    assert seen([*answers, refusal(umount2, tree / "a")]) == ["EBUSY", "EBUSY", "no error"]


@behaviour("mount.umount.busy-cwd-ebusy", subject="impl")
def test_working_directory(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A working directory keeps its mount."""
    mount.mount("x", tree / "a", "tmpfs", "")
    before = os.getcwd()
    os.chdir(tree / "a")
    try:
        assert refusal(mount.unmount, tree / "a") == "EBUSY"
        assert seen.errno_of(umount2, tree / "a") == "EBUSY"
    finally:
        os.chdir(before)
    assert refusal(umount2, tree / "a") == "no error"


@behaviour("mount.umount.busy-submount-ebusy", subject="impl")
def test_mount_below(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A mount below keeps the one it is on."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("y", tree / "a/sub", "tmpfs", "")
    assert refusal(mount.unmount, tree / "a") == "EBUSY"
    assert seen.errno_of(umount2, tree / "a") == "EBUSY"
    mount.unmount(tree / "a/sub")
    assert refusal(umount2, tree / "a") == "no error"


@behaviour("mount.umount.detach-disconnects-at-once", subject="impl")
def test_detach(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """MNT_DETACH removes a busy mount and all below it from sight at once."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("y", tree / "a/sub", "tmpfs", "")
    with open(tree / "a/sub/file", "w"):
        assert sorted(lines_below(tree / "a")) == [".", "sub"]
        mount.unmount(tree / "a", lazy=True)
        assert seen(sorted(lines_below(tree / "a"))) == []
    assert os.listdir(tree / "a") == []


@behaviour("mount.umount.detach-open-file-works", subject="impl")
def test_file_after_detach(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """A file that was open before MNT_DETACH is read and written after it."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert mount_at(tree / "a") is not None
    with open(tree / "a/file", "w+") as file:
        mount.unmount(tree / "a", lazy=True)
        assert mount_at(tree / "a") is None
        file.write("after")
        file.seek(0)
        assert seen(file.read()) == "after"


@behaviour("mount.umount.expire-first-eagain", subject="impl")
def test_expire(tree: Path, mount_at: MountAt, refusal: Refusal, seen: Seen) -> None:
    """The first call with MNT_EXPIRE marks an idle mount, the second unmounts it."""
    mount.mount("x", tree / "a", "tmpfs", "")
    answers = [refusal(umount2, tree / "a", UnmountFlag.EXPIRE)]
    assert mount_at(tree / "a") is not None
    answers.append(refusal(mount.force_unmount, tree / "a", expire=True))
    assert seen(answers) == ["EAGAIN", "no error"]
    assert mount_at(tree / "a") is None


@behaviour("mount.umount.expire-reset-by-access", subject="impl")
def test_access_takes_the_mark_off(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A path that leads over a marked mount takes the mark off."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/file").touch()
    answers = [refusal(umount2, tree / "a", UnmountFlag.EXPIRE)]
    (tree / "a/file").read_text()
    answers.append(refusal(umount2, tree / "a", UnmountFlag.EXPIRE))
    assert seen(answers) == ["EAGAIN", "EAGAIN"]


@behaviour("mount.umount.expire-busy-ebusy", subject="impl")
def test_expire_of_a_busy_mount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A mount with an open file is not marked but busy."""
    mount.mount("x", tree / "a", "tmpfs", "")
    with open(tree / "a/file", "w"):
        assert refusal(mount.unmount, tree / "a", expire=True) == "EBUSY"
        assert seen.errno_of(umount2, tree / "a", UnmountFlag.EXPIRE) == "EBUSY"


@behaviour("mount.umount.expire-with-detach-einval", subject="impl")
def test_expire_with_other_flags(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """MNT_EXPIRE goes with neither MNT_DETACH nor MNT_FORCE."""
    mount.mount("x", tree / "a", "tmpfs", "")
    flags = (UnmountFlag.EXPIRE | UnmountFlag.DETACH, UnmountFlag.EXPIRE | UnmountFlag.FORCE)
    assert seen([refusal(umount2, tree / "a", each) for each in flags]) == ["EINVAL", "EINVAL"]


@behaviour("mount.umount.nofollow-symlink", subject="impl")
def test_link_is_not_followed(tree: Path, mount_at: MountAt, refusal: Refusal, seen: Seen) -> None:
    """UMOUNT_NOFOLLOW refuses a symbolic link to a mount point; without it what the link leads to is unmounted."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "link").symlink_to("a")
    answers = [refusal(umount2, tree / "link", UnmountFlag.NOFOLLOW)]
    assert refusal(mount.force_unmount, tree / "link") == "EINVAL"
    assert mount_at(tree / "a") is not None
    answers.append(refusal(umount2, tree / "link"))
    assert seen(answers) == ["EINVAL", "no error"]
    assert mount_at(tree / "a") is None


@behaviour("mount.umount.unprivileged-eperm", subject="impl")
def test_capability_is_needed(public_tree: Path, as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """A process without CAP_SYS_ADMIN can't unmount."""
    target = public_tree / "a"
    mount.mount("x", target, "tmpfs", "")
    answers = as_nobody(lambda: [refusal(umount2, target), refusal(mount.unmount, target)])
    assert seen(answers) == ["EPERM", "EPERM"]
