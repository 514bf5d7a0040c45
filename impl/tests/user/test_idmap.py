"""ID maps, subordinate ranges, and the plan that gives a namespace its maps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kernelproof.impl.user import (
    IdMap,
    IdMapError,
    RunProgram,
    SubordinateRange,
    WriteFile,
    Writer,
    allocate_range,
    find_overlaps,
    newuidmap_problems,
    owner_ranges,
    parse_subid,
    perform,
    plan_id_maps,
    read_id_map,
    subordinate_ranges,
    user_namespace_map,
    without,
)
from kernelproof.impl.user.subid import is_subordinate

ROOTLESS = IdMap([(0, 1000, 1), (1, 100_000, 65_536)])


@pytest.mark.rule("U+4")
def test_translation() -> None:
    """Ids translate both ways, and what is not mapped is None."""
    assert [ROOTLESS.outside_id(each) for each in (0, 1, 65_536, 65_537)] == [1000, 100_000, 165_535, None]
    assert [ROOTLESS.inside_id(each) for each in (1000, 100_000, 0, 165_536)] == [0, 1, None, None]
    assert IdMap.identity().outside_id(2**32 - 2) == 2**32 - 2
    assert IdMap.identity().outside_id(2**32 - 1) is None
    assert IdMap().outside_id(0) is None


@pytest.mark.rule("U+4")
@pytest.mark.parametrize(
    ("extents", "reason"),
    [
        ([(0, 1000, 10), (5, 2000, 10)], r"extents \(0 1000 10\) and \(5 2000 10\) overlap inside: ids 5 to 9"),
        (
            [(0, 1000, 10), (20, 1009, 10)],
            r"\(0 1000 10\) and \(20 1009 10\) overlap outside: ids 1009 to 1009",
        ),
        ([(0, 100, 50), (60, 110, 5)], r"overlap outside: ids 110 to 114"),
        ([(0, 0, 0)], "the length is at least 1"),
        ([(-1, 0, 5)], "not negative"),
        ([(0, 4294967290, 6)], "reaches beyond the last id, 4294967294"),
        ([(4294967295, 0, 1)], "reaches beyond"),
    ],
)
def test_bad_maps_are_named(extents: list[tuple[int, int, int]], reason: str) -> None:
    """What the kernel answers with EINVAL is an error that names the extents and the ids."""
    with pytest.raises(IdMapError, match=reason):
        IdMap(extents)


@pytest.mark.rule("U+4")
def test_extents_are_split_where_the_parents_end() -> None:
    """An extent over two of the parent's is split, since the kernel takes none that is not in one (EPERM)."""
    parent = IdMap([(0, 1000, 1), (1, 100_000, 65_536)])
    assert IdMap([(0, 0, 65_537)]).split_at(parent) == IdMap([(0, 0, 1), (1, 1, 65_536)])
    assert IdMap([(5, 0, 10)]).compose(parent) == IdMap([(5, 1000, 1), (6, 100_000, 9)])
    with pytest.raises(IdMapError, match=r"extent \(0 0 65538\): id 65537 is not mapped in the parent"):
        IdMap([(0, 0, 65_538)]).split_at(parent)
    assert IdMap([(0, 0, 65_538)]).intersect(parent) == IdMap([(0, 0, 1), (1, 1, 65_536)])
    assert IdMap([(0, 70_000, 5)]).intersect(parent) == IdMap()


@pytest.mark.rule("U+4")
def test_nested_namespaces_translate_step_by_step() -> None:
    """The composed map of three namespaces gives what asking one after the other gives."""
    outer, middle, inner = ROOTLESS, IdMap([(0, 0, 1000), (2000, 2000, 1000)]), IdMap([(0, 100, 10), (10, 2500, 5)])
    whole = inner.compose(middle).compose(outer)
    for number in range(20):
        step: int | None = number
        for each in (inner, middle, outer):
            step = None if step is None else each.outside_id(step)
        assert whole.outside_id(number) == step


@pytest.mark.rule("U+4")
def test_text_of_proc() -> None:
    """The text of uid_map is read with its blanks and written without."""
    text = "         0       1000          1\n         1     100000      65536\n"
    assert IdMap.parse(text) == ROOTLESS
    assert ROOTLESS.format() == "0 1000 1\n1 100000 65536\n"
    assert IdMap.parse("         0          0 4294967295\n") == IdMap.identity()
    assert repr(ROOTLESS) == "IdMap([(0, 1000, 1), (1, 100000, 65536)])"
    for bad in ("0 1000\n", "0 1000 x\n", "0 -1 5\n", "0 1000 1 1\n"):
        with pytest.raises(IdMapError, match="line 1 of an ID map"):
            IdMap.parse(bad)


