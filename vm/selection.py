"""Which items run in which machine: the marker, the kernels, the repetitions, the copies.

Decides only; it makes no machine.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.vm.guest.snapshot_fixtures import marked_names
from kernelproof.vm.run_options import RunOptions
from kernelproof.vm.variation import draw_shift, repetition_seed

TIMES = ("virtual", "real")
MANY = 500  # items whose collection takes a guest more than a second
DEFAULTS = RunOptions()
_SHIFT = "shift-"


class MachineKey(NamedTuple):
    """What kind of machine an item needs: items of one key share a template.

    Args:
        series: The kernel: "6.12".
        profile: A row of the profiles.
        time: "virtual" or "real".
        part: "first" for the items of the first file where many follow: see `take_first_files`. Or "shift-N" for
            repetitions in virtual time at another pace: a template has one.
    """

    series: str
    profile: str
    time: str
    part: str = ""

    @property
    def shift(self) -> int:
        """The pace of its virtual time."""
        return int(self.part.removeprefix(_SHIFT)) if self.part.startswith(_SHIFT) else 0

    def __str__(self) -> str:
        return f"kernel {self.series}, profile {self.profile}, {self.time} time"


class Assignment(NamedTuple):
    """An item's machine.

    Args:
        key: The kind of machine.
        origin: The item as it was collected: itself, or what it is a copy of. The guest knows that one's node id.
        seed: Of the repetition that the item is; None where items do not vary.
        number: Of the repetition, from 1; 0 where there is one.
    """

    key: MachineKey
    origin: pytest.Item
    seed: int | None = None
    number: int = 0


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


def assign_items(
    items: Sequence[pytest.Item], kernels: Sequence[str], options: RunOptions = DEFAULTS
) -> dict[str, list[pytest.Item]]:
    """The items that run in machines, by kernel, each with its assignment in its stash.

    With several kernels every item is there once a kernel, as a copy with `@KERNEL` behind its name in the node id;
    as a repetition it has `#NUMBER` there.

    Raises:
        UsageError: a marker is wrong; all that are wrong are told at once.
    """
    asked: list[tuple[pytest.Item, str, str]] = []
    problems: list[str] = []
    for item in items:
        try:
            if (wants := read_marker(item)) is not None:
                asked.append((item, wants[0], "real" if options.is_real else wants[1]))
        except pytest.UsageError as error:
            problems.append(str(error))
    if problems:
        raise pytest.UsageError(*problems)
    several = len(kernels) > 1
    return {
        series: [
            _assign(item, assignment, series if several else "")
            for item, profile, time in asked
            for assignment in _repetitions(item, MachineKey(series, profile, time), options)
        ]
        for series in kernels
    }


def take_first_files(items: Sequence[pytest.Item]) -> None:
    """Let the first file of each kind of machine have a template of its own where many other items follow.

    So the first results of a large suite do not wait until the guest has collected all of it. It costs a template more,
    a hundredth of what so many items take. Nothing is done where a fixture is set up once, before the snapshot.
    """
    by_key: dict[MachineKey, list[pytest.Item]] = {}
    for item in items:
        if ASSIGNMENT in item.stash:
            by_key.setdefault(item.stash[ASSIGNMENT].key, []).append(item)
    for key, chosen in by_key.items():
        if key.part:
            continue
        first = list(takewhile(partial(_is_of_file, chosen[0].path), chosen))
        if len(chosen) - len(first) < MANY or any(marked_names(item) for item in chosen):
            continue
        for item in first:
            item.stash[ASSIGNMENT] = item.stash[ASSIGNMENT]._replace(key=key._replace(part="first"))


def _is_of_file(path: Path, item: pytest.Item) -> bool:
    return item.path == path


def _repetitions(item: pytest.Item, key: MachineKey, options: RunOptions) -> list[Assignment]:
    if not options.varies:
        return [Assignment(key, item)]
    if options.repeat == 1:
        return [_repetition(item, key, options.seed, 0)]
    numbers = range(1, options.repeat + 1)
    return [_repetition(item, key, repetition_seed(options.seed, item.nodeid, n), n) for n in numbers]


def _repetition(item: pytest.Item, key: MachineKey, seed: int, number: int) -> Assignment:
    paced = key._replace(part=f"{_SHIFT}{draw_shift(seed)}") if key.time == "virtual" else key
    return Assignment(paced, item, seed, number)


def _assign(item: pytest.Item, assignment: Assignment, series: str) -> pytest.Item:
    suffix = (f"#{assignment.number}" if assignment.number else "") + (f"@{series}" if series else "")
    own = _copy_for(item, suffix) if suffix else item
    own.stash[ASSIGNMENT] = assignment
    return own


def _copy_for(item: pytest.Item, suffix: str) -> pytest.Item:
    # The copy is never set up on the host: it is only listed, scheduled and reported.
    twin = copy.copy(item)
    twin.stash = pytest.Stash()
    twin.name = append_suffix(item.name, suffix)
    nodeid = append_suffix(item.nodeid, suffix)
    if hasattr(item, "_id"):  # pytest 9.2 and later keep a structured id
        twin._id = type(item._id).parse(nodeid)
    else:
        twin._nodeid = nodeid  # type: ignore[attr-defined]
    return twin


def append_suffix(name: str, suffix: str) -> str:
    """A node id or a name with a suffix before its parameters: pytest looks for those behind the first bracket."""
    path, separator, names = name.partition("::") if "::" in name else ("", "", name)
    base, bracket, parameters = names.partition("[")
    return f"{path}{separator}{base}{suffix}{bracket}{parameters}"


def merge_items(items: Sequence[pytest.Item], by_kernel: dict[str, list[pytest.Item]]) -> list[pytest.Item]:
    """The order in which all items run: kernel by kernel, of each one kind of machine after the other.

    The items of the host stay where they were among those of the first kernel.
    """
    first, *rest = ([*group_by_kind(chosen)] for chosen in by_kernel.values())
    copies = Counter(id(item.stash[ASSIGNMENT].origin) for item in first)
    grouped = iter(first)
    order: list[pytest.Item] = []
    for item in items:
        if item.get_closest_marker("machine") is None:
            order.append(item)
        else:
            order.extend(islice(grouped, copies[id(item)]))
    for more in rest:
        order.extend(more)
    return order


def group_by_kind(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """The same items, those that share a template side by side; the kinds in the order of their first items."""
    groups: dict[MachineKey, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(item.stash[ASSIGNMENT].key, []).append(item)
    return chain.from_iterable(groups.values())


def item_location(item: pytest.Item) -> tuple[str, int | None, str]:
    """Where reports say the item is: its location, with the kernel where there are several.

    Not in the form that it has in the node id: pytest's terminal would take its dots for those of a class.
    """
    assignment = item.stash.get(ASSIGNMENT, None)
    if assignment is None or assignment.origin is item:
        return item.location
    path, line, domain = assignment.origin.location
    number = f", repetition {assignment.number}" if assignment.number else ""
    kernel = f" on {assignment.key.series}" if f"@{assignment.key.series}" in item.name else ""
    return path, line, f"{domain}{kernel}{number}"


def seed_for(nodeid: str) -> int:
    """The seed of an item's machine: 63 bits from its node id, so that every run of a test sees the same `random`."""
    return int.from_bytes(hashlib.sha256(nodeid.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1
