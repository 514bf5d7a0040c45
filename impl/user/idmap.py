"""ID maps of user namespaces: which id inside a namespace is which one outside.

A map is what /proc/PID/uid_map holds: extents of (inside, outside, length). This is the algebra of maps, checked
against what the kernel accepts, which answers a bad one with EINVAL or EPERM and no more. Writing a map is in
kernelproof.impl.user.idplan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.user.errors import IdMapError
from kernelproof.impl.user.lines import parse_number

if TYPE_CHECKING:
    from typing import Self

EXTENT_LIMIT = 340  # since Linux 4.15, five before
_AFTER_LAST = 2**32 - 1  # 4294967295 is no id


class Extent(NamedTuple):
    """Ids inside from `inside` on are those outside from `outside` on, `length` of them."""

    inside: int
    outside: int
    length: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.length}"


class IdMap(tuple[Extent, ...]):
    """An ID map: extents that overlap neither inside nor outside."""

    __slots__ = ()

    def __new__(cls, extents: Iterable[Sequence[int]] = ()) -> Self:
        """Make a map.

        Args:
            extents: of (inside, outside, length) each.

        Raises:
            IdMapError: an extent has no ids, reaches beyond 4294967294 or overlaps another; it says which and where.
        """
        checked = tuple(Extent(*each) for each in extents)
        for extent in checked:
            if extent.length < 1 or min(extent) < 0:
                raise IdMapError(f"extent ({extent}): numbers are not negative, and the length is at least 1")
            if max(extent.inside, extent.outside) + extent.length > _AFTER_LAST:
                raise IdMapError(f"extent ({extent}) reaches beyond the last id, 4294967294")
        _check_overlap(checked)
        return tuple.__new__(cls, checked)

    @classmethod
    def identity(cls) -> Self:
        """Return the map of the initial user namespace."""
        return cls([(0, 0, _AFTER_LAST)])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of uid_map or gid_map.

        Raises:
            IdMapError: a line is not three numbers, or as IdMap().
        """
        extents = []
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            if not words:
                continue
            numbers = [parse_number(word, _AFTER_LAST) for word in words]
            problem = next((reason for _, reason in numbers if reason), "")
            if problem or len(words) != 3:
                raise IdMapError(f"line {number} of an ID map: {problem or f'{len(words)} numbers instead of 3'}")
            extents.append([value for value, _ in numbers])
        return cls(extents)

    def __repr__(self) -> str:
        return f"IdMap([{', '.join(str(tuple(extent)) for extent in self)}])"

    def format(self) -> str:
        """Return the text for uid_map: a line for each extent."""
        return "".join(f"{extent}\n" for extent in self)

    def outside_id(self, inside: int) -> int | None:
        """Return what an id inside is outside; None if it is not mapped."""
        for extent in self:
            if 0 <= inside - extent.inside < extent.length:
                return inside - extent.inside + extent.outside
        return None

    def inside_id(self, outside: int) -> int | None:
        """Return what an id outside is inside; None if it is not mapped: there it shows as the overflow id."""
        for extent in self:
            if 0 <= outside - extent.outside < extent.length:
                return outside - extent.outside + extent.inside
        return None

    def inverted(self) -> IdMap:
        """Return the map from outside to inside."""
        return IdMap((outside, inside, length) for inside, outside, length in self)

    def merged(self) -> IdMap:
        """Return the same map with as few extents as it can have, in order of the ids inside."""
        merged: list[Extent] = []
        for extent in sorted(self):
            before = merged[-1] if merged else None
            if (
                before
                and before.inside + before.length == extent.inside
                and (before.outside + before.length == extent.outside)
            ):
                merged[-1] = before._replace(length=before.length + extent.length)
            else:
                merged.append(extent)
        return IdMap(merged)

    def intersect(self, parent: IdMap) -> IdMap:
        """Return the part of this map whose ids outside are mapped inside the parent namespace.

        Each extent is split where the parent's extents end: the kernel takes an extent only if one extent of the
        parent's map has all of it (EPERM else).
        """
        pieces: list[Extent] = []
        for extent in self:
            pieces += (piece for piece, _ in _pieces(extent, parent))
        return IdMap(pieces)

    def split_at(self, parent: IdMap) -> IdMap:
        """Return this map with its extents split at the borders of the parent's.

        Raises:
            IdMapError: the parent does not map an id outside; it says which.
        """
        split = self.intersect(parent)
        missing = _first_gap(self, split)
        if missing is not None:
            raise IdMapError(
                f"extent ({missing[0]}): id {missing[1]} is not mapped in the parent user namespace ({parent!r})"
            )
        return split

    def compose(self, parent: IdMap) -> IdMap:
        """Return the map from inside this namespace to outside its parent's.

        Raises:
            IdMapError: as split_at.
        """
        self.split_at(parent)
        pieces: list[Extent] = []
        for extent in self:
            pieces += (Extent(piece.inside, outside, piece.length) for piece, outside in _pieces(extent, parent))
        return IdMap(pieces)

    def check_writable(self, page_bytes: int = 4096) -> str:
        """Return the text for uid_map if the kernel takes it in the one write that is allowed.

        Raises:
            IdMapError: no extent, more than 340 of them, or a text of a page or more.

        Source: user_namespaces(7), Defining user and group ID mappings.
        """
        text = self.format()
        if not self:
            raise IdMapError("an ID map without extents cannot be written")
        if len(self) > EXTENT_LIMIT:
            raise IdMapError(f"{len(self)} extents are more than the kernel's {EXTENT_LIMIT}")
        if len(text) >= page_bytes:
            raise IdMapError(f"{len(text)} bytes of text do not fit one write of less than a page, {page_bytes} bytes")
        return text


def _check_overlap(extents: tuple[Extent, ...]) -> None:
    for side in (0, 1):
        ordered = sorted(extents, key=lambda extent: extent[side])
        for one, other in pairwise(ordered):
            if one[side] + one.length > other[side]:
                name = ("inside", "outside")[side]
                last = min(one[side] + one.length, other[side] + other.length) - 1
                raise IdMapError(f"extents ({one}) and ({other}) overlap {name}: ids {other[side]} to {last}")


def _pieces(extent: Extent, parent: IdMap) -> Iterable[tuple[Extent, int]]:
    """Yield the pieces of an extent that extents of the parent hold, in order, with their ids outside the parent."""
    end = extent.outside + extent.length
    for inside, outside, length in sorted(parent):
        start, stop = max(extent.outside, inside), min(end, inside + length)
        if start < stop:
            yield Extent(extent.inside + start - extent.outside, start, stop - start), outside + start - inside


def _first_gap(whole: IdMap, part: IdMap) -> tuple[Extent, int] | None:
    for extent in whole:
        at = extent.outside
        for piece in part:
            if piece.outside == at and piece.inside - extent.inside == at - extent.outside:
                at += piece.length
        if at < extent.outside + extent.length:
            return extent, at
    return None
