"""`IntFlag` and `IntEnum` as enum has them, without enum, which takes 20 times as long to make such a class.

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from enum import IntFlag
    else:
        from kernelproof.impl._syscalls.numbered import IntFlag

Members have names and values, are integers and print as such; a class is called with a number, indexed by a name, asked
for its length and its members in order; flags combine to flags of their class, and list what they consist of. Not here:
members that are no integers, `auto`, aliases in what is listed, boundaries other than keeping unknown bits.

Source: Python documentation, enum, "IntEnum" and "IntFlag".
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


_new, _or, _and, _xor = int.__new__, int.__or__, int.__and__, int.__xor__


class _Numbered(type):
    """The class of such classes."""

    _by_name: dict[str, _Number]
    _by_value: dict[int, _Number]
    _names: dict[int, str]  # of each value its first
    _listed: tuple[_Number, ...]
    _all: int  # of flags: all bits up to the highest that has a name

    def __new__(metaclass, name: str, bases: tuple[type, ...], body: dict[str, object]) -> _Numbered:
        numbers = {key: value for key, value in body.items() if isinstance(value, int) and not key.startswith("_")}
        for key in numbers:
            del body[key]
        body["__slots__"] = ()
        made = type.__new__(metaclass, name, bases, body)
        made._by_name, made._by_value, made._names = {}, {}, {}
        for key, value in numbers.items():
            made._names.setdefault(value, key)
            made._by_name[key] = member = made._by_value.setdefault(value, made._make(value))
            type.__setattr__(made, key, member)
        made._listed = tuple([member for member in made._by_value.values() if member._is_listed()])
        made._all = (1 << max([0, *made._by_value]).bit_length()) - 1
        return made

    def _make(cls, value: int) -> _Number:
        return int.__new__(cls, value)  # type: ignore[arg-type]

    def __setattr__(cls, name: str, value: object) -> None:
        if name in cls.__dict__.get("_by_name", ()):
            raise AttributeError(f"cannot reassign member {name!r}")
        type.__setattr__(cls, name, value)

    @property
    def __members__(cls) -> dict[str, _Number]:
        return dict(cls._by_name)

    def __getitem__(cls, name: str) -> _Number:
        return cls._by_name[name]

    def __iter__(cls) -> Iterator[_Number]:
        return iter(cls._listed)

    def __len__(cls) -> int:
        return len(cls._listed)

    def __bool__(cls) -> bool:
        return True

    def __contains__(cls, value: object) -> bool:
        return isinstance(value, int) and value in cls._by_value

    def __repr__(cls) -> str:
        return f"<flag {cls.__name__!r}>" if issubclass(cls, IntFlag) else f"<enum {cls.__name__!r}>"


class _Number(int):
    __slots__ = ()

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return type(self), (int(self),)

    def _is_listed(self) -> bool:
        return True

    @property
    def value(self) -> int:
        return int(self)

    def __str__(self) -> str:
        return int.__repr__(self)

    def __format__(self, form: str) -> str:
        return int.__format__(self, form)


class IntEnum(_Number, metaclass=_Numbered):
    """Numbers with names; one that has none can't be made."""

    def __new__(cls, value: int) -> Self:
        try:
            return cls._by_value[value]  # type: ignore[return-value]
        except KeyError:
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}") from None

    @property
    def name(self) -> str:
        """The member's name."""
        return type(self)._names[self]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {int.__repr__(self)}>"


class IntFlag(_Number, metaclass=_Numbered):
    """Bits with names, and what they combine to; unknown bits are kept."""

    def __new__(cls, value: int) -> Self:
        if not isinstance(value, int):
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")
        if value < 0:
            value += max(cls._all + 1, 1 << int(value).bit_length())
        found = cls._by_value.get(value)
        return cls._make(value) if found is None else found  # type: ignore[return-value]

    def _is_listed(self) -> bool:
        return self > 0 and self & (self - 1) == 0

    @property
    def name(self) -> str | None:
        """The member's name, or those of its bits between bars; None for 0 that has no name."""
        found = type(self)._names.get(self)
        if found is not None:
            return found
        names = [member.name for member in self]
        rest = int(self) & ~sum(self)
        return "|".join([*map(str, names), *([str(rest)] if rest else [])]) if names else None

    def __iter__(self) -> Iterator[Self]:
        number = int(self)
        return (member for member in type(self) if int(member) & number)  # type: ignore[misc]

    def __len__(self) -> int:
        return int(self).bit_count()

    def __bool__(self) -> bool:
        return int(self) != 0

    def __contains__(self, other: int) -> bool:
        return int(other) & int(self) == int(other)

    def __repr__(self) -> str:
        name = self.name
        shown = f"{type(self).__name__}.{name}" if name else type(self).__name__
        return f"<{shown}: {int.__repr__(self)}>"

    # A combination is not looked up among the members, as its identity means nothing: that would double its time.
    def __or__(self, other: int) -> Self:
        return _new(type(self), _or(self, other))

    def __and__(self, other: int) -> Self:
        return _new(type(self), _and(self, other))

    def __xor__(self, other: int) -> Self:
        return _new(type(self), _xor(self, other))

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    def __invert__(self) -> Self:
        size = type(self)._all if self <= type(self)._all else (1 << int(self).bit_length()) - 1
        return _new(type(self), _xor(size, self))
