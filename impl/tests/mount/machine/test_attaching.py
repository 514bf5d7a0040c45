"""Mounts that are attached by descriptors, inside roots; roots that are entered by descriptors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import has_mount_setattr
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.mount.detached import can_set_attributes
from kernelproof.impl.mount.resolve import Root
from kernelproof.impl.mount.roads import attach_in_root

pytestmark = pytest.mark.machine


def test_attached_inside_or_not_at_all(place: Path) -> None:
    """A mount is attached to an open directory in the root; to one that has left the root it is not."""
    (place / "a/in").mkdir()
    with Root(place / "a") as root:
        inside = root.open("in")
        with mount.mount_tmpfs(source="one") as made:
            attach_in_root(root, inside, made)
        assert mount.MountTable.read().find(place / "a/in").source == "one"
        mount.unmount(place / "a/in")
        (place / "a/in").rename(place / "b/out")
        with mount.mount_tmpfs(source="two") as made, pytest.raises(mount.UnsafePathError, match="led out"):
            attach_in_root(root, inside, made)
        os.close(inside)
    assert [each.source for each in mount.MountTable.read().below(place)] == ["place"]


def test_outside_it_is_not_attached_for_a_moment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory outside the root is refused before anything is mounted there."""
    attached: list[int] = []
    monkeypatch.setattr(mount.DetachedMount, "attach", lambda made, where: attached.append(where))
    outside = os.open(place / "b", os.O_PATH)
    with Root(place / "a") as root, mount.mount_tmpfs(source="one") as made, pytest.raises(mount.UnsafePathError):
        attach_in_root(root, outside, made)
    os.close(outside)
    assert attached == []


def test_mounting_in_a_root_leaves_no_descriptor(place: Path) -> None:
    """Of the place that was mounted on nothing stays open, nor of one where it is refused."""
    with Root(place / "a") as root:
        before = os.listdir("/proc/self/fd")
        mount.mount_in_root(root, "in", "one", "tmpfs")
        with pytest.raises(OSError, match="No such device"):
            mount.mount_in_root(root, "other", "one", "nosuchfs")
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_options_of_a_tmpfs_may_be_parsed_already(place: Path) -> None:
    """Options that were parsed are taken as they are: a word for programs that was made data reaches the filesystem."""
    parsed = mount.parse_options("nosuid,size=1m")
    with mount.mount_tmpfs(parsed) as made:
        made.attach(place / "a")
    assert mount.MountTable.read().find(place / "a").mount_options[:2] == ("rw", "nosuid")
    with pytest.raises(mount.FsContextError, match=r".") as refused:
        mount.mount_tmpfs(parsed._replace(data="nofail"))
    assert refused.value.option == "nofail"


def test_refused_attributes_of_a_detached_mount_are_told(place: Path) -> None:
    """EPERM for a locked flag is EPERM, also where the kernel does not tell a detached mount's attributes."""
    if not can_set_attributes():
        pytest.skip("this kernel has no mount_setattr (Linux 5.12 has)")
    mount.mount("locked", place / "a", "tmpfs", "nosuid")

    def clear_it() -> None:
        with mount.DetachedMount.copy(place / "a") as made:
            made.set_attributes(clear=mount.MountAttribute.NOSUID)

    assert errno_in_user_namespace(clear_it) == errno.EPERM


def errno_in_user_namespace(work: object) -> int:
    """What a piece of work is refused with in a new user and mount namespace; 0 if it is not."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            unshare(CloneFlag.NEWUSER | CloneFlag.NEWNS)
            for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
                Path("/proc/self", name).write_text(text, encoding="ascii")
            try:
                work()  # type: ignore[operator]
                status = 0
            except OSError as error:
                status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("manner", ["dot", "move"])
def test_root_is_entered_by_its_descriptor(place: Path, manner: str) -> None:
    """The new root is what the descriptor is, whatever its name is by now; in a user namespace too."""

    def enter() -> None:
        mount.make_rprivate("/")
        mount.force_mount("new", place / "a", "tmpfs", "")
        (place / "a/proc").mkdir()
        fd = os.open(place / "a", os.O_PATH)
        mount.change_root(fd, manner)
        if os.listdir("/") != ["proc"]:
            raise OSError(errno.ENOTEMPTY, "another root")

    assert errno_in_user_namespace(enter) == 0


def test_kept_old_root_needs_a_path(place: Path) -> None:
    """The manner that makes a directory takes the new root by its path."""
    fd = os.open(place, os.O_PATH)
    with pytest.raises(mount.OptionError, match="by its path"):
        mount.change_root(fd, "put_old")
    os.close(fd)


def test_whether_attributes_can_be_set_is_the_kernel_s_answer(place: Path) -> None:
    """The probe says what the call does."""
    if has_mount_setattr():
        mount.set_attributes(place, set=mount.MountAttribute.NOSUID)
        assert "nosuid" in mount.MountTable.read().find(place).mount_options
    else:
        with pytest.raises(OSError, match="not implemented"):
            mount.set_attributes(place, set=mount.MountAttribute.NOSUID)
