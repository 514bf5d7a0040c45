"""ID maps of user namespaces: what the kernel takes in the one write, who may write, and who reads what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.conftest import become_plain
from kernelproof.conformance.namespaces.conftest import write_maps
from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import IdMap, IdMapError, WriteFile, perform, read_id_map

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Companion, InChild, Talk, Unprivileged
    from kernelproof.conformance.namespaces.conftest import InUserNamespace, Member, Without
    from kernelproof.conformance.seen import Seen

USER = 1000
PAGE = os.sysconf("SC_PAGE_SIZE")
CAP_SETFCAP = 31


@pytest.fixture
def write_map(member: Member) -> Callable[[str], None]:
    """Write a text to the uid_map of a new user namespace."""

    def write(text: str) -> None:
        perform(WriteFile(f"/proc/{member(CloneFlag.NEWUSER).pid}/uid_map", text))

    return write


def is_writable(extents: list[tuple[int, int, int]]) -> bool:
    """Whether impl.user takes these extents as a map that can be written."""
    try:
        IdMap(extents).check_writable(PAGE)
    except IdMapError:
        return False
    return True


def text_of(extents: list[tuple[int, int, int]]) -> str:
    """The lines of uid_map for extents."""
    return "".join(f"{inside} {outside} {length}\n" for inside, outside, length in extents)


@behaviour("namespaces.user.map-empty-at-first")
def test_maps_of_a_new_namespace(member: Member, seen: Seen) -> None:
    """Both maps of a new user namespace are empty."""
    pid = member(CloneFlag.NEWUSER).pid
    assert seen([Path(f"/proc/{pid}/{name}_map").read_text() for name in ("uid", "gid")]) == ["", ""]
    assert read_id_map(pid) == IdMap()


@behaviour("namespaces.user.initial-map")
def test_map_of_the_initial_namespace(seen: Seen) -> None:
    """In the initial user namespace each ID is mapped to itself."""
    assert seen(Path("/proc/self/uid_map").read_text().split()) == ["0", "0", "4294967295"]
    assert read_id_map() == IdMap.identity()
    assert read_id_map().outside_id(4294967294) == 4294967294


@behaviour("namespaces.user.map-write-once")
def test_second_write(member: Member, seen: Seen) -> None:
    """A second write gives EPERM, and the map stays."""
    path = f"/proc/{member(CloneFlag.NEWUSER).pid}/uid_map"
    answers = [seen.errno_of(perform, WriteFile(path, text)) for text in ("0 0 1", "0 0 2")]
    assert seen(answers) == ["no error", "EPERM"]
    assert Path(path).read_text().split() == ["0", "0", "1"]


@behaviour("namespaces.user.map-line-limit")
def test_number_of_lines(write_map: Callable[[str], None], seen: Seen) -> None:
    """340 lines are accepted, and 341 give EINVAL."""
    maps = [[(number, number, 1) for number in range(count)] for count in (340, 341)]
    assert len(text_of(maps[1])) < PAGE
    assert seen([seen.errno_of(write_map, text_of(extents)) for extents in maps]) == ["no error", "EINVAL"]
    assert [is_writable(extents) for extents in maps] == [True, False]


@behaviour("namespaces.user.map-byte-limit")
def test_number_of_bytes(write_map: Callable[[str], None], seen: Seen) -> None:
    """A write of a page gives EINVAL, one of a byte less is accepted."""
    texts = [f"0 {'0 1':>{size - 3}}\n" for size in (PAGE - 1, PAGE)]
    assert [len(text) for text in texts] == [PAGE - 1, PAGE]
    assert seen([seen.errno_of(write_map, text) for text in texts]) == ["no error", "EINVAL"]


def write_at(member: Member, write: Callable[[int], object]) -> None:
    """Open the uid_map of a new user namespace and write to it."""
    fd = os.open(f"/proc/{member(CloneFlag.NEWUSER).pid}/uid_map", os.O_WRONLY | os.O_CLOEXEC)
    try:
        write(fd)
    finally:
        os.close(fd)


@behaviour("namespaces.user.map-nonzero-offset")
def test_write_behind_the_beginning(member: Member, seen: Seen) -> None:
    """A write at another offset than 0 gives EINVAL."""

    def write(fd: int, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        os.write(fd, b"0 0 1\n")

    answers = [seen.errno_of(write_at, member, lambda fd, at=offset: write(fd, at)) for offset in (0, 1)]
    assert seen(answers) == ["no error", "EINVAL"]


@behaviour("namespaces.user.map-pwrite-nonzero-offset")
def test_pwrite_behind_the_beginning(member: Member, seen: Seen) -> None:
    """pwrite at offset 1 gives EINVAL, and at 0 it does not."""
    assert seen.errno_of(write_at, member, lambda fd: os.pwrite(fd, b"0 0 1\n", 0)) == "no error"
    assert seen.errno_of(write_at, member, lambda fd: os.pwrite(fd, b"0 0 1\n", 1)) == "EINVAL"


@behaviour("namespaces.user.map-zero-length")
def test_line_without_ids(write_map: Callable[[str], None], seen: Seen) -> None:
    """A line of length 0 gives EINVAL."""
    assert not is_writable([(0, 0, 0)])
    assert seen.errno_of(write_map, "0 0 0\n") == "EINVAL"


def answers(write_map: Callable[[str], None], seen: Seen, *maps: list[tuple[int, int, int]]) -> list[Any]:
    """What the kernel and impl.user say to maps."""
    return [[seen.errno_of(write_map, text_of(extents)), is_writable(extents)] for extents in maps]


@behaviour("namespaces.user.map-overlap-inside")
def test_overlap_inside(write_map: Callable[[str], None], seen: Seen) -> None:
    """Ranges that overlap inside give EINVAL; those that only touch are accepted."""
    found = answers(write_map, seen, [(0, 0, 10), (10, 100, 10)], [(0, 0, 10), (9, 100, 10)])
    assert seen(found) == [["no error", True], ["EINVAL", False]]


@behaviour("namespaces.user.map-overlap-outside")
def test_overlap_outside(write_map: Callable[[str], None], seen: Seen) -> None:
    """Ranges that overlap outside give EINVAL; those that only touch are accepted."""
    found = answers(write_map, seen, [(0, 0, 10), (100, 10, 10)], [(0, 0, 10), (100, 9, 10)])
    assert seen(found) == [["no error", True], ["EINVAL", False]]


@behaviour("namespaces.user.map-descending-lines")
def test_lines_in_any_order(member: Member, seen: Seen) -> None:
    """Lines may come in descending order."""
    extents = [(100, 100, 10), (0, 0, 10)]
    path = Path(f"/proc/{member(CloneFlag.NEWUSER).pid}/uid_map")
    perform(WriteFile(str(path), text_of(extents)))
    assert is_writable(extents)
    assert seen(sorted(path.read_text().split())) == sorted(text_of(extents).split())


@behaviour("namespaces.user.map-empty-write")
def test_no_line(write_map: Callable[[str], None], seen: Seen) -> None:
    """A text without any line gives EINVAL."""
    assert not is_writable([])
    assert seen.errno_of(write_map, "\n") == "EINVAL"


@behaviour("namespaces.user.map-unprivileged-single-own-id")
def test_map_of_a_user(unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SETUID a process maps its own uid and nothing more: EPERM."""

    def write() -> list[str]:
        unshare(CloneFlag.NEWUSER)
        texts = (f"0 {USER} 1\n1 1001 1\n", f"0 {USER} 2\n", "0 1001 1\n", f"0 {USER} 1\n")
        return [seen.errno_of(perform, WriteFile("/proc/self/uid_map", text)) for text in texts]

    assert seen(unprivileged(write, USER)) == ["EPERM", "EPERM", "EPERM", "no error"]


