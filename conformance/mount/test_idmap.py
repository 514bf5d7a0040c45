"""ID-mapped mounts: mount_setattr(2) with MOUNT_ATTR_IDMAP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.identity import setfsgid, setfsuid
from kernelproof.impl._syscalls.mount import AT_FDCWD, MountAttribute, SetAttributeFlag
from kernelproof.impl.mount import DetachedMount, IdRange, open_user_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen

IDMAP = MountAttribute.IDMAP
SHIFT = [IdRange(0, 100000, 1000)]


@pytest.fixture
def userns() -> Iterator[int]:
    """A user namespace with the map "0 100000 1000"."""
    fd = open_user_namespace(SHIFT)
    yield fd
    os.close(fd)


def map_ids_of(fd: int, userns: int) -> None:
    """Map the IDs of a mount by the lowest layer."""
    calls.mount_setattr(fd, b"", SetAttributeFlag.EMPTY_PATH, attr_set=IDMAP, userns_fd=userns)


@behaviour("mount.idmap.attached-einval", subject="impl")
def test_attached_mount(tree: Path, userns: int, refusal: Refusal, seen: Seen) -> None:
    """A mount that is attached can't be mapped."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert refusal(mount.set_attributes, tree / "a", userns_fd=userns) == "EINVAL"
    assert seen.errno_of(calls.mount_setattr, AT_FDCWD, tree / "a", attr_set=IDMAP, userns_fd=userns) == "EINVAL"


@behaviour("mount.idmap.initial-userns-eperm", subject="impl")
def test_initial_user_namespace(tree: Path, seen: Seen) -> None:
    """The initial user namespace is no map."""
    own = os.open("/proc/self/ns/user", os.O_RDONLY)
    with DetachedMount.copy(tree / "a") as made:
        assert seen.errno_of(map_ids_of, made.fd, own) == "EPERM"
    os.close(own)


@behaviour("mount.idmap.not-userns-einval", subject="impl")
def test_other_descriptors(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Neither another kind of namespace nor a file is a map."""
    (tree / "file").touch()
    answers = []
    for path in ("/proc/self/ns/mnt", tree / "file"):
        fd = os.open(path, os.O_RDONLY)
        with DetachedMount.copy(tree / "a") as made:
            assert refusal(made.set_attributes, userns_fd=fd) == "EINVAL"
            answers.append(refusal(map_ids_of, made.fd, fd))
        os.close(fd)
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("mount.idmap.bad-fd-ebadf", subject="impl")
def test_closed_descriptor(tree: Path, seen: Seen) -> None:
    """A number that is no open descriptor is refused."""
    closed = os.dup(0)
    os.close(closed)
    with DetachedMount.copy(tree / "a") as made:
        assert seen.errno_of(map_ids_of, made.fd, closed + 100) == "EBADF"


@behaviour("mount.idmap.fd-above-int-max-einval", subject="impl")
def test_number_that_is_no_descriptor(tree: Path, seen: Seen) -> None:
    """A number above INT_MAX is refused."""
    with DetachedMount.copy(tree / "a") as made:
        assert seen.errno_of(map_ids_of, made.fd, 2**31) == "EINVAL"


@behaviour("mount.idmap.twice-eperm", subject="impl")
def test_second_map(tree: Path, userns: int, refusal: Refusal, seen: Seen) -> None:
    """A mount is mapped once."""
    with DetachedMount.copy(tree / "a") as made:
        answers = [refusal(map_ids_of, made.fd, userns) for _ in range(2)]
    assert seen(answers) == ["no error", "EPERM"]


@behaviour("mount.idmap.clear-einval", subject="impl")
def test_map_can_t_be_cleared(tree: Path, seen: Seen) -> None:
    """A map can't be taken off."""
    with DetachedMount.copy(tree / "a") as made:
        flags = SetAttributeFlag.EMPTY_PATH
        assert seen.errno_of(calls.mount_setattr, made.fd, b"", flags, attr_clr=IDMAP) == "EINVAL"


@behaviour("mount.idmap.writer-ebusy", subject="impl")
def test_writer(tree: Path, userns: int, refusal: Refusal, seen: Seen) -> None:
    """A mount with a file open for writing can't be mapped; when it is closed it can."""
    with DetachedMount.copy(tree / "a") as made:
        fd = made.open("file", os.O_WRONLY | os.O_CREAT)
        answers = [refusal(map_ids_of, made.fd, userns)]
        os.close(fd)
        answers.append(refusal(map_ids_of, made.fd, userns))
    assert seen(answers) == ["EBUSY", "no error"]


@behaviour("mount.idmap.proc-einval", subject="impl")
def test_procfs(userns: int, refusal: Refusal, seen: Seen) -> None:
    """procfs can't be mapped."""
    assert refusal(mount.map_ids, "/proc", SHIFT) == "EINVAL"
    with DetachedMount.copy("/proc") as made:
        assert seen.errno_of(map_ids_of, made.fd, userns) == "EINVAL"


@behaviour("mount.idmap.tmpfs-shifts-owner", subject="impl")
def test_owner_is_shifted(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A file of user 5 is of user 100005 through the mapped mount, and of user 5 through the plain one."""
    (tree / "a/file").touch()
    os.chown(tree / "a/file", 5, 6)
    with mount.map_ids(tree / "a", SHIFT) as made:
        made.attach(tree / "b")
    owners = [((tree / name / "file").stat().st_uid, (tree / name / "file").stat().st_gid) for name in ("b", "a")]
    assert "idmapped" in line_at(tree / "b").options
    assert seen(owners) == [(100005, 100006), (5, 6)]


@behaviour("mount.idmap.unmapped-is-overflow", subject="impl")
def test_owner_without_map(tree: Path, seen: Seen) -> None:
    """A file whose owner is not in the map is of the overflow user."""
    (tree / "a/file").touch()
    os.chown(tree / "a/file", 1000, 0)
    with mount.map_ids(tree / "a", SHIFT) as made:
        made.attach(tree / "b")
    with open("/proc/sys/kernel/overflowuid", encoding="utf-8") as file:
        overflow = int(file.read())
    assert seen((tree / "b/file").stat().st_uid) == overflow == 65534


@behaviour("mount.idmap.write-maps-back", subject="impl")
def test_new_file_is_mapped_back(public_tree: Path, in_child: InChild, seen: Seen) -> None:
    """A file that user 100007 makes through the mapped mount is of user 7."""
    tree = public_tree
    (tree / "a").chmod(0o777)
    with mount.map_ids(tree / "a", SHIFT) as made:
        made.attach(tree / "b")

    def make() -> None:
        setfsgid(100007)
        setfsuid(100007)
        os.close(os.open(tree / "b/new", os.O_WRONLY | os.O_CREAT, 0o644))

    in_child(make)
    assert seen([(tree / name / "new").stat().st_uid for name in ("a", "b")]) == [7, 100007]
