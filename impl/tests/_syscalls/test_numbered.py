"""Numbers with names behave as those of enum, which they stand for where its cost counts."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from typing import Any

import pytest

from kernelproof.impl._syscalls import numbered


def make(flag: Any, number: Any) -> tuple[Any, Any]:
    """The same two classes of either kind."""

    class Bits(flag):  # type: ignore[misc]  # either kind
        """Of some word."""

        X = 1
        Y = 2
        Z = 4
        HIGH = 1 << 40
        MOST = 7
        NONE = 0
        LAST = 4

        def doubled(self) -> int:
            return int(self) * 2

    class Kind(number):  # type: ignore[misc]
        P = 5
        Q = 6

    return Bits, Kind


EXPRESSIONS: dict[str, Callable[[Any, Any], object]] = {
    "members": lambda bits, kind: (list(map(str, bits)), list(map(repr, kind)), len(bits), len(kind)),
    "all names": lambda bits, kind: [(name, int(one)) for name, one in bits.__members__.items()],
    "combined": lambda bits, kind: [repr(bits.X | bits.Y), repr(bits.X | 2), repr(2 | bits.X), str(bits.X | bits.Y)],
    "cut": lambda bits, kind: [repr(bits.MOST & 3), repr(-1 & bits.MOST), repr(bits.MOST ^ bits.Z)],
    "inverted": lambda bits, kind: [repr(~bits.X & bits.MOST), int(~bits.X & 0xFF)],
    "negative": lambda bits, kind: [repr(bits(-2)), int(bits(-1)), repr(bits(~bits.Y))],
    "unknown bits": lambda bits, kind: [repr(bits(24)), repr(bits.X | 8), int(bits(24))],
    "nothing": lambda bits, kind: [bool(bits.NONE), repr(bits(0)), bits(0).name],
    "names": lambda bits, kind: [bits.X.name, (bits.X | bits.Y).name, bits.LAST.name, kind.Q.name, bits.HIGH.name],
    "values": lambda bits, kind: [bits.X.value, type(bits.X.value), kind.P.value, bits.X + 1, type(bits.X + 1)],
    "inside": lambda bits, kind: [bits.X in bits.MOST, bits.X in bits.Y, list(map(int, bits.MOST)), len(bits.MOST)],
    "by name": lambda bits, kind: [repr(bits["LAST"]), repr(kind["P"])],
    "by number": lambda bits, kind: [repr(kind(6)), repr(bits(4)), bits(4) is bits.Z, kind(5) is kind.P],
    "text": lambda bits, kind: [f"{kind.P} {bits.X!s} {bits.MOST:03x} {bits.X!r}", str(kind.Q)],
    "equal": lambda bits, kind: [bits.X == 1, kind.P == 5, hash(bits.X) == hash(1), {bits.X: 1}[1]],
    "methods": lambda bits, kind: [bits.Z.doubled(), isinstance(bits.X, int), bits.__doc__],
    "copies": lambda bits, kind: [copy.copy(bits.X) is bits.X, repr(copy.deepcopy(bits.X | bits.Y))],
    "is one": lambda bits, kind: [isinstance(bits.X | bits.Z, bits), isinstance(5, kind), bool(bits)],
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_as_enum_has_it(name: str) -> None:
    """Whatever is done with members gives what the standard library's give."""
    expression = EXPRESSIONS[name]
    ours = make(numbered.IntFlag, numbered.IntEnum)
    assert expression(*ours) == expression(*make(enum.IntFlag, enum.IntEnum))


def test_what_is_refused() -> None:
    """A number without a name is no member, a member is not replaced, text is no flag, a name that is none is said."""
    bits, kind = make(numbered.IntFlag, numbered.IntEnum)
    with pytest.raises(ValueError, match="9 is not a valid"):
        kind(9)
    with pytest.raises(ValueError, match="'1' is not a valid"):
        bits("1")
    with pytest.raises(AttributeError, match="cannot reassign member 'X'"):
        bits.X = 2
    with pytest.raises(KeyError):
        bits["W"]
    with pytest.raises(TypeError):
        bits.X | "1"