@behaviour("namespaces.user.gid-map-needs-setgroups-denied")
def test_groups_of_a_user(unprivileged: Unprivileged, seen: Seen) -> None:
    """Without privilege gid_map can't be written before setgroups is denied: EPERM."""

    def write() -> list[str]:
        unshare(CloneFlag.NEWUSER)
        steps = (("gid_map", f"0 {USER} 1"), ("setgroups", "deny"), ("gid_map", f"0 {USER} 1"))
        return [seen.errno_of(perform, WriteFile(f"/proc/self/{name}", text)) for name, text in steps]

    assert seen(unprivileged(write, USER)) == ["EPERM", "no error", "no error"]


@behaviour("namespaces.user.map-uid0-needs-setfcap")
def test_mapping_root(without: Without, write_map: Callable[[str], None], seen: Seen) -> None:
    """Without CAP_SETFCAP in the parent namespace its uid 0 can't be mapped: EPERM; others can."""
    found = without(CAP_SETFCAP, lambda: [seen.errno_of(write_map, text) for text in ("0 1 1", "0 0 1")])
    assert seen(found) == ["no error", "EPERM"]


@behaviour("namespaces.user.map-parent-must-map")
def test_id_that_the_parent_lacks(in_user_namespace: InUserNamespace, write_map: Any, seen: Seen) -> None:
    """An ID outside that is not mapped in the parent namespace gives EPERM."""
    found = in_user_namespace(lambda: [seen.errno_of(write_map, text) for text in ("0 9 1", "0 10 1")], uids="0 0 10")
    assert seen(found) == ["no error", "EPERM"]


