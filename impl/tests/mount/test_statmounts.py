"""The kernel's own records of mounts, taken apart; and what answers when a mount is asked for."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.statmount import StatmountMask
from kernelproof.impl.mount import Mount, MountAttribute, MountTable, Propagation, lookup
from kernelproof.impl.mount.statmounts import ALL_FIELDS, parse_statmount

# struct statmount of include/uapi/linux/mount.h: the offset and the size of each member; its text begins at 512.
MEMBERS = {
    "mask": (8, 8), "sb_dev_major": (16, 4), "sb_dev_minor": (20, 4), "sb_flags": (32, 4), "mnt_id": (40, 8),
    "mnt_parent_id": (48, 8), "mnt_id_old": (56, 4), "mnt_parent_id_old": (60, 4), "mnt_attr": (64, 8),
    "mnt_propagation": (72, 8), "mnt_peer_group": (80, 8), "mnt_master": (88, 8), "propagate_from": (96, 8),
    "mnt_ns_id": (112, 8), "supported_mask": (144, 8),
}  # fmt: skip
TEXTS = {"mnt_opts": 4, "fs_type": 36, "mnt_root": 104, "mnt_point": 108, "fs_subtype": 120, "sb_source": 124}
NUMBERS = {
    "mask": ALL_FIELDS, "sb_dev_major": 98, "sb_dev_minor": 1, "mnt_id": 1 << 40, "mnt_parent_id": 1 << 41,
    "mnt_id_old": 36, "mnt_parent_id_old": 35, "mnt_attr": MountAttribute.NOATIME, "mnt_propagation": 1 << 19,
    "mnt_master": 7, "propagate_from": 3, "mnt_ns_id": 1 << 42,
}  # fmt: skip
WORDS = {"mnt_opts": r"user=a\040b,x", "fs_type": "fuse", "mnt_root": "/mnt1", "mnt_point": "/mnt2"}
WORDS |= {"fs_subtype": "sshfs", "sb_source": "host:"}


def record(numbers: Mapping[str, int] = NUMBERS, words: Mapping[str, str] = WORDS) -> bytearray:
    """What the kernel would write."""
    buffer = bytearray(512)
    for name, value in numbers.items():
        offset, size = MEMBERS[name]
        buffer[offset : offset + size] = value.to_bytes(size, sys.byteorder)
    for name, word in words.items():
        struct.pack_into("=I", buffer, TEXTS[name], len(buffer) - 512)
        buffer += word.encode() + b"\0"
    return buffer


def test_every_member() -> None:
    """Each member of the kernel's record comes out, and IDs are those of mountinfo."""
    found, known = parse_statmount(record())
    assert known == ALL_FIELDS
    assert found == Mount(
        id=36, parent_id=35, major=98, minor=1, root="/mnt1", mount_point="/mnt2", attributes=MountAttribute.NOATIME,
        propagation=Propagation.SLAVE, peer_group=None, master=7, propagate_from=3, fstype="fuse.sshfs",
        source="host:", super_options=("rw", "user=a b", "x"), unique_id=1 << 40, namespace_id=1 << 42,
    )  # fmt: skip


def test_members_that_are_not_filled() -> None:
    """What the kernel did not fill is empty, whatever stands there; what it could have filled counts as known."""
    numbers = NUMBERS | {"mask": StatmountMask.MNT_BASIC | StatmountMask.SUPPORTED_MASK}
    found, known = parse_statmount(record(numbers | {"supported_mask": StatmountMask.SB_SOURCE}))
    assert known == StatmountMask.MNT_BASIC | StatmountMask.SUPPORTED_MASK | StatmountMask.SB_SOURCE
    assert (found.root, found.mount_point, found.fstype, found.source, found.super_options) == ("", "", "", "", ("rw",))
    assert (found.propagate_from, found.namespace_id, found.id) == (None, None, 36)
    _, known = parse_statmount(record(NUMBERS | {"mask": 0, "supported_mask": StatmountMask.SB_SOURCE}))
    assert known == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (1, ("ro", "user=a b", "x")),
        (1 << 4 | 1 << 7, ("rw", "sync", "dirsync", "user=a b", "x")),
        (1 << 6 | 1 << 25, ("rw", "mand", "lazytime", "user=a b", "x")),
    ],
    ids=["ro", "sync", "lazytime"],
)
def test_flags_of_the_filesystem_are_words(flags: int, words: tuple[str, ...]) -> None:
    """Flags of the superblock come before the filesystem's own options, in the words and the order of mountinfo."""
    assert parse_statmount(record(NUMBERS | {"sb_flags": flags}))[0].super_options == words