@pytest.mark.rule("U+4")
def test_what_does_not_fit_one_write() -> None:
    """The kernel takes at most 340 extents and less than a page of text in one write."""
    with pytest.raises(IdMapError, match="341 extents are more than the kernel's 340"):
        IdMap((2 * each, 2 * each, 1) for each in range(341)).check_writable()
    with pytest.raises(IdMapError, match="bytes of text do not fit"):
        IdMap((2 * each, 1_000_000_000 + 2 * each, 1) for each in range(340)).check_writable()
    with pytest.raises(IdMapError, match="without extents"):
        IdMap().check_writable()
    assert IdMap((2 * each, 2 * each, 1) for each in range(340)).check_writable(1 << 16).count("\n") == 340


MAPS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 12)), max_size=5)


def make(extents: list[tuple[int, int, int]]) -> IdMap:
    try:
        return IdMap(extents)
    except IdMapError:
        assume(False)
        raise


def as_dict(id_map: IdMap) -> dict[int, int]:
    return {extent.inside + each: extent.outside + each for extent in id_map for each in range(extent.length)}


@pytest.mark.rule("U+4")
@given(MAPS, MAPS)
def test_algebra_is_that_of_single_ids(one: list[tuple[int, int, int]], other: list[tuple[int, int, int]]) -> None:
    """Inverting, intersecting, composing, merging and printing do to a map what they do to each of its ids."""
    inner, outer = make(one), make(other)
    ids, parent = as_dict(inner), as_dict(outer)
    assert as_dict(inner.inverted()) == {outside: inside for inside, outside in ids.items()}
    assert as_dict(inner.merged()) == ids
    assert len(inner.merged()) <= len(inner)
    assert IdMap.parse(inner.format()) == inner
    assert as_dict(inner.intersect(outer)) == {inside: outside for inside, outside in ids.items() if outside in parent}
    if all(outside in parent for outside in ids.values()):
        assert as_dict(inner.compose(outer)) == {inside: parent[outside] for inside, outside in ids.items()}
        for piece in inner.split_at(outer):
            held = [each for each in outer if each.inside <= piece.outside < each.inside + each.length]
            assert piece.outside + piece.length <= held[0].inside + held[0].length
    else:
        with pytest.raises(IdMapError):
            inner.compose(outer)


# Subordinate ranges.

SUBUID = "ada:100000:65536\n1000:300000:10\nada:165536:100\neve:100000:10\n1000:100010:5\n0ada:5:5\n#ada:7:7\n"


def peer_ranges(text: str, name: str, uid: int) -> list[tuple[int, int]]:
    """Take the lines of the name, as they are."""
    return [(each.start, each.length) for each in parse_subid(text) if each.owner == name]


def our_ranges(text: str, name: str, uid: int) -> list[tuple[int, int]]:
    return [(each.start, each.length) for each in subordinate_ranges(parse_subid(text), name, uid)]


@pytest.mark.rule("U7", ours=our_ranges, wrong=peer_ranges)
def test_ranges_by_name_and_uid_once(subject: Callable[[str, str, int], list[tuple[int, int]]]) -> None:
    """Lines by name and by uid count together, each id once, in order."""
    assert subject(SUBUID, "ada", 1000) == [(100_000, 65_636), (300_000, 10)]


@pytest.mark.rule("U7", ours=our_ranges, wrong=peer_ranges)
def test_own_uid_is_cut_out(subject: Callable[[str, str, int], list[tuple[int, int]]]) -> None:
    """A range that holds the owner's own uid is split round it, so that a map never has it twice."""
    assert subject("ada:990:20\n", "ada", 1000) == [(990, 10), (1001, 9)]
    assert subject("ada:1000:1\nada:5:1\n", "ada", 1000) == [(5, 1)]


@pytest.mark.rule("U7")
def test_shared_ranges_are_reported() -> None:
    """Ids that two owners have are said, with both lines; touching ranges are not."""
    found = find_overlaps(parse_subid("ada:100:50\neve:150:50\nbob:140:20\nada:120:5\n"), "/etc/subuid")
    assert [str(each) for each in found] == [
        "/etc/subuid:3:1: range: ids 140 to 149 are also ada's, by line 1 (entry kept)",
        "/etc/subuid:2:1: range: ids 150 to 159 are also bob's, by line 3 (entry kept)",
    ]


@pytest.mark.rule("U7")
def test_reports_of_shared_ranges_are_bounded() -> None:
    """Of thousands of owners of one range the first ten thousand reports come."""
    found = find_overlaps(SubordinateRange(f"u{number}", 100_000, 65_536, number) for number in range(3000))
    assert len(found) == 10_000
    assert [each.line for each in found[:4]] == [1, 2, 2, 3]


