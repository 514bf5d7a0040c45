"""Records: values that are declared once, compared by what they hold, and never change."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kernelproof.impl.libcontainer.config import own, records, resources
from kernelproof.impl.libcontainer.config.decoding import fields_of
from kernelproof.impl.libcontainer.config.record import Record, json_name
from kernelproof.impl.libcontainer.config.records import Config, Linux, Mount, Namespace, Process, Root, User

if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.record import int32

ALL = tuple(
    dict.fromkeys(
        found
        for module in (records, resources, own)
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Record) and found is not Record
    )
)


def test_a_record_holds_what_it_was_given_and_defaults_for_the_rest() -> None:
    """Fields are given by place or name; what is absent is None, (), or the value beside its declaration."""
    mount = Mount("/proc", "proc", source="proc")
    assert (mount.destination, mount.type, mount.source, mount.options) == ("/proc", "proc", "proc", ())
    assert Process(cwd="/").user == User(0, 0)


def test_a_declaration_is_read_once() -> None:
    """Annotations in small letters are fields in their order, values beside them defaults; the rest is the class's."""

    class Point(Record):
        LIMIT: ClassVar[int] = 7
        x: int32
        y: int32 = 3

    assert (Point.FIELDS, Point.DEFAULTS, Point.TYPES) == (("x", "y"), {"y": 3}, {"x": "int32", "y": "int32"})
    assert (Point.LIMIT, Point(1).values(), hasattr(Point(1), "__dict__")) == (7, (1, 3), False)
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_records_of_one_class_with_equal_fields_are_equal() -> None:
    """Equality and hash go by class and fields."""
    assert Namespace("pid") == Namespace("pid", None)
    assert hash(Namespace("pid")) == hash(Namespace("pid"))
    assert Namespace("pid") != Namespace("pid", "/x")
    assert Root("x") != Namespace("x")


@pytest.mark.parametrize(
    "change", [lambda r: setattr(r, "path", "y"), lambda r: delattr(r, "path")], ids=["set", "del"]
)
def test_a_record_never_changes(change: Callable[[Root], None]) -> None:
    """Setting or deleting a field is refused; replace makes another record."""
    root = Root("x")
    with pytest.raises(AttributeError, match="is a value"):
        change(root)
    assert root.replace(path="y") == Root("y")
    assert root == Root("x")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), {}), (("x", True, 1), {}), (("x",), {"path": "y"}), (("x",), {"nothing": 1})],
    ids=["missing", "many", "twice", "unknown"],
)
def test_what_is_no_field_is_refused(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """A missing, superfluous, doubled or unknown field is a TypeError that names the record."""
    with pytest.raises(TypeError, match="Root"):
        Root(*arguments, **named)
    with pytest.raises(TypeError):
        Root("x").replace(nothing=1)


def test_a_record_is_shown_by_what_is_set() -> None:
    """repr has the fields that differ from their default, as one would write them."""
    assert repr(Config("1.0", linux=Linux((Namespace("pid"),)))) == (
        "Config(oci_version='1.0', linux=Linux(namespaces=(Namespace(type='pid'),)))"
    )


def test_a_record_is_copied_and_pickled_by_value() -> None:
    """copy and pickle give an equal record: it can go to another process."""
    config = Config("1.0", process=Process("/", ("sh",)))
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config  # noqa: S301 - our own bytes


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.__name__)
def test_every_declaration_can_be_read_from_json(record: type[Record]) -> None:
    """Each field of each record has a JSON name and a kind that the decoder knows; records have a docstring."""
    fields = fields_of(record)
    assert len(fields) == len(record.FIELDS)
    assert record.__doc__
    for field in fields.values():
        assert "_" not in field.json


def test_json_names_are_those_of_the_specification() -> None:
    """snake_case becomes camelCase, and the names with their own capitals have them."""
    assert json_name("masked_paths") == "maskedPaths"
    assert json_name("kernel_tcp") == "kernelTCP"
    assert json_name("exec_cpu_affinity") == "execCPUAffinity"
    assert json_name("throttle_read_iops_device") == "throttleReadIOPSDevice"
    assert json_name("class_") == "class"
