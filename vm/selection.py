"""Which items run in which machine: the marker, the kernels, the copies.

Decides only; it makes no machine.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import pytest

TIMES = ("virtual", "real")


class MachineKey(NamedTuple):
    """What kind of machine an item needs: items of one key share a template.

    Args:
        series: The kernel: "6.12".
        profile: A row of the profiles.
        time: "virtual" or "real".
    """

    series: str
    profile: str
    time: str

    def __str__(self) -> str:
        return f"kernel {self.series}, profile {self.profile}, {self.time} time"


class Assignment(NamedTuple):
    """An item's machine.

    Args:
        key: The kind of machine.
        origin: The item as it was collected: itself, or what it is a copy of. The guest knows that one's node id.
    """

    key: MachineKey
    origin: pytest.Item


ASSIGNMENT = pytest.StashKey[Assignment]()


def read_marker(item: pytest.Item) -> tuple[str, str] | None:
    """Profile and time that the closest `machine` marker asks for, or None without one.

    Raises:
        UsageError: the marker has other arguments than `profile=` and `time=`, or an unknown time.
    """
    marker = item.get_closest_marker("machine")
    if marker is None:
        return None
    profile = marker.kwargs.get("profile", "plain")
    time = marker.kwargs.get("time", "virtual")
    if marker.args or not marker.kwargs.keys() <= {"profile", "time"} or not isinstance(profile, str):
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.machine takes profile= and time=, not {marker.args} {marker.kwargs}"
        )
    if time not in TIMES:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.machine: time={time!r} is neither 'virtual' nor 'real'")
    return profile, time


def assign_items(items: Sequence[pytest.Item], kernels: Sequence[str]) -> dict[str, list[pytest.Item]]:
    """The items that run in machines, by kernel, each with its assignment in its stash.

    With several kernels every item is there once a kernel, as a copy with `@KERNEL` behind its name in the node id.

    Raises:
        UsageError: a marker is wrong; all that are wrong are told at once.
    """
    asked: list[tuple[pytest.Item, str, str]] = []
    problems: list[str] = []
    for item in items:
        try:
            if (wants := read_marker(item)) is not None:
                asked.append((item, *wants))
        except pytest.UsageError as error:
            problems.append(str(error))
    if problems:
        raise pytest.UsageError(*problems)
    several = len(kernels) > 1
    return {
        series: [
            _assign(_copy_for(item, series) if several else item, Assignment(MachineKey(series, profile, time), item))
            for item, profile, time in asked
        ]
        for series in kernels
    }


def _assign(item: pytest.Item, assignment: Assignment) -> pytest.Item:
    item.stash[ASSIGNMENT] = assignment
    return item


def _copy_for(item: pytest.Item, series: str) -> pytest.Item:
    # The copy is never set up on the host: it is only listed, scheduled and reported.
    twin = copy.copy(item)
    twin.stash = pytest.Stash()
    twin.name = append_kernel(item.name, series)
    nodeid = append_kernel(item.nodeid, series)
    if hasattr(item, "_id"):  # pytest 9.2 and later keep a structured id
        twin._id = type(item._id).parse(nodeid)
    else:
        twin._nodeid = nodeid  # type: ignore[attr-defined]
    return twin


def append_kernel(name: str, series: str) -> str:
    """A node id or a name with the kernel before its parameters: pytest looks for those behind the first bracket."""
    path, separator, names = name.partition("::") if "::" in name else ("", "", name)
    base, bracket, parameters = names.partition("[")
    return f"{path}{separator}{base}@{series}{bracket}{parameters}"


def merge_items(items: Sequence[pytest.Item], by_kernel: dict[str, list[pytest.Item]]) -> list[pytest.Item]:
    """The order in which all items run: the others and the first kernel's where they were, then kernel by kernel."""
    first, *rest = by_kernel.values()
    by_origin = {id(item.stash[ASSIGNMENT].origin): item for item in first}
    order: list[pytest.Item] = []
    for item in items:
        if item.get_closest_marker("machine") is None:
            order.append(item)
        elif id(item) in by_origin:
            order.append(by_origin[id(item)])
    for more in rest:
        order.extend(more)
    return order


def item_location(item: pytest.Item) -> tuple[str, int | None, str]:
    """Where reports say the item is: its location, with the kernel where there are several.

    Not in the form that it has in the node id: pytest's terminal would take its dots for those of a class.
    """
    assignment = item.stash.get(ASSIGNMENT, None)
    if assignment is None or assignment.origin is item:
        return item.location
    path, line, domain = assignment.origin.location
    return path, line, f"{domain} on {assignment.key.series}"


def seed_for(nodeid: str) -> int:
    """The seed of an item's machine: 63 bits from its node id, so that every run of a test sees the same `random`."""
    return int.from_bytes(hashlib.sha256(nodeid.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1
