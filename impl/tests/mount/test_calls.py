"""Which calls of mount(2) and umount2(2) are made, in which order, and what is undone; records stand for the kernel."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag, UnmountFlag
from kernelproof.impl.mount import OptionError, StillMountedError, classic, lookup, unmounting
from kernelproof.impl.mount.holders import Holder

BIND_REMOUNT = MountFlag.REMOUNT | MountFlag.BIND
NOATIME = MountAttribute.NOATIME


class Kernel:
    """Records the calls; refuses one of them if told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.refused: dict[int, int] = {}  # number of a call, from 0 -> errno
        self.present = MountAttribute(0)
        self.mounted = False
        monkeypatch.setattr(calls, "mount", self._mount)
        monkeypatch.setattr(calls, "umount2", self._umount)
        monkeypatch.setattr(unmounting, "umount2", self._umount)
        monkeypatch.setattr(classic, "is_mount_point", lambda path: self.mounted)
        monkeypatch.setattr(lookup, "attributes_of", lambda path: self.present)

    def _mount(self, source: object, target: object, fstype: object, flags: int, data: object) -> None:
        self._call(source, target, fstype, MountFlag(flags), data)

    def _umount(self, target: object, flags: int) -> None:
        self._call("umount", target, UnmountFlag(flags))

    def _call(self, *call: object) -> None:
        self.calls.append(call)
        number = self.refused.get(len(self.calls) - 1)
        if number is not None:
            raise OSError(number, os.strerror(number))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that takes all."""
    return Kernel(monkeypatch)


@pytest.mark.parametrize(
    ("present", "options", "remount"),
    [
        (0, "bind", None),
        (0, "bind,ro", MountFlag.RDONLY | MountFlag.RELATIME),
        (MountAttribute.NOSUID, "bind,nosuid", None),
        (MountAttribute.NOSUID, "bind,suid", MountFlag.RELATIME),
        (MountAttribute.NOSUID | NOATIME, "bind,ro", MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NOATIME),
        (NOATIME, "bind,strictatime", MountFlag.STRICTATIME),
        (NOATIME, "bind,atime", MountFlag.RELATIME),
        (0, "bind,relatime", None),
    ],
    ids=["plain", "ro", "has it", "clears", "keeps", "other time", "no time", "default time"],
)  # fmt: skip
def test_flags_of_a_bind(kernel: Kernel, present: int, options: str, remount: MountFlag | None) -> None:
    """A bind mount has its source's flags; what is asked for beside them is set by a remount that keeps the others."""
    kernel.present = MountAttribute(present)
    assert mount.mount("/a", "/b", "ext4", options)
    expected: list[tuple[object, ...]] = [("/a", "/b", None, MountFlag.BIND, None)]
    if remount is not None:
        expected.append((None, "/b", None, BIND_REMOUNT | remount, None))
    assert kernel.calls == expected


def test_recursive_bind_becomes_private(kernel: Kernel) -> None:
    """The type of propagation is a call of its own, after all others."""
    mount.bind("/a", "/b", recursive=True, read_only=True, options="nodev,rprivate")
    wanted = MountFlag.RDONLY | MountFlag.NODEV | MountFlag.RELATIME
    assert kernel.calls == [
        ("/a", "/b", None, MountFlag.BIND | MountFlag.REC, None),
        (None, "/b", None, BIND_REMOUNT | wanted, None),
        (None, "/b", None, MountFlag.PRIVATE | MountFlag.REC, None),
    ]


@pytest.mark.parametrize("refused", [1, 2], ids=["remount", "propagation"])
def test_half_a_mount_is_taken_off(kernel: Kernel, refused: int) -> None:
    """If a later call is refused, what the first one mounted is gone, and the error is the caller's."""
    kernel.refused = {refused: errno.EPERM}
    with pytest.raises(PermissionError) as error:
        mount.mount("/a", "/b", "none", "bind,ro,private")
    assert kernel.calls[-1] == ("umount", "/b", UnmountFlag.DETACH)
    assert len(kernel.calls) == refused + 2
    assert any("is locked" in note for note in getattr(error.value, "__notes__", ())) == (refused == 1)


def test_what_is_mounted_already(kernel: Kernel) -> None:
    """A mount point is left alone, but for options that change what is mounted."""
    kernel.mounted = True
    assert not mount.mount("tmpfs", "/b", "tmpfs", "size=1m")
    assert kernel.calls == []
    for options in ("remount,ro,size=1m", "shared", "move"):
        assert mount.mount("/a", "/b", None, options)
    assert kernel.calls == [
        ("/a", "/b", None, MountFlag.REMOUNT | MountFlag.RDONLY, "size=1m"),
        (None, "/b", None, MountFlag.SHARED, None),
        ("/a", "/b", None, MountFlag.MOVE, None),
    ]
    mount.force_mount("tmpfs", "/b", "tmpfs", "size=1m,nodev")
    assert kernel.calls[3:] == [("tmpfs", "/b", "tmpfs", MountFlag.NODEV, "size=1m")]


@pytest.mark.parametrize("is_mounted", [True, False], ids=["mount point", "directory"])
def test_types_of_propagation(kernel: Kernel, is_mounted: bool) -> None:
    """A directory that is no mount point is bound to itself first, as only a mount can have a type."""
    kernel.mounted = is_mounted
    mount.make_rslave("/b")
    own: list[tuple[object, ...]] = [("/b", "/b", None, MountFlag.BIND, None)]
    assert kernel.calls == [*([] if is_mounted else own), (None, "/b", None, MountFlag.SLAVE | MountFlag.REC, None)]


