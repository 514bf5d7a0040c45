"""Subordinate ids: ranges of /etc/subuid and /etc/subgid that a user may map in a user namespace.

A line names its owner by login name or by decimal uid, and all lines of one owner count. So the ranges of a user are
those of both names together, each id once; and a range that another user has too is said, as nobody else will.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernelproof.impl.user.errors import IdMapError
from kernelproof.impl.user.idmap import IdMap
from kernelproof.impl.user.records import HIGHEST_ID, Diagnostic, Parsed, SubordinateRange, check_id
from kernelproof.impl.user.tables import DIAGNOSTIC_LIMIT, SUBID, Reader

# The defaults of login.defs(5): SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT.
LOWEST_SUBID = 100_000
HIGHEST_SUBID = 600_100_000
SUBID_COUNT = 65_536


def subordinate_ranges(
    entries: Iterable[SubordinateRange], name: str | None, uid: int | None
) -> tuple[SubordinateRange, ...]:
    """Return the ranges of an owner, joined where they touch or overlap, without the owner's own uid, in order.

    Args:
        entries: of subuid or subgid.
        name: login name of the owner; None matches by uid only.
        uid: uid of the owner; None matches by name only. It is cut out of the ranges: a map has it as itself, and
            an id in two extents makes the kernel refuse the whole map (EINVAL). For subgid give the gid to cut out
            with `without`.

    Source: subuid(5), LOCAL SUBORDINATE DELEGATION.
    """
    owners = {name, None if uid is None else str(uid)} - {None}
    ranges = sorted((each.start, each.end) for each in entries if each.owner in owners)
    owner = name if name is not None else str(uid)
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    found = tuple(SubordinateRange(owner, start, end - start) for start, end in joined)
    return found if uid is None else without(found, uid)


def without(ranges: Iterable[SubordinateRange], number: int) -> tuple[SubordinateRange, ...]:
    """Return ranges with one id cut out of them."""
    kept: list[SubordinateRange] = []
    for each in ranges:
        if not each.start <= number < each.end:
            kept.append(each)
            continue
        for start, end in ((each.start, number), (number + 1, each.end)):
            if start < end:
                kept.append(each._replace(start=start, length=end - start))
    return tuple(kept)


def owner_ranges(text: str, name: str | None, uid: int | None, source: str = "subid") -> Parsed[SubordinateRange]:
    """Return the lines of an owner out of the text of a subuid file, reading no others.

    With 100,000 lines this is much faster than reading all of them.
    """
    reader = Reader(SUBID, source)
    text = text if text.endswith("\n") else text + "\n"
    starts = set()
    for owner in {name, None if uid is None else str(uid)} - {None}:
        needle = f"{owner}:"
        at = text.find(needle)
        while at >= 0:
            start = text.rfind("\n", 0, at) + 1
            if not text[start:at].strip(" \t"):
                starts.add(start)
            at = text.find(needle, text.index("\n", at))
    for start in sorted(starts):
        reader.take(text[start : text.index("\n", start)], text.count("\n", 0, start) + 1)
    return Parsed(tuple(reader.entries), tuple(reader.diagnostics), source)


def find_overlaps(entries: Iterable[SubordinateRange], source: str = "subid") -> tuple[Diagnostic, ...]:
    """Return a diagnostic for each range that shares ids with one of another owner before it, by first id.

    They are the first 10,000: a thousand owners of one range share it in half a million pairs.

    An owner who is named by login name in one line and by uid in the other counts as two: only the caller knows.
    """
    ordered = sorted(entries, key=lambda each: (each.start, each.end))
    diagnostics = []
    reach: dict[str, SubordinateRange] = {}  # of each owner, the range that reaches furthest so far
    for each in ordered:
        for other in reach.values():
            if other.owner != each.owner and other.end > each.start:
                reason = (
                    f"ids {each.start} to {min(each.end, other.end) - 1} are also {other.owner}'s, by line {other.line}"
                )
                diagnostics.append(Diagnostic(source, each.line, 1, "range", reason, each.owner, True))
                if len(diagnostics) == DIAGNOSTIC_LIMIT:
                    return tuple(diagnostics)
        reach = {owner: other for owner, other in reach.items() if other.end > each.start}
        if each.owner not in reach or reach[each.owner].end < each.end:
            reach[each.owner] = each
    return tuple(diagnostics)


def allocate_range(
    entries: Iterable[SubordinateRange],
    owner: str,
    *,
    length: int = SUBID_COUNT,
    lowest: int = LOWEST_SUBID,
    highest: int = HIGHEST_SUBID,
) -> SubordinateRange:
    """Return the first range of a length that overlaps none that is given; nothing is written.

    Args:
        entries: all ranges of the file.
        owner: of the new range.
        length: how many ids.
        lowest: the first id that may be given.
        highest: the last id that may be given.

    Raises:
        IdMapError: no gap is large enough, or the length is not positive.
        IdRangeError: a bound is no id.

    Source: login.defs(5), SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT; useradd(8).
    """
    for bound, what in ((lowest, "lowest id"), (highest, "highest id")):
        check_id(bound, what)
    if length < 1:
        raise IdMapError(f"a range of {length} ids")
    start = lowest
    for each in sorted(entries, key=lambda each: each.start):
        if each.start - start >= length:
            break
        start = max(start, each.end)
    if start + length - 1 > highest:
        raise IdMapError(f"no {length} ids are free from {lowest} to {highest}")
    return SubordinateRange(owner, start, length)


def user_namespace_map(number: int, ranges: Iterable[SubordinateRange], *, inside: int = 0) -> IdMap:
    """Return the map of a rootless container: the caller's own id as `inside`, the ranges as the ids around it.

    Args:
        number: uid (or gid) of the caller outside.
        ranges: of the caller; the own id is cut out of them.
        inside: what the caller is inside.

    Raises:
        IdMapError: two ranges overlap.

    >>> user_namespace_map(1000, [SubordinateRange("ada", 100000, 65536)])
    IdMap([(0, 1000, 1), (1, 100000, 65536)])
    """
    extents = [(inside, number, 1)]
    start = 0
    for each in without(ranges, number):
        left, first = each.length, each.start
        if start < inside:  # up to the caller's own id inside, then on after it
            before = min(left, inside - start)
            extents.append((start, first, before))
            start, first, left = start + before, first + before, left - before
        start += start == inside
        if left and start + left <= HIGHEST_ID + 1:
            extents.append((start, first, left))
            start += left
    return IdMap(sorted(extents))


def is_subordinate(ranges: Iterable[SubordinateRange], start: int, length: int) -> bool:
    """Return whether the ranges together hold `length` ids from `start` on; ranges that touch count as one."""
    at = start
    for each in sorted(ranges, key=lambda each: each.start):
        if each.start <= at < each.end:
            at = each.end
    return at >= start + length
