"""Rules about devices, in order: the last one that says something about an access decides it. Pure.

    rules = [DeviceRule.parse("c 1:3 rwm"), DeviceRule.parse("c *:* m"), DeviceRule.parse("c 10:200 w", allow=False)]
    is_allowed(rules, Device("c", 1, 3), "rw")

Where no rule says anything the access is refused. An access of several kinds is allowed if each of them is.

Source: cgroup-v1/devices.rst; the OCI runtime specification, config-linux, Allowed Device list.
"""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import FormatError, LimitError

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

KINDS = "mrw"  # mknod, read, write: in the order of their bits in a program's context

_MOST_MAJOR, _MOST_MINOR = (1 << 12) - 1, (1 << 20) - 1


class Device(NamedTuple):
    """A device: "b" or "c", and its numbers."""

    type: str
    major: int
    minor: int


class DeviceRule(NamedTuple):
    """One rule.

    Attributes:
        type: "a" for both, "b", "c".
        major, minor: None is any.
        access: some of "r", "w", "m".
        allow: or refuse.
    """

    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"
    allow: bool = True

    @classmethod
    def parse(cls, text: str, *, allow: bool = True) -> DeviceRule:
        """Parse a line of devices.list, or one that devices.allow takes: `c 1:3 rwm`, `b *:* m`, `a`.

        Raises:
            FormatError: not such a line.
        """
        words = text.split()
        if words == ["a"]:
            return cls(allow=allow)
        if len(words) != 3 or words[0] not in ("a", "b", "c") or words[1].count(":") != 1:
            raise FormatError("devices", text, "not type major:minor access")
        numbers = []
        for word in words[1].split(":"):
            if word != "*" and not (word.isascii() and word.isdigit()):
                raise FormatError("devices", text, f"{word!r} is no number and no *")
            numbers.append(None if word == "*" else int(word))
        rule = cls(words[0], numbers[0], numbers[1], words[2], allow)
        rule.check()
        return rule

    def format(self) -> str:
        """The rule as a line, without its allow.

        >>> DeviceRule("c", 1, None, "rm").format()
        'c 1:* rm'
        """
        major, minor = ("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{self.type} {major}:{minor} {self.access}"

    def check(self) -> None:
        """Raises: LimitError: not a rule that a kernel could keep."""
        if self.type not in ("a", "b", "c"):
            raise LimitError("device rule", self.type, "the type is a, b or c")
        if not self.access or set(self.access) - set(KINDS) or len(set(self.access)) != len(self.access):
            raise LimitError("device rule", self.access, "the access is some of r, w and m, each once")
        for number, most, name in ((self.major, _MOST_MAJOR, "major"), (self.minor, _MOST_MINOR, "minor")):
            if number is not None and not 0 <= number <= most:
                raise LimitError("device rule", number, f"a {name} number is 0 to {most}, or None for any")
        if self.type == "a" and (self.major, self.minor) != (None, None):
            raise LimitError("device rule", self.format(), "a means all devices: it has no numbers")

    def matches(self, device: Device) -> bool:
        """Whether the rule says something about a device."""
        return (
            self.type in ("a", device.type)
            and self.major in (None, device.major)
            and self.minor in (None, device.minor)
        )


def deciding_rules(rules: Sequence[DeviceRule], device: Device, access: str) -> dict[str, DeviceRule | None]:
    """For each kind of an access the rule that decides it; None: none says anything, so it is refused."""
    decided: dict[str, DeviceRule | None] = dict.fromkeys(access)
    for rule in rules:
        if rule.matches(device):
            decided |= {kind: rule for kind in access if kind in rule.access}
    return decided


def is_allowed(rules: Sequence[DeviceRule], device: Device, access: str) -> bool:
    """Whether every kind of an access is allowed.

    Args:
        rules: in their order.
        device: which.
        access: some of "r", "w", "m", at least one.
    """
    return all(rule is not None and rule.allow for rule in deciding_rules(rules, device, access).values())


def explain(rules: Sequence[DeviceRule], device: Device, access: str) -> str:
    """Say in words what decides each kind of an access."""
    lines = []
    for kind, rule in deciding_rules(rules, device, access).items():
        what = {"r": "read", "w": "write", "m": "mknod"}[kind]
        if rule is None:
            lines.append(f"{what}: refused, no rule says anything")
        else:
            number = max(index for index, one in enumerate(rules) if one is rule) + 1
            lines.append(f"{what}: {'allowed' if rule.allow else 'refused'} by rule {number}, {rule.format()}")
    return "\n".join(lines)


def check_rules(rules: Iterable[DeviceRule]) -> tuple[DeviceRule, ...]:
    """The rules, checked.

    Raises:
        LimitError: one that no kernel could keep.
    """
    checked = tuple(rules)
    for rule in checked:
        rule.check()
    return checked
