"""The limit that holds: the smallest of a cgroup and all above it, and whose it is.

Source: cgroup-v2.rst, Resource Distribution Models, Limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernelproof.impl.cgroups.controllers.cpu import parse_quota
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import MAX, V1_UNLIMITED_BYTES, parse_value


class EffectiveLimit(NamedTuple):
    """A limit that holds.

    Attributes:
        value: in the unit of the limit; -1 for none. Of "cpu" CPUs, 0.5 being half of one.
        cgroup: path of the nearest cgroup that sets it; None for no limit.
    """

    value: float
    cgroup: str | None


def _read_bytes(file: str) -> Callable[[Directory], float | None]:
    def read(directory: Directory) -> float | None:
        text = directory.read_or_none(file)
        value = None if text is None else parse_value(text, file)
        return None if value is None or value == MAX or value >= V1_UNLIMITED_BYTES else value

    return read


def _read_cpu_v2(directory: Directory) -> float | None:
    text = directory.read_or_none("cpu.max")
    quota, period = (MAX, 1) if text is None else parse_quota(text)
    return None if quota == MAX else quota / period


def _read_cpu_v1(directory: Directory) -> float | None:
    quota, period = (directory.read_or_none(f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota is None or period is None or parse_value(quota) < 0:
        return None
    return parse_value(quota) / parse_value(period)


_READERS: dict[int, dict[str, Callable[[Directory], float | None]]] = {
    2: {
        "memory": _read_bytes("memory.max"),
        "memory_high": _read_bytes("memory.high"),
        "swap": _read_bytes("memory.swap.max"),
        "pids": _read_bytes("pids.max"),
        "cpu": _read_cpu_v2,
    },
    1: {
        "memory": _read_bytes("memory.limit_in_bytes"),
        "memory_and_swap": _read_bytes("memory.memsw.limit_in_bytes"),
        "pids": _read_bytes("pids.max"),
        "cpu": _read_cpu_v1,
    },
}


def effective_limit(chain: tuple[Directory, ...], kind: str) -> EffectiveLimit:
    """The limit that holds for a cgroup.

    Args:
        chain: the cgroup, its parent, and so on up to the mounted root, as `Cgroup.chain` gives them.
        kind: "memory", "memory_high" (version 2), "swap" (version 2), "memory_and_swap" (version 1), "pids" or "cpu".

    Raises:
        LimitError: another kind.
        FormatError: a file that can't be read.
    """
    readers = _READERS[chain[0].version]
    if kind not in readers:
        raise LimitError("kind", kind, f"one of {', '.join(readers)}")
    found = EffectiveLimit(MAX, None)
    for directory in chain:
        value = readers[kind](directory)
        if value is not None and (found.value == MAX or value < found.value):
            found = EffectiveLimit(value, directory.path)
    return found
