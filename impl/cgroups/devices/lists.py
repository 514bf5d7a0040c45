"""Rules about devices as version 1 keeps them: all refused but a list, or all allowed but a list. Pure.

devices.list shows what is kept; devices.allow and devices.deny change it. Taking something out of an entry with a
wildcard is not possible there: the kernel would keep the entry as it is, without a word. That is an error here.

Source: cgroup-v1/devices.rst.
"""

from __future__ import annotations

from kernelproof.impl.cgroups.devices.rules import KINDS, DeviceRule, check_rules
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.writes import Write

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

Key = tuple[str, "int | None", "int | None"]


class DeviceList(NamedTuple):
    """What a cgroup keeps.

    Attributes:
        allows_all: all devices but the entries; else none but the entries.
        entries: kinds of access by type and numbers, each as `rwm` has them.
    """

    allows_all: bool
    entries: dict[Key, str]


def parse_list(text: str) -> DeviceList:
    """Parse devices.list.

    Raises:
        FormatError: a line that is no entry.
    """
    entries: dict[Key, str] = {}
    for line in text.splitlines():
        rule = DeviceRule.parse(line)
        if rule.type == "a":
            return DeviceList(True, {})  # the kernel does not show what is refused then
        entries[_key(rule)] = _merge(entries.get(_key(rule), ""), rule.access)
    return DeviceList(False, entries)


def plan_list(rules: Iterable[DeviceRule]) -> DeviceList:
    """What rules come to, from a cgroup that allows nothing.

    Raises:
        LimitError: a rule that no kernel could keep, or one that version 1 can't: it refuses a part of what a
            wildcard allows.
    """
    kept = DeviceList(False, {})
    for rule in check_rules(rules):
        kept = _apply(kept, rule)
    return kept


def _apply(kept: DeviceList, rule: DeviceRule) -> DeviceList:
    if rule.type == "a":
        if rule.access != "rwm" and set(rule.access) != set(KINDS):
            raise LimitError("device rule", rule.format(), "version 1 takes all devices with rwm only")
        return DeviceList(rule.allow, {})
    entries = dict(kept.entries)
    key = _key(rule)
    if rule.allow != kept.allows_all:  # an exception of what holds otherwise
        entries[key] = _merge(entries.get(key, ""), rule.access)
        return DeviceList(kept.allows_all, entries)
    wider = [
        other
        for other, access in entries.items()
        if other != key and _covers(other, key) and set(access) & set(rule.access)
    ]
    if wider:
        shown = DeviceRule(*wider[0], entries[wider[0]]).format()
        raise LimitError("device rule", rule.format(), f"version 1 can't take a part out of {shown}")
    narrower = [other for other in entries if _covers(key, other)]
    for other in narrower:
        left = "".join(kind for kind in entries[other] if kind not in rule.access)
        if left:
            entries[other] = left
        else:
            del entries[other]
    return DeviceList(kept.allows_all, entries)


def plan_writes(now: DeviceList, wanted: DeviceList) -> list[Write]:
    """The fewest writes that lead from one list to another: what both have stays allowed all the time."""
    if now.allows_all != wanted.allows_all or wanted.allows_all:
        first = Write("devices.allow" if wanted.allows_all else "devices.deny", "a", "devices")
        return [first, *_exceptions(wanted, wanted.entries)]
    writes = []
    for key, access in now.entries.items():
        if gone := "".join(kind for kind in access if kind not in wanted.entries.get(key, "")):
            writes.append(Write("devices.deny", DeviceRule(*key, gone).format(), "devices"))
    new = {
        key: missing
        for key, access in wanted.entries.items()
        if (missing := "".join(kind for kind in access if kind not in now.entries.get(key, "")))
    }
    return [*_exceptions(wanted, new), *writes]


def _exceptions(wanted: DeviceList, entries: dict[Key, str]) -> list[Write]:
    file = "devices.deny" if wanted.allows_all else "devices.allow"
    return [Write(file, DeviceRule(*key, access).format(), "devices") for key, access in entries.items()]


def _key(rule: DeviceRule) -> Key:
    return rule.type, rule.major, rule.minor


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and all(
        first in (None, second) for first, second in zip(wide[1:], narrow[1:], strict=True)
    )


def _merge(first: str, second: str) -> str:
    return "".join(kind for kind in "rwm" if kind in first or kind in second)


def minimal(rules: Sequence[DeviceRule]) -> tuple[DeviceRule, ...]:
    """Rules without those that a later one makes void: same devices, all of its kinds."""
    kept: list[DeviceRule] = []
    for rule in reversed(rules):
        covered = any(
            later.type in ("a", rule.type)
            and later.major in (None, rule.major)
            and later.minor in (None, rule.minor)
            and set(rule.access) <= set(later.access)
            for later in kept
        )
        if not covered:
            kept.append(rule)
    return tuple(reversed(kept))
