"""What can go wrong with cgroups.

    CgroupError
    ├── FormatError (ValueError)         an interface file says what its format does not allow
    ├── LimitError (ValueError)          a limit that no kernel takes; says the range
    ├── NoControllerError (LookupError)  a controller, hierarchy or interface file is not there, and why
    ├── BelowUsageError (RuntimeError)   a limit below what is in use was not written
    ├── SystemdError (RuntimeError)      systemd refuses, or its job failed
    └── StillBusyError (OSError)         EBUSY until the deadline; `holders` says by which processes

Everything else that the kernel refuses is a plain OSError with notes: the file, the value, and what helps.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Sequence


class CgroupError(Exception):
    """Root of what this package raises of its own."""


class FormatError(CgroupError, ValueError):
    """The text of an interface file cannot be read."""

    def __init__(self, file: str, text: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}: {text[:200]!r}")
        self.file = file
        self.text = text
        self.reason = reason


class LimitError(CgroupError, ValueError):
    """A limit that no kernel takes."""

    def __init__(self, limit: str, value: object, reason: str) -> None:
        super().__init__(f"{limit} {value!r}: {reason}")
        self.limit = limit
        self.value = value
        self.reason = reason


class NoControllerError(CgroupError, LookupError):
    """A controller, a hierarchy or an interface file is not there."""


class BelowUsageError(CgroupError, RuntimeError):
    """A limit is below what is in use: on version 2 the kernel would kill for it.

    Attributes:
        limit: the limit's name.
        asked: what was asked for, in the limit's unit.
        usage: what is in use, in the same unit.
    """

    def __init__(self, limit: str, asked: int, usage: int) -> None:
        super().__init__(
            f"{limit} {asked} is below the usage {usage}: lower memory.high first and wait, or ask without check_usage"
        )
        self.limit = limit
        self.asked = asked
        self.usage = usage


class SystemdError(CgroupError, RuntimeError):
    """systemd refuses, or its job failed.

    Attributes:
        call: the method.
        name: of the error as D-Bus has it, or the job's result: "failed", "timeout", "canceled", "dependency".
        text: what systemd says.
    """

    def __init__(self, call: str, name: str, text: str) -> None:
        super().__init__(f"{call}: {name}: {text}")
        self.call = call
        self.name = name
        self.text = text


class StillBusyError(CgroupError, OSError):
    """EBUSY until the deadline.

    Attributes:
        holders: processes that are still inside, as (pid, state, name).
    """

    def __init__(self, number: int, path: str, holders: Sequence[tuple[int, str, str]], waited_seconds: float) -> None:
        super().__init__(number, os.strerror(number), path)
        self.holders = tuple(holders)
        self.add_note(f"removal of {path!r}: still busy after {waited_seconds:.1f} s")
        for pid, state, name in self.holders:
            self.add_note(f"inside: process {pid} ({name}), state {state}")
        if self.holders:
            self.add_note("kill them or move them out first; one in state D ends when its device answers")
