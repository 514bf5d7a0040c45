"""The record of 2014 for a container's cgroup, its JSON, and what it means in today's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from kernelproof.impl.cgroups.conversions import shares_to_weight, swap_of
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.limits import Limits

# What a container may use: making of any node; null, zero, full, console, tty, tty0, tty1, urandom, random, pts, ptmx,
# tun.
DEFAULT_DEVICES = tuple(
    DeviceRule.parse(line)
    for line in (
        "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 5:1 rwm", "c 5:0 rwm", "c 4:0 rwm",
        "c 4:1 rwm", "c 1:9 rwm", "c 1:8 rwm", "c 136:* rwm", "c 5:2 rwm", "c 10:200 rwm",
    )
)  # fmt: skip


class NotFoundError(NoControllerError):
    """A subsystem is mounted nowhere.

    Attributes:
        subsystem: its name.
    """

    def __init__(self, subsystem: str) -> None:
        super().__init__(f"mountpoint for {subsystem} not found")
        self.subsystem = subsystem


def is_not_found(error: BaseException) -> bool:
    """Whether an error says that a subsystem is mounted nowhere."""
    return isinstance(error, NotFoundError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """What is asked for one container; 0, "" and () are nothing asked.

    Attributes:
        name: of the leaf.
        parent: path of its parent, from the cgroup of PID 1.
        allow_all_devices: else `allowed_devices` only (`device_access` in older files).
        allowed_devices: rules; those of 2014 by default.
        memory: bytes.
        memory_reservation: bytes, the soft limit.
        memory_swap: bytes of memory and swap together; -1 leaves swap alone, 0 is twice the memory.
        cpu_shares: weight against others, 1024 being the default.
        cpu_quota, cpu_period: microseconds.
        cpuset_cpus: a list such as "0-2,4".
        freezer: "FROZEN" or "THAWED".
        slice: of systemd, system.slice by default.
    """

    name: str = ""
    parent: str = ""
    allow_all_devices: bool = False
    allowed_devices: tuple[DeviceRule, ...] = ()
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset_cpus: str = ""
    freezer: str = ""
    slice: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object as files of 2014 have it: what is not asked is left out."""
        found = {key: value for key, value in asdict(self).items() if value}
        if self.allowed_devices:
            found["allowed_devices"] = [rule.format() for rule in self.allowed_devices]
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Cgroup:
        """Read such an object.

        Raises:
            LimitError: an unknown key.
        """
        given = dict(found)
        if "device_access" in given:
            given["allow_all_devices"] = given.pop("device_access")
        for key, value in given.pop("unit_properties", ()):
            if key != "Slice":
                raise LimitError("unit property", key, "only Slice is known")
            given["slice"] = value
        if unknown := given.keys() - {field.name for field in fields(cls)}:
            raise LimitError("cgroup", sorted(unknown), "unknown keys")
        given["allowed_devices"] = tuple(DeviceRule.parse(line) for line in given.get("allowed_devices", ()))
        return cls(**given)

    def limits(self) -> Limits:
        """The limits in today's terms.

        Raises:
            LimitError: memory and swap together are less than the memory.
        """
        swap = None
        if self.memory and self.memory_swap != -1:
            swap = swap_of(self.memory_swap or 2 * self.memory, self.memory)
        return Limits(
            memory_max_bytes=self.memory or None,
            memory_low_bytes=self.memory_reservation or None,
            swap_max_bytes=swap,
            cpu_weight=shares_to_weight(self.cpu_shares) if self.cpu_shares else None,
            cpu_quota_microseconds=self.cpu_quota or None,
            cpu_period_microseconds=self.cpu_period or None,
            cpuset_cpus=self.cpuset_cpus or None,
        )

    def devices(self) -> tuple[DeviceRule, ...]:
        """The devices that are allowed."""
        return (DeviceRule(),) if self.allow_all_devices else self.allowed_devices or DEFAULT_DEVICES