@behaviour("namespaces.user.map-view-depends-on-reader")
def test_map_as_it_is_read(companion: Companion, seen: Seen) -> None:
    """IDs outside are told in the reader's namespace, and to a reader inside in the parent's."""

    def nest(talk: Talk) -> None:
        become_plain(USER)
        unshare(CloneFlag.NEWUSER)
        talk.ask()
        inner = companion(go_in)
        inner.hear()
        write_maps(inner.pid, "5 2 1", "5 2 1")
        talk.ask([inner.pid, inner.ask()])

    def go_in(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        talk.ask()
        talk.ask(Path("/proc/self/uid_map").read_text().split())

    outer = companion(nest)
    outer.hear()
    write_maps(outer.pid, "0 1000 10", "0 1000 10")
    pid, inside = outer.ask()
    from_outside = Path(f"/proc/{pid}/uid_map").read_text().split()
    assert seen([inside, from_outside]) == [["5", "2", "1"], ["5", "1002", "1"]]


@behaviour("namespaces.user.map-view-unmapped-field")
def test_id_that_the_reader_lacks(member: Member, in_user_namespace: InUserNamespace, seen: Seen) -> None:
    """An ID outside that the reader has no mapping for is told as 4294967295."""
    path = Path(f"/proc/{member(CloneFlag.NEWUSER).pid}/uid_map")
    perform(WriteFile(str(path), "0 1000 10"))
    views = [in_user_namespace(lambda: path.read_text().split(), uids=uids) for uids in ("0 0 2000", "0 0 1000")]
    assert seen(views) == [["0", "1000", "10"], ["0", "4294967295", "10"]]


@behaviour("namespaces.user.setgroups-before-gid-map")
def test_groups_before_the_map(companion: Companion, seen: Seen) -> None:
    """Before gid_map is written setgroups gives EPERM."""

    def change(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        before = seen.errno_of(setgroups, [])
        talk.ask([before, Path("/proc/self/setgroups").read_text()])
        talk.say(seen.errno_of(setgroups, []))

    inside = companion(change)
    before = inside.hear()
    write_maps(inside.pid, "0 0 1", "0 0 1")
    assert seen([*before, inside.ask()]) == ["EPERM", "allow\n", "no error"]


@behaviour("namespaces.user.setgroups-default-allow")
def test_groups_of_the_initial_namespace(in_child: InChild, seen: Seen) -> None:
    """In the initial user namespace the file setgroups says allow, and groups can be set."""
    assert seen(Path("/proc/self/setgroups").read_text()) == "allow\n"
    assert in_child(lambda: [seen.errno_of(setgroups, [USER]), os.getgroups()]) == ["no error", [USER]]


def denial(member: Member, seen: Seen, *texts: tuple[str, str]) -> list[str]:
    """What files of a new user namespace say to writes, and what setgroups reads in the end."""
    folder = f"/proc/{member(CloneFlag.NEWUSER).pid}"
    found = [seen.errno_of(perform, WriteFile(f"{folder}/{name}", text)) for name, text in texts]
    return [*found, Path(folder, "setgroups").read_text()]


@behaviour("namespaces.user.setgroups-deny-after-gid-map")
def test_denial_after_the_map(member: Member, seen: Seen) -> None:
    """Once gid_map is written groups can't be denied any more: EPERM."""
    found = denial(member, seen, ("gid_map", "0 0 1"), ("setgroups", "deny"))
    assert seen(found) == ["no error", "EPERM", "allow\n"]


@behaviour("namespaces.user.setgroups-allow-after-deny")
def test_denial_is_for_good(member: Member, seen: Seen) -> None:
    """What was denied can't be allowed again: EPERM."""
    found = denial(member, seen, ("setgroups", "deny"), ("setgroups", "allow"))
    assert seen(found) == ["no error", "EPERM", "deny\n"]


@behaviour("namespaces.user.setgroups-inherited")
def test_denial_is_inherited(companion: Companion, seen: Seen) -> None:
    """A child of a user namespace that denies groups denies them too."""

    def nest(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        perform(WriteFile("/proc/self/setgroups", "deny"))
        for name in ("uid_map", "gid_map"):
            perform(WriteFile(f"/proc/self/{name}", "0 0 1"))
        before = os.readlink("/proc/self/ns/user")
        unshare(CloneFlag.NEWUSER)
        talk.say([Path("/proc/self/setgroups").read_text(), os.readlink("/proc/self/ns/user") != before])

    assert seen(companion(nest).hear()) == ["deny\n", True]
