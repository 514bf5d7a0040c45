"""Version 1: lists of devices; acted on by impl.cgroups, seen in devices.list and by opening."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.cgroups.devices.attaching import set_devices
from kernelproof.impl.cgroups.devices.lists import parse_list
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.errors import FormatError

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


def shown(directory: Directory) -> list[str]:
    return Path(directory.path, "devices.list").read_text().splitlines()


def closed(make_v1: MakeV1, *rules: str, name: str = "group") -> Directory:
    """A cgroup that allows nothing but the rules."""
    group = make_v1(name, "devices")
    set_devices(group, tuple(DeviceRule.parse(rule) for rule in rules))
    return group


@behaviour("cgroup-v1.devices.default-all", subject="impl")
def test_all_at_first(make_v1: MakeV1) -> None:
    """A new cgroup has one entry for all devices; the package reads it so."""
    group = make_v1("group", "devices")
    assert shown(group) == ["a *:* rwm"]
    assert parse_list(group.read("devices.list")).allows_all


@behaviour("cgroup-v1.devices.deny-all", subject="impl")
def test_none_at_all(make_v1: MakeV1, in_child: InChild, seen: Seen) -> None:
    """No device can be opened."""
    group = closed(make_v1)

    def attempt() -> list[str]:
        group.write("cgroup.procs", "0")
        return [seen.errno_of(os.open, "/dev/null", flags) for flags in (os.O_RDONLY, os.O_RDWR)]

    assert seen(in_child(attempt)) == ["EPERM", "EPERM"]


@behaviour("cgroup-v1.devices.deny-all-empties-list", subject="impl")
def test_none_is_no_line(make_v1: MakeV1) -> None:
    """The list is empty."""
    group = closed(make_v1)
    assert shown(group) == []
    assert parse_list(group.read("devices.list")) == (False, {})


@behaviour("cgroup-v1.devices.allow-one", subject="impl")
def test_one_device_for_reading(make_v1: MakeV1, in_child: InChild, seen: Seen) -> None:
    """Where all devices are denied but "c 1:3 rm", /dev/null opens for reading and not for writing."""
    group = make_v1("group", "devices")

    def open_each() -> list[str]:
        group.write("cgroup.procs", "0")
        return [
            seen.errno_of(os.open, path, flags)
            for path, flags in (
                ("/dev/null", os.O_RDONLY),
                ("/dev/null", os.O_WRONLY),
                ("/dev/null", os.O_RDWR),
                ("/dev/zero", os.O_RDONLY),
            )
        ]

    assert in_child(open_each) == ["no error"] * 4
    set_devices(group, (DeviceRule("c", 1, 3, "rm"),))
    answers = in_child(open_each)
    assert seen(answers) == ["no error", "EPERM", "EPERM", "EPERM"]


@behaviour("cgroup-v1.devices.allow-mknod", subject="impl")
def test_one_device_to_make(make_v1: MakeV1, tmp_path: Path, in_child: InChild, seen: Seen) -> None:
    """With "c 1:3 rm" that one can be made, and another can't."""
    group = closed(make_v1, "c 1:3 rm")

    def make() -> list[str]:
        group.write("cgroup.procs", "0")
        return [
            seen.errno_of(os.mknod, tmp_path / str(minor), stat.S_IFCHR | 0o600, os.makedev(1, minor))
            for minor in (3, 5)
        ]

    assert seen(in_child(make)) == ["no error", "EPERM"]
    assert (tmp_path / "3").stat().st_rdev == os.makedev(1, 3)


@behaviour("cgroup-v1.devices.list-format", subject="impl")
def test_a_line_an_entry(make_v1: MakeV1) -> None:
    """Type, numbers with * for any, and kinds of access; the package reads and writes them so."""
    group = closed(make_v1, "c 1:3 rwm", "b 8:* rw", "c *:* m")
    assert sorted(shown(group)) == ["b 8:* rw", "c *:* m", "c 1:3 rwm"]
    entries = parse_list(group.read("devices.list")).entries
    assert {key: set(access) for key, access in entries.items()} == {
        ("c", 1, 3): set("rwm"),
        ("b", 8, None): set("rw"),
        ("c", None, None): set("m"),
    }


