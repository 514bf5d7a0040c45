"""`NamedTuple` as typing has it, without typing: that module costs more at import than all others of a short command.

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from typing import NamedTuple
    else:
        from kernelproof.impl._syscalls.named import NamedTuple

What a class says of its fields, defaults, methods and documentation holds as there. This is for annotations that are
text (`from __future__ import annotations`); classes that inherit from a named tuple are plain ones.

Nor does it need collections, whose `namedtuple` compiles a text for each class. What makes values is a function that
stands here for each number of fields, and gets other names: measured, a third of the time, and seven modules fewer.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

_new = tuple.__new__
_Function: type[Any] = type(lambda: None)

_MAKERS: tuple[Callable[..., Any], ...] = (
    lambda _cls: _new(_cls, ()),
    lambda _cls, a: _new(_cls, (a,)),
    lambda _cls, a, b: _new(_cls, (a, b)),
    lambda _cls, a, b, c: _new(_cls, (a, b, c)),
    lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
    lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
    lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
    lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
    lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
    lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
    lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
    # As many as a mount has.
    lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r, s: _new(
        _cls, (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r, s)
    ),
)
_CODES: dict[int, Any] = {maker.__code__.co_argcount - 1: maker.__code__ for maker in _MAKERS}  # by numbers of fields


class _Tuple(tuple[object, ...]):
    """What all named tuples can do."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, object] = {}  # noqa: RUF012 - as of collections.namedtuple

    @classmethod
    def _make(cls, values: Iterable[object]) -> Self:
        made = _new(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changed: object) -> Self:
        made = self._make(map(changed.pop, self._fields, self))
        if changed:
            raise TypeError(f"Got unexpected field names: {list(changed)!r}")
        return made

    __replace__ = _replace

    def __repr__(self) -> str:
        fields = ", ".join([f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)])
        return f"{type(self).__name__}({fields})"

    def _asdict(self) -> dict[str, object]:
        return dict(zip(self._fields, self, strict=True))

    def __getnewargs__(self) -> tuple[object, ...]:
        return tuple(self)


def _maker(name: str, fields: tuple[str, ...], defaults: tuple[object, ...]) -> Callable[..., object]:
    code = _CODES.get(len(fields))
    if code is None:  # compiled, which takes 0.1 ms
        names = ", ".join(fields)
        code = eval(f"lambda _cls, {names}: _new(_cls, ({names}))").__code__
    named = code.replace(co_varnames=("_cls", *fields), co_name="__new__", co_qualname=f"{name}.__new__")
    made: Callable[..., object] = _Function(named, globals(), "__new__", defaults)
    return made


class _Declared(type):
    def __new__(metaclass, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
        annotations = body.get("__annotations__", {})
        assert isinstance(annotations, dict)
        fields = tuple(annotations)
        defaults = {field: body.pop(field) for field in fields if field in body}
        if fields[len(fields) - len(defaults) :] != tuple(defaults):
            raise TypeError(f"{name}: a field without a default follows one that has one")
        for number, field in enumerate(fields):
            if field.startswith("_"):
                raise ValueError(f"Field names cannot start with an underscore: {field!r}")
            body[field] = _tuplegetter(number, "")
        body["__slots__"] = ()
        body["__match_args__"] = body["_fields"] = fields
        body["_field_defaults"] = defaults
        body["__new__"] = _maker(name, fields, tuple(defaults.values()))
        body.setdefault("__doc__", f"{name}({', '.join(fields)})")
        return type.__new__(type, name, (_Tuple,), body)


NamedTuple = type.__new__(_Declared, "NamedTuple", (), {})
