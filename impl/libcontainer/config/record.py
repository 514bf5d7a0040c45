"""What a record is: an immutable value whose fields are declared once, as annotations.

One declaration serves Python (slots, equality, `replace`), the type checker (`dataclass_transform`) and JSON (the
annotation's text says which JSON value a field takes). Named tuples cost 20 ms more for the 50 records of this package,
dataclasses 45 (in CPU time, modules they import included), this 1; a command of a container runtime lives for 20.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar, Self, TypeAlias, dataclass_transform

    int32: TypeAlias = int
    int64: TypeAlias = int
    uint16: TypeAlias = int
    uint32: TypeAlias = int
    uint64: TypeAlias = int
else:

    def dataclass_transform(**_: object) -> object:
        """Stands in for typing's: only type checkers read it."""
        return lambda decorated: decorated


# The JSON names that are not the field's name in camelCase.
JSON_NAMES = {
    "block_io": "blockIO",
    "class_": "class",
    "class_id": "classID",
    "clos_id": "closID",
    "container_id": "containerID",
    "disable_oom_killer": "disableOOMKiller",
    "enable_cmt": "enableCMT",
    "enable_mbm": "enableMBM",
    "exec_cpu_affinity": "execCPUAffinity",
    "host_id": "hostID",
    "kernel_tcp": "kernelTCP",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
}

_set = object.__setattr__


def json_name(name: str) -> str:
    """The JSON name of a field: camelCase, but for the few that are not."""
    odd = JSON_NAMES.get(name)
    if odd:
        return odd
    first, *rest = name.split("_")
    return first + "".join([word.capitalize() for word in rest])


class Declared(type):
    """Turns annotations into slots, and the values beside them into defaults."""

    def __new__(metaclass, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Declared:
        types = {field: text for field, text in body.get("__annotations__", {}).items() if field.islower()}
        body["__slots__"] = body["FIELDS"] = body["__match_args__"] = tuple(types)
        body["DEFAULTS"] = {field: body.pop(field) for field in types if field in body}
        body["TYPES"] = types
        return type.__new__(metaclass, name, bases, body)


@dataclass_transform(frozen_default=True)
class Record(metaclass=Declared):
    """A value with named fields that never changes. An absent one is None, or () where several are possible.

    Records of one class with equal fields are equal. Lists are tuples; JSON objects with free keys are tuples of pairs,
    sorted by key.
    """

    FIELDS: ClassVar[tuple[str, ...]]
    DEFAULTS: ClassVar[dict[str, object]]
    TYPES: ClassVar[dict[str, str]]
    SNAKE: ClassVar[bool] = False  # whether its names are in JSON as they are here: container.json of 2014
    OWN: ClassVar[frozenset[str]] = frozenset()  # fields that config.json of the specification does not have

    if not TYPE_CHECKING:

        def __init__(self, *values: object, **named: object) -> None:
            fields = self.FIELDS
            if len(values) > len(fields):
                raise TypeError(f"{type(self).__name__} has {len(fields)} fields: {len(values)} values given")
            given = dict(zip(fields, values, strict=False))
            for field, value in named.items():
                if field not in fields or field in given:
                    raise TypeError(f"{type(self).__name__} has no field {field!r}, or it was given twice")
                given[field] = value
            for field in fields:
                if field in given:
                    _set(self, field, given[field])
                elif field in self.DEFAULTS:
                    _set(self, field, self.DEFAULTS[field])
                else:
                    raise TypeError(f"{type(self).__name__} needs {field}")

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{type(self).__name__} is a value: {name} can't be set; replace() makes another one")

        def __delattr__(self, name: str) -> None:
            raise AttributeError(f"{type(self).__name__} is a value: {name} can't be deleted")

    def values(self) -> tuple[object, ...]:
        """The fields' values, in order."""
        return tuple([getattr(self, field) for field in self.FIELDS])

    def replace(self, **changes: object) -> Self:
        """A record of the same kind with some fields changed.

        Raises:
            TypeError: there is no such field.
        """
        return type(self)(**{**dict(zip(self.FIELDS, self.values(), strict=True)), **changes})

    def set_fields(self) -> Iterator[tuple[str, object]]:
        """The fields that differ from their default, with their values."""
        for field in self.FIELDS:
            value = getattr(self, field)
            if field not in self.DEFAULTS or value != self.DEFAULTS[field]:
                yield field, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), self.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in self.set_fields())})"

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), self.values()