@behaviour("cgroup-v1.devices.access-accumulates", subject="impl")
def test_kinds_of_access_come_together(make_v1: MakeV1) -> None:
    """Reading, then writing, of one device are one entry of both."""
    group = closed(make_v1)
    for kind in "rw":
        group.write("devices.allow", f"c 1:3 {kind}")
    assert shown(group) == ["c 1:3 rw"]


@behaviour("cgroup-v1.devices.deny-one-access", subject="impl")
def test_one_kind_of_access_goes(make_v1: MakeV1) -> None:
    """Of an entry for reading and writing, reading is left."""
    group = closed(make_v1, "c 1:3 rw")
    set_devices(group, (DeviceRule.parse("c 1:3 r"),))
    assert shown(group) == ["c 1:3 r"]


@behaviour("cgroup-v1.devices.bad-format-einval", subject="impl")
@pytest.mark.parametrize("text", ["x 1:3 rwm", "c 1:3", "c 1:3 rz"], ids=["type", "no-access", "letter"])
def test_what_is_no_entry(make_v1: MakeV1, seen: Seen, text: str) -> None:
    """It is refused, by the package too."""
    group = closed(make_v1)
    assert seen.errno_of(group.write, "devices.allow", text) == "EINVAL"
    with pytest.raises((FormatError, ValueError)):
        DeviceRule.parse(text)
    assert shown(group) == []


@behaviour("cgroup-v1.devices.child-copies-parent", subject="impl")
def test_a_child_begins_as_its_parent(make_v1: MakeV1) -> None:
    """It has the same list."""
    closed(make_v1, "c 1:3 rwm", "c 1:5 r", name="parent")
    assert sorted(shown(make_v1("parent/child", "devices"))) == ["c 1:3 rwm", "c 1:5 r"]


@behaviour("cgroup-v1.devices.child-not-more-than-parent", subject="impl")
def test_no_more_than_the_parent_has(make_v1: MakeV1, seen: Seen) -> None:
    """A child is not allowed what its parent is not."""
    closed(make_v1, "c 1:3 rwm", name="parent")
    child = make_v1("parent/child", "devices")
    rules = (DeviceRule.parse("c 1:3 rwm"), DeviceRule.parse("c 1:5 r"))
    assert seen.errno_of(set_devices, child, rules) == "EPERM"
    assert shown(child) == ["c 1:3 rwm"]


@behaviour("cgroup-v1.devices.deny-propagates", subject="impl")
def test_what_the_parent_loses(make_v1: MakeV1) -> None:
    """Its children lose it too."""
    parent = closed(make_v1, "c 1:3 rwm", "c 1:5 r", name="parent")
    child = make_v1("parent/child", "devices")
    set_devices(parent, (DeviceRule.parse("c 1:3 rwm"),))
    assert shown(child) == ["c 1:3 rwm"]


@behaviour("cgroup-v1.devices.allow-not-propagated", subject="impl")
def test_what_the_parent_gets(make_v1: MakeV1) -> None:
    """Its children have not got it, and may take it."""
    parent = closed(make_v1, name="parent")
    child = make_v1("parent/child", "devices")
    set_devices(parent, (DeviceRule.parse("c 1:5 r"),))
    before = shown(child)
    set_devices(child, (DeviceRule.parse("c 1:5 r"),))
    assert before == []
    assert shown(child) == ["c 1:5 r"]


@behaviour("cgroup-v1.devices.all-with-children-refused", subject="impl")
@pytest.mark.parametrize("file", ["devices.allow", "devices.deny"])
def test_all_or_nothing_with_children(make_v1: MakeV1, seen: Seen, file: str) -> None:
    """All devices at once can't be allowed nor denied where there are children."""
    parent = make_v1("parent", "devices")
    make_v1("parent/child", "devices")
    assert seen.errno_of(parent.write, file, "a") == "EINVAL"
    assert shown(parent) == ["a *:* rwm"]