def test_groups_that_are_none() -> None:
    """Number 0 is no group, and the dominating group is told only where it is another than the master."""
    found, _ = parse_statmount(record(NUMBERS | {"propagate_from": 7, "mnt_peer_group": 5}))
    assert (found.master, found.propagate_from, found.peer_group) == (7, None, 5)
    found, _ = parse_statmount(record(NUMBERS | {"propagate_from": 0, "mnt_master": 0}))
    assert (found.master, found.propagate_from, found.peer_group) == (None, None, None)


FULL, OF_TABLE = parse_statmount(record())[0], parse_statmount(record(words=WORDS | {"sb_source": "table"}))[0]


class Kernel:
    """Answers in place of statx, statmount and mountinfo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bytearray | OSError) -> None:
        self._answer = answer
        monkeypatch.setattr(lookup, "mount_id", lambda path, unique=True, dir_fd=None: 1 << 40 if unique else 36)
        monkeypatch.setattr(lookup, "mount_by_id", {36: OF_TABLE}.__getitem__)
        monkeypatch.setattr("kernelproof.impl.mount.statmounts.statmount", self.statmount)

    def statmount(self, mount_id: int, mask: int, buffer: bytearray, *, namespace_id: int) -> None:
        """Fill the buffer."""
        assert mount_id == 1 << 40
        if isinstance(self._answer, OSError):
            raise self._answer
        if len(buffer) < len(self._answer):
            raise OSError(75, "Value too large for defined data type")
        buffer[: len(self._answer)] = self._answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (record(), FULL),
        (record(words={**WORDS, "mnt_opts": "x" * 9000}), FULL._replace(super_options=("rw", "x" * 9000))),
        (record({**NUMBERS, "mask": ALL_FIELDS & ~StatmountMask.SB_SOURCE}), OF_TABLE),
        (record({**NUMBERS, "mask": ALL_FIELDS & ~StatmountMask.MNT_POINT}), OF_TABLE),
        (FileNotFoundError(2, "No such file or directory"), OF_TABLE),
        (OSError(38, "Function not implemented"), OF_TABLE),
        (PermissionError(1, "Operation not permitted"), OF_TABLE),
    ],
    ids=["all", "long", "no source", "no place", "out of reach", "old kernel", "filtered"],
)
def test_who_tells_about_a_mount(monkeypatch: pytest.MonkeyPatch, answer: bytearray | OSError, expected: Mount) -> None:
    """The kernel's record is the answer where it tells all; else the line of the table is."""
    Kernel(monkeypatch, answer)
    assert mount.mount_of("/mnt2") == expected


def test_attributes_by_either_road(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes are the kernel's, of a mount without a place too, or the table's where the kernel has no such call."""
    Kernel(monkeypatch, record({"mask": StatmountMask.MNT_BASIC, "mnt_attr": MountAttribute.NODEV}, {}))
    assert mount.attributes_of("/mnt2") == MountAttribute.NODEV
    Kernel(monkeypatch, OSError(38, "Function not implemented"))
    assert mount.attributes_of("/mnt2") == MountAttribute.NOATIME


def test_other_errors_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that says nothing about which calls there are is not hidden by the other road."""
    Kernel(monkeypatch, OSError(12, "Cannot allocate memory"))
    with pytest.raises(OSError, match="allocate"):
        mount.mount_of("/mnt2")


def test_field_that_makes_a_table_slow_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole table by statmount is asked for all fields but the one that the kernel walks a peer group for."""
    asked = []

    def read(fields: StatmountMask) -> tuple[Mount, ...]:
        asked.append(fields)
        return (FULL,)

    monkeypatch.setattr("kernelproof.impl.mount.statmounts.read_by_statmount", read)
    assert list(MountTable.read(prefer="statmount")) == [FULL]
    assert asked == [ALL_FIELDS & ~StatmountMask.PROPAGATE_FROM]