@pytest.mark.rule("U7")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(1, 9)), max_size=8))
def test_overlaps_are_all_found(entries: list[tuple[str, int, int]]) -> None:
    """There is a report exactly when some id belongs to two owners."""
    ranges = [SubordinateRange(*each, line) for line, each in enumerate(entries, 1)]
    owners: dict[int, set[str]] = {}
    for each in ranges:
        for number in range(each.start, each.end):
            owners.setdefault(number, set()).add(each.owner)
    assert bool(find_overlaps(ranges)) == any(len(each) > 1 for each in owners.values())


def test_lines_of_one_owner() -> None:
    """Searching the text for an owner finds the lines that reading all of it finds."""
    found = owner_ranges(SUBUID, "ada", 1000)
    assert found.entries == tuple(each for each in parse_subid(SUBUID) if each.owner in ("ada", "1000"))
    assert [each.line for each in found] == [1, 2, 3, 5]
    assert owner_ranges("ada:1:x", "ada", None).diagnostics[0].line == 1


def test_allocation_takes_the_first_gap() -> None:
    """A new range is the first that fits between the others, at or above the lowest id."""
    taken = parse_subid("a:100000:65536\nb:231072:65536\nc:5:10\n")
    assert allocate_range(taken, "new")[:3] == ("new", 165_536, 65_536)
    assert allocate_range(taken, "new", length=65_537)[:3] == ("new", 296_608, 65_537)
    assert allocate_range([], "new")[:3] == ("new", 100_000, 65_536)
    with pytest.raises(IdMapError, match="no 10 ids are free from 100000 to 100008"):
        allocate_range([], "new", length=10, highest=100_008)
    with pytest.raises(IdMapError):
        allocate_range([], "new", length=0)
    with pytest.raises(ValueError, match="highest id"):
        allocate_range([], "new", highest=2**32)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=6), st.integers(1, 20))
def test_allocation_overlaps_nothing(taken: list[tuple[int, int]], length: int) -> None:
    """A new range shares no id with any other."""
    ranges = [SubordinateRange("x", *each) for each in taken]
    new = allocate_range(ranges, "new", length=length, lowest=10, highest=1000)
    assert not find_overlaps([*ranges, new]) or find_overlaps(ranges)
    assert all(new.end <= each.start or each.end <= new.start for each in ranges)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=6), st.integers(0, 40), st.integers(1, 20))
def test_touching_ranges_count_as_one(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    """Ids are subordinate if the ranges together hold every one of them."""
    held = {each for first, count in ranges for each in range(first, first + count)}
    expected = set(range(start, start + length)) <= held
    assert is_subordinate([SubordinateRange("x", *each) for each in ranges], start, length) == expected


def test_map_of_a_rootless_container() -> None:
    """The caller is the id asked for inside, and the ranges are the ids round it."""
    ranges = [SubordinateRange("ada", 100_000, 65_536)]
    assert user_namespace_map(1000, ranges) == ROOTLESS
    assert user_namespace_map(1000, ranges, inside=1000) == IdMap(
        [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)]
    )
    assert user_namespace_map(1000, [SubordinateRange("ada", 995, 10)]) == IdMap(
        [(0, 1000, 1), (1, 995, 5), (6, 1001, 4)]
    )
    assert without(ranges, 5) == tuple(ranges)


# The plan.

ROOT = Writer(0, 0, True)
ADA = Writer(
    1000, 1000, False, (SubordinateRange("ada", 100_000, 65_536),), (SubordinateRange("ada", 200_000, 65_536),)
)
GID_MAP = IdMap([(0, 1000, 1), (1, 200_000, 65_536)])


@pytest.mark.rule("U+4")
def test_plan_of_a_capable_writer() -> None:
    """Who has the capabilities writes both maps, in one write each."""
    plan = plan_id_maps(42, ROOTLESS, GID_MAP, Writer(0, 0, True))
    assert plan == (
        WriteFile("/proc/42/uid_map", "0 1000 1\n1 100000 65536\n"),
        WriteFile("/proc/42/gid_map", "0 1000 1\n1 200000 65536\n"),
    )
    assert plan[0].describe() == "write '0 1000 1\\n1 100000 65536\\n' to /proc/42/uid_map"


@pytest.mark.rule("U+4")
def test_plan_of_a_user_alone() -> None:
    """Who maps only the own id denies setgroups first, without which the kernel refuses the group map."""
    own = IdMap([(0, 1000, 1)])
    assert plan_id_maps(42, own, own, Writer(1000, 1000, False)) == (
        WriteFile("/proc/42/setgroups", "deny"),
        WriteFile("/proc/42/uid_map", "0 1000 1\n"),
        WriteFile("/proc/42/gid_map", "0 1000 1\n"),
    )


