"""Fields that statmount(2) learnt, and its roads by descriptor; mountinfo and nsfs tell the same."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import UnmountFlag, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.nsfs_newer import mount_namespace_id
from kernelproof.impl._syscalls.statmount import (
    LSMT_ROOT,
    StatmountMask,
    listmount,
    statmount,
    statmount_in,
    statmount_of_fd,
)
from kernelproof.impl.mount import DetachedMount, IdRange, open_user_namespace
from kernelproof.impl.mount.statmounts import StatmountReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernelproof.conformance.conftest import Companion, Talk
    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen

FIXED_BYTES = 512  # of struct statmount before its strings
UNKNOWN_FIELD = 1 << 40


class Answer(NamedTuple):
    """struct statmount, taken apart here."""

    data: bytes

    def number(self, offset: int, form: str = "I") -> int:
        """A number at an offset."""
        return int(struct.unpack_from(f"={form}", self.data, offset)[0])

    def texts(self, offset: int, count: int = 1) -> list[str]:
        """Texts, one after the other, the first of which a field at an offset points to."""
        return self.data[FIXED_BYTES + self.number(offset) :].decode().split("\0")[:count]

    @property
    def mask(self) -> int:
        """Which fields were filled."""
        return self.number(8, "Q")


def ask(unique_id: int, mask: int, **where: int) -> Answer:
    """What the kernel tells of a mount."""
    buffer = bytearray(4096)
    statmount(unique_id, mask, buffer, **where)
    return Answer(bytes(buffer))


@pytest.fixture
def sized(tree: Path) -> Path:
    """A tmpfs with a source and options of its own."""
    mount.mount("a source", tree / "a", "tmpfs", "size=64k,mode=700")
    return tree / "a"


@behaviour("mount.statmount.options")
def test_options(sized: Path, line_at: LineAt, seen: Seen) -> None:
    """STATMOUNT_MNT_OPTS gives the file system's options as mountinfo has them."""
    answer = ask(mount.mount_id(sized), StatmountMask.MNT_OPTS)
    assert set(seen(answer.texts(4))[0].split(",")) == line_at(sized).super_options - {"rw"}


@behaviour("mount.statmount.source")
def test_source(sized: Path, line_at: LineAt, seen: Seen) -> None:
    """STATMOUNT_SB_SOURCE gives the source that was given, without mountinfo's escapes."""
    answer = ask(mount.mount_id(sized), StatmountMask.SB_SOURCE)
    assert line_at(sized).source == r"a\040source"
    assert StatmountReader().read(mount.mount_id(sized))[0].source == "a source"
    assert seen(answer.texts(124)) == ["a source"]


@behaviour("mount.statmount.option-array")
def test_array_of_options(sized: Path, line_at: LineAt, seen: Seen) -> None:
    """STATMOUNT_OPT_ARRAY gives as many options as opt_num says, each ended by a NUL byte."""
    answer = ask(mount.mount_id(sized), StatmountMask.OPT_ARRAY)
    options = answer.texts(132, answer.number(128))
    assert seen(set(options)) == line_at(sized).super_options - {"rw"}


@behaviour("mount.statmount.id-maps")
def test_maps_of_ids(sized: Path, tree: Path, seen: Seen) -> None:
    """STATMOUNT_MNT_UIDMAP and _GIDMAP give the ranges of an ID-mapped mount, and none of another one."""
    userns = open_user_namespace([IdRange(0, 100000, 1000), IdRange(2000, 200000, 1)])
    with DetachedMount.copy(sized) as made:
        made.set_attributes(userns_fd=userns)
        made.attach(tree / "b")
    mask = StatmountMask.MNT_UIDMAP | StatmountMask.MNT_GIDMAP
    mapped, plain = (ask(mount.mount_id(path), mask) for path in (tree / "b", sized))
    assert plain.mask & mask == 0
    assert [mapped.texts(offset + 4, mapped.number(offset)) for offset in (152, 160)] == [
        seen(["0 100000 1000", "2000 200000 1"])
    ] * 2


@behaviour("mount.statmount.supported-mask")
def test_supported_fields(sized: Path, seen: Seen) -> None:
    """STATMOUNT_SUPPORTED_MASK tells the fields that the kernel knows: all of the page, and not others."""
    known = ask(mount.mount_id(sized), StatmountMask.SUPPORTED_MASK).number(144, "Q")
    assert seen([known & sum(StatmountMask) == sum(StatmountMask), known & UNKNOWN_FIELD]) == [True, 0]


@behaviour("mount.statmount.unknown-field-ignored")
def test_unknown_field(sized: Path, seen: Seen) -> None:
    """A field that is unknown is no error; the mask of the answer lacks it."""
    answer = ask(mount.mount_id(sized), StatmountMask.FS_TYPE | UNKNOWN_FIELD)
    assert answer.texts(36) == ["tmpfs"]
    assert seen(answer.mask & (StatmountMask.FS_TYPE | UNKNOWN_FIELD)) == StatmountMask.FS_TYPE


def live_apart(place: Path) -> Callable[[Talk], None]:
    """A process in a mount namespace of its own, with a mount there, whose ID it tells."""

    def live(talk: Talk) -> None:
        unshare(CloneFlag.NEWNS)
        mount.make_rprivate("/")
        mount.mount("only here", place, "tmpfs", "")
        talk.ask(mount.mount_id(place))

    return live


