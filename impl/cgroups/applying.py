"""Planned writes done in the directories that they belong to, and what the kernel made of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from kernelproof.impl.cgroups import writes
from kernelproof.impl.cgroups.formats import MAX
from kernelproof.impl.cgroups.limits import Limits

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from kernelproof.impl.cgroups.directory import Directory
    from kernelproof.impl.cgroups.planning import Step
else:
    from kernelproof.impl._syscalls.named import NamedTuple


class Applied(NamedTuple):
    """One write, and what the kernel made of it.

    Attributes:
        write: what was written.
        effective: what the file says after; None where it can't be read.
        asked: the limit as it was asked for.
        why: in words, why `effective` is something else than what was written; "" where it is not.
    """

    write: writes.Write
    effective: str | None
    asked: object = None
    why: str = ""


class Changes(tuple[Applied, ...]):
    """Writes in their order, and what the kernel keeps of each limit, by the limit's name.

    `changes.memory_max_bytes` is a number (-1 for no limit), or text where it is none; None if nothing was written.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name not in Limits._fields:
            raise AttributeError(name)
        found = [one.effective for one in self if one.write.limit == name and one.effective is not None]
        if not found:
            return None
        text = found[-1].strip()
        return MAX if text == "max" else int(text) if text.lstrip("-").isdecimal() else text


def apply_steps(
    steps: Iterable[Step], limits: Limits, owner_of: Callable[[Step], Directory]
) -> Changes:  # fmt: skip
    """Do writes in order, all or none, and read each file again.

    Args:
        steps: from `planning`.
        limits: that they are for.
        owner_of: gives the directory that a step writes in.

    Raises:
        OSError: a write was refused, and those before it are undone; notes name file, value and limit.
    """
    planned = list(steps)
    owners = _Owned({step.write.file: owner_of(step) for step in planned})
    writes.apply(owners, [step.write for step in planned])
    asked = limits._asdict()
    found = []
    for step in planned:
        write = step.write
        effective = owners.read_or_none(write.file)
        found.append(Applied(write, effective, asked.get(write.limit), explain_rounding(write, effective)))
    return Changes(found)


def explain_rounding(write: writes.Write, effective: str | None, page_bytes: int | None = None) -> str:
    """Why a file says something else than what was written to it; "" where it does not, or says more than one line.

    Args:
        write: what was written.
        effective: what the file says.
        page_bytes: of this machine by default.
    """
    text = (effective or "").strip()
    if effective is None or text == write.value.strip() or "\n" in text:
        return ""
    page = os.sysconf("SC_PAGE_SIZE") if page_bytes is None else page_bytes
    if not (text.isdigit() and write.value.isdigit()):
        return f"the kernel has {text!r}"
    asked, kept = int(write.value), int(text)
    if write.limit.endswith("_bytes") and kept == asked // page * page:
        return f"cut to whole pages of {page} bytes"
    return f"the kernel keeps {kept} in place of {asked}"


class _Owned:
    # Interface files of a cgroup whose controllers have directories of their own.
    def __init__(self, owners: dict[str, Directory]) -> None:
        self._owners = owners

    def read(self, file: str) -> str:
        return self._owners[file].read(file)

    def read_or_none(self, file: str) -> str | None:
        return self._owners[file].read_or_none(file)

    def write(self, file: str, value: str) -> None:
        self._owners[file].write(file, value)
