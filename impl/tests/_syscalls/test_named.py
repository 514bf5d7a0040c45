"""Named tuples without typing are those of typing, in all that a class can say."""

from __future__ import annotations

import pickle
import typing

from kernelproof.impl._syscalls.named import NamedTuple


class Ours(NamedTuple):  # type: ignore[misc,valid-type]
    """What it is."""

    first: int
    second: str = "two"

    @property
    def both(self) -> str:
        """Of both."""
        return f"{self.first}{self.second}"

    def __str__(self) -> str:
        return "ours"


class Theirs(typing.NamedTuple):
    """What it is."""

    first: int
    second: str = "two"

    @property
    def both(self) -> str:
        """Of both."""
        return f"{self.first}{self.second}"

    def __str__(self) -> str:
        return "ours"


class Below(Ours):
    """A plain class with more."""

    __slots__ = ()

    def more(self) -> int:
        """One more."""
        return int(self.first) + 1


def test_a_class_is_what_typing_makes() -> None:
    """Fields, defaults, documentation, properties, methods, replacement and order are the same."""
    for made in (Ours(1), Theirs(1)):
        assert made == (1, "two")
        assert made._fields == ("first", "second")
        assert made._field_defaults == {"second": "two"}
        assert made.both == "1two"
        assert str(made) == "ours"
        assert made._replace(first=3) == (3, "two")
        assert type(made).__doc__ == "What it is."
        assert type(made).__annotations__.keys() == {"first", "second"}
    assert repr(Ours(1, second="x")) == "Ours(first=1, second='x')"


def test_a_class_below_is_a_plain_one() -> None:
    """What inherits from a named tuple keeps its fields and adds methods; values can be pickled."""
    assert Below(1).more() == 2
    assert Below(1, "x").both == "1x"
    assert pickle.loads(pickle.dumps(Ours(5))) == Ours(5)  # noqa: S301 - our own value
