"""`NamedTuple` as typing has it, without typing: that module costs more at import than all others of a short command.

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from typing import NamedTuple
    else:
        from kernelproof.impl._syscalls.named import NamedTuple

What a class says of its fields, defaults, methods and documentation holds as there. This is for annotations that are
text (`from __future__ import annotations`); classes that inherit from a named tuple are plain ones.
"""

from __future__ import annotations

from collections import namedtuple

_FORBIDDEN = ("__annotations__", "__module__", "__dict__", "__weakref__")


class _Declared(type):
    def __new__(metaclass, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
        fields = body.get("__annotations__", {})
        assert isinstance(fields, dict)
        defaults = [body[field] for field in fields if field in body]
        made = namedtuple(name, list(fields), defaults=defaults, module=str(body["__module__"]))  # type: ignore[misc]
        for key, value in body.items():
            if key not in _FORBIDDEN and key not in fields:
                setattr(made, key, value)
        made.__annotations__ = fields
        return made


NamedTuple = type.__new__(_Declared, "NamedTuple", (), {})
