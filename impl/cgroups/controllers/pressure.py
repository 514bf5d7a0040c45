"""Pressure stall information, a file each for cpu, memory, io and irq.

Source: accounting/psi.rst; cgroup-v2.rst, Core Interface Files.
"""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import FormatError

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

KINDS = ("cpu", "memory", "io", "irq")


class Stall(NamedTuple):
    """Shares of the last 10, 60 and 300 seconds in percent, and the whole time in microseconds."""

    average_10: float
    average_60: float
    average_300: float
    total_microseconds: int


class Pressure(NamedTuple):
    """`some` processes, or all of them (`full`), waited; either is None where the kernel does not tell it."""

    some: Stall | None
    full: Stall | None


def parse_pressure(text: str, file: str = "") -> Pressure:
    """Parse a pressure file.

    Raises:
        FormatError: a line that is not of this format.
    """
    found: dict[str, Stall] = {}
    for line in text.splitlines():
        kind, *pairs = line.split() or [""]
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        try:
            ten, sixty, three_hundred = (float(values[name]) for name in ("avg10", "avg60", "avg300"))
            found[kind] = Stall(ten, sixty, three_hundred, int(values["total"]))
        except (KeyError, ValueError) as error:
            raise FormatError(file, line, "not some or full with averages and a total") from error
    return Pressure(found.get("some"), found.get("full"))