@pytest.mark.rule("U+4")
def test_plan_of_an_own_group_and_more_users() -> None:
    """One map that is the caller's own alone is not enough: with the other both need the helpers."""
    plan = plan_id_maps(42, ROOTLESS, IdMap([(0, 1000, 1)]), ADA)
    assert [each.argv[0] for each in plan if isinstance(each, RunProgram)] == ["newuidmap", "newgidmap"]


@pytest.mark.rule("U+4")
def test_plan_with_subordinate_ids() -> None:
    """With subordinate ids the privileged helpers are run."""
    plan = plan_id_maps(42, ROOTLESS, GID_MAP, ADA)
    assert plan == (
        RunProgram(("newuidmap", "42", "0", "1000", "1", "1", "100000", "65536")),
        RunProgram(("newgidmap", "42", "0", "1000", "1", "1", "200000", "65536")),
    )
    assert plan[0].describe() == "run newuidmap 42 0 1000 1 1 100000 65536"


@pytest.mark.rule("U+4")
def test_plan_that_would_be_refused() -> None:
    """A map beyond the subordinate ids is refused before anything is run, with all reasons."""
    with pytest.raises(IdMapError, match=r"100000 to 165536 are not all subordinate.*; .*200000 to 265536 are not"):
        plan_id_maps(42, IdMap([(0, 100_000, 65_537)]), IdMap([(0, 200_000, 65_537)]), ADA)
    assert newuidmap_problems(IdMap([(0, 0, 1)]), [], 1000)
    assert newuidmap_problems(IdMap([(0, 1000, 2)]), [], 1000)
    assert not newuidmap_problems(IdMap([(5, 1000, 1)]), [], 1000)


@pytest.mark.rule("U+4")
def test_plan_in_a_nested_namespace() -> None:
    """In a nested namespace the extents are split at the borders of the parent's, and gaps are named."""
    plan = plan_id_maps(
        42,
        IdMap([(0, 0, 100)]),
        IdMap([(0, 0, 1)]),
        Writer(0, 0, True),
        parent_uid_map=ROOTLESS,
        parent_gid_map=GID_MAP,
    )
    assert plan[0] == WriteFile("/proc/42/uid_map", "0 0 1\n1 1 99\n")
    with pytest.raises(IdMapError, match="id 65537 is not mapped in the parent"):
        plan_id_maps(42, IdMap([(0, 65_537, 1)]), GID_MAP, ROOT, parent_uid_map=ROOTLESS)


def test_steps_are_taken(tmp_path: Path) -> None:
    """A step writes its file in one go, or runs its program and reports what it said."""
    (tmp_path / "uid_map").write_text("")
    perform(WriteFile(str(tmp_path / "uid_map"), "0 1000 1\n"))
    assert (tmp_path / "uid_map").read_text() == "0 1000 1\n"
    with pytest.raises(FileNotFoundError):
        perform(WriteFile(str(tmp_path / "missing"), "x"))
    perform(RunProgram((sys.executable, "-c", "")))
    with pytest.raises(IdMapError, match="exit status 3: no such range"):
        perform(RunProgram((sys.executable, "-c", "import sys; sys.stderr.write('no such range\\n'); sys.exit(3)")))


@pytest.mark.skipif(sys.platform != "linux", reason="user namespaces")
def test_maps_of_processes_are_read(tmp_path: Path) -> None:
    """The own map is read from proc, and another proc directory can be named."""
    assert read_id_map() == IdMap.parse(Path("/proc/self/uid_map").read_text())
    (tmp_path / "7").mkdir()
    (tmp_path / "7/gid_map").write_text("0 5 1\n")
    assert read_id_map(7, "gid", proc=str(tmp_path)) == IdMap([(0, 5, 1)])


@pytest.mark.rule("U+4")
@pytest.mark.skipif(sys.platform != "linux", reason="user namespaces")
def test_kernel_takes_the_plan() -> None:
    """A child in a new user namespace gets the planned maps, and proc shows them."""
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        ["unshare", "--user", sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        child.communicate()  # which closes the pipes
        pytest.skip("this host makes no user namespaces")
    try:
        uid, gid = os.geteuid(), os.getegid()
        own = IdMap([(0, uid, 1)]), IdMap([(7, gid, 1)])
        for step in plan_id_maps(child.pid, *own, Writer(uid, gid, False)):
            perform(step)
        assert read_id_map(child.pid) == own[0]
        assert read_id_map(child.pid, "gid") == own[1]
        with pytest.raises(PermissionError) as caught:
            perform(WriteFile(f"/proc/{child.pid}/uid_map", "0 0 1\n"))
        assert caught.value.__notes__ == [f"write '0 0 1\\n' to /proc/{child.pid}/uid_map"]
    finally:
        child.communicate("")