def test_what_mount_2_can_not_do(kernel: Kernel) -> None:
    """Data beyond a page would be cut, attributes of a tree ignored: both are refused before any call."""
    page = os.sysconf("SC_PAGE_SIZE")
    mount.force_mount("x", "/b", "x", "o=" + "x" * (page - 3))
    for options in ("o=" + "x" * (page - 2), "remount,o=" + "x" * (page - 2), "bind,rro"):
        with pytest.raises(OptionError):
            mount.force_mount("x", "/b", "x", options)
    with pytest.raises(OptionError):
        mount.remount("/b", "o=" + "x" * (page - 2))
    assert len(kernel.calls) == 1


@pytest.mark.parametrize(
    ("number", "options", "said"),
    [
        (errno.ENODEV, "", "the kernel has no filesystem 'xfs'"),
        (errno.ENOENT, "bind", "the source does not exist"),
        (errno.ENOENT, "", "the target does not exist"),
        (errno.EINVAL, "remount", "no mount point: "),
        (errno.EINVAL, "", None),
    ],
    ids=["type", "source", "target", "no mount", "unknown"],
)
def test_what_is_behind_an_error(kernel: Kernel, tmp_path: Path, number: int, options: str, said: str | None) -> None:
    """What the number alone does not say stands in notes, as far as it can be seen."""
    target = tmp_path if said is None or "source" in said else tmp_path / "target"
    kernel.refused = {0: number}
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        mount.force_mount(tmp_path / "source", target, "xfs", options)
    notes = getattr(error.value, "__notes__", [])
    assert [note.startswith(said or "") for note in notes] == [True] * (said is not None)


# Unmounting.


@pytest.mark.parametrize(
    ("number", "is_mounted", "answer"),
    [(None, True, True), (errno.EINVAL, False, False), (errno.ENOENT, False, False), (errno.EINVAL, True, None),
     (errno.EBUSY, True, None)],
    ids=["mounted", "no mount point", "no path", "locked", "busy"],
)  # fmt: skip
def test_unmounting_once(kernel: Kernel, number: int | None, is_mounted: bool, answer: bool | None) -> None:
    """What is not mounted is left alone; a mount that can't be taken off is an error."""
    kernel.mounted = is_mounted
    kernel.refused = {} if number is None else {0: number}
    if answer is None:
        assert number is not None
        with pytest.raises(OSError, match=os.strerror(number)):
            mount.unmount("/b")
    else:
        assert mount.unmount("/b") == answer
    assert kernel.calls == [("umount", "/b", UnmountFlag.NOFOLLOW)]


def test_ways_of_unmounting(kernel: Kernel) -> None:
    """Each wish is a flag; a mark goes with no other."""
    mount.unmount("/b", lazy=True, force=True, follow=True)
    mount.unmount("/b", expire=True, timeout_seconds=30)
    assert kernel.calls == [
        ("umount", "/b", UnmountFlag.DETACH | UnmountFlag.FORCE),
        ("umount", "/b", UnmountFlag.EXPIRE | UnmountFlag.NOFOLLOW),
    ]
    for wrong in ({"lazy": True}, {"force": True}):
        with pytest.raises(OptionError):
            mount.unmount("/b", expire=True, **wrong)


@pytest.mark.parametrize("follow", [True, False], ids=["followed", "itself"])
def test_link_to_a_mount_point(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follow: bool) -> None:
    """Whether there is a mount is asked of the link's target only where links are followed."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(unmounting, "mounted", lambda path: os.fspath(path) == os.fspath(tmp_path))
    kernel.refused = {0: errno.EINVAL}
    if follow:
        with pytest.raises(OSError, match="Invalid argument"):
            mount.unmount(tmp_path / "link", follow=True)
    else:
        assert not mount.unmount(tmp_path / "link")


def test_call_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer holds a thread, and not the caller beyond its time."""
    answers = threading.Event()
    monkeypatch.setattr(unmounting, "umount2", lambda target, flags: answers.wait(60))
    try:
        with pytest.raises(StillMountedError) as error:
            mount.unmount("/b", timeout_seconds=0.3)
    finally:
        answers.set()
    assert (error.value.errno, error.value.strerror) == (errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    assert (error.value.filename, error.value.target, error.value.holders) == ("/b", "/b", ())
    assert re.fullmatch(r"unmount of '/b': the call has not returned for 0\.[3-9] s", error.value.__notes__[0])


def test_search_for_holders_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds the call may hold the search for holders too: it is given up."""
    answers = threading.Event()
    monkeypatch.setattr(unmounting, "umount2", lambda target, flags: answers.wait(60))
    monkeypatch.setattr(unmounting, "find_holders_by_name", lambda path: answers.wait(60))
    monkeypatch.setattr(unmounting, "_HOLDERS_SECONDS", 0.01)
    try:
        with pytest.raises(StillMountedError, match=r"(?i)timed out") as error:
            mount.unmount("/b", timeout_seconds=0)
    finally:
        answers.set()
    assert error.value.holders == ()


def test_busy_until_the_deadline(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that stays busy is tried again until the deadline, and then who holds it is told."""
    holder = Holder("root directory", "/b", os.getppid(), "init")
    monkeypatch.setattr(unmounting, "find_holders", lambda target: (holder,))
    kernel.refused = {0: errno.EBUSY, 1: errno.EBUSY, 2: errno.EBUSY}
    with pytest.raises(StillMountedError) as error:
        mount.unmount("/b", timeout_seconds=0)
    assert (error.value.errno, error.value.holders) == (errno.EBUSY, (holder,))
    assert error.value.__notes__[1:] == [f"held by {holder}"]
    assert len(kernel.calls) == 1
    assert mount.unmount("/b", timeout_seconds=60)
    assert len(kernel.calls) == 4