@behaviour("mount.statmount.namespace-id")
def test_namespace_of_a_mount(sized: Path, seen: Seen) -> None:
    """STATMOUNT_MNT_NS_ID gives what NS_GET_MNTNS_ID tells of the caller's mount namespace."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    found = ask(mount.mount_id(sized), StatmountMask.MNT_NS_ID).number(112, "Q")
    assert found > 0
    assert seen(found == mount_namespace_id(namespace))


@behaviour("mount.statmount.other-namespace")
def test_mount_of_another_namespace(tree: Path, companion: Companion, refusal: Refusal, seen: Seen) -> None:
    """A mount of another namespace is found with that namespace's ID, and without it not: ENOENT."""
    other = companion(live_apart(tree / "b"))
    unique = other.hear()
    namespace = mount_namespace_id(os.open(f"/proc/{other.pid}/ns/mnt", os.O_RDONLY))
    answer = ask(unique, StatmountMask.MNT_POINT, namespace_id=namespace)
    assert answer.texts(108) == [str(tree / "b")]
    assert unique in listmount(LSMT_ROOT, 1000, namespace_id=namespace)
    assert seen(refusal(ask, unique, StatmountMask.MNT_POINT)) == "ENOENT"


@behaviour("mount.statmount.namespace-fd")
def test_namespace_by_descriptor(tree: Path, companion: Companion, seen: Seen) -> None:
    """A mount of another namespace is found with a descriptor of that namespace."""
    other = companion(live_apart(tree / "b"))
    unique = other.hear()
    buffer = bytearray(4096)
    statmount_in(os.open(f"/proc/{other.pid}/ns/mnt", os.O_RDONLY), unique, StatmountMask.SB_SOURCE, buffer)
    assert seen(Answer(bytes(buffer)).texts(124)) == ["only here"]


@behaviour("mount.statmount.namespace-fd-and-id-einval")
def test_namespace_twice(sized: Path, seen: Seen) -> None:
    """A namespace's descriptor and its ID together give EINVAL."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    request = (own, mount.mount_id(sized), StatmountMask.MNT_POINT, bytearray(4096))
    assert seen.errno_of(statmount_in, *request, namespace_id=mount_namespace_id(own)) == "EINVAL"


@behaviour("mount.statmount.by-fd")
def test_mount_of_a_descriptor(sized: Path, line_at: LineAt, seen: Seen) -> None:
    """STATMOUNT_BY_FD tells of the mount that a descriptor is on, by its file inside."""
    (sized / "file").touch()
    buffer = bytearray(4096)
    statmount_of_fd(os.open(sized / "file", os.O_PATH), StatmountMask.MNT_BASIC | StatmountMask.MNT_POINT, buffer)
    answer = Answer(bytes(buffer))
    assert answer.texts(108) == [str(sized)]
    assert seen(answer.number(56)) == line_at(sized).id


@behaviour("mount.statmount.by-fd-detached")
def test_mount_that_is_no_longer_there(sized: Path, seen: Seen) -> None:
    """After a lazy unmount STATMOUNT_BY_FD still tells of the mount, without mount point and namespace."""
    fd = os.open(sized, os.O_PATH)
    asked = StatmountMask.MNT_POINT | StatmountMask.MNT_NS_ID | StatmountMask.FS_TYPE
    masks = []
    for _ in range(2):
        buffer = bytearray(4096)
        statmount_of_fd(fd, asked, buffer)
        masks.append(Answer(bytes(buffer)).mask & asked)
        if len(masks) == 1:
            umount2(sized, UnmountFlag.DETACH)
    assert seen(masks) == [asked, StatmountMask.FS_TYPE]


@behaviour("mount.statmount.by-fd-with-id-einval")
def test_descriptor_and_id(sized: Path, seen: Seen) -> None:
    """A mount's ID beside its descriptor gives EINVAL."""
    fd, unique = os.open(sized, os.O_PATH), mount.mount_id(sized)
    assert seen.errno_of(statmount_of_fd, fd, StatmountMask.FS_TYPE, bytearray(4096), mount_id=unique) == "EINVAL"


@behaviour("mount.statmount.by-fd-bad-ebadf")
def test_descriptor_that_is_not_open(seen: Seen) -> None:
    """A number that is no open descriptor gives EBADF."""
    assert seen.errno_of(statmount_of_fd, 900, StatmountMask.FS_TYPE, bytearray(4096)) == "EBADF"


@behaviour("mount.statmount.by-fd-before-7-0")
def test_descriptor_on_an_older_kernel(sized: Path, seen: Seen) -> None:
    """A kernel that does not know STATMOUNT_BY_FD refuses it: EINVAL."""
    fd = os.open(sized, os.O_PATH)
    assert seen.errno_of(statmount_of_fd, fd, StatmountMask.FS_TYPE, bytearray(4096)) == "EINVAL"


@behaviour("mount.listmount.reverse")
def test_latest_first(tree: Path, seen: Seen) -> None:
    """LISTMOUNT_REVERSE gives the same IDs the other way round, also in parts."""
    for name in ("a", "b"):
        mount.mount("x", tree / name, "tmpfs", "")
    forward, backward = (listmount(LSMT_ROOT, 1000, flags=flags) for flags in (0, 1))
    second = listmount(LSMT_ROOT, 1000, after=backward[0], flags=1)
    assert seen([backward == forward[::-1], second == backward[1:]]) == [True, True]
