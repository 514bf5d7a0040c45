"""What can go wrong with mounts.

    MountError
    ├── MountinfoError (ValueError)     a line of a mount table that cannot be read
    ├── OptionError (ValueError)        mount options that cannot be what was meant
    │   └── TooLongError                a value that a filesystem context can't be told; mount(2) may take it
    ├── FstabError (ValueError)         a line of fstab that cannot be read
    ├── NoSuchMountError (LookupError)  a table has no such mount
    ├── FsContextError (OSError)        the kernel refused a step of the new mount API; `log` says why
    ├── StillMountedError (OSError)     EBUSY or no answer until the deadline; `holders` says by whom
    └── UnsafePathError (OSError)       a path leads, or was led, to what it must not

Everything else that the kernel refuses is a plain OSError with notes. FsContextError and StillMountedError are also of
the class that Python has for their errno only where that is said.
"""

from __future__ import annotations

import os
from errno import EBUSY

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelproof.impl.mount.holders import Holder


class MountError(Exception):
    """Root of what this package raises of its own."""


class MountinfoError(MountError, ValueError):
    """A line of a mount table cannot be read; `line` is its number, from 1."""

    def __init__(self, line: int, text: str, reason: str) -> None:
        super().__init__(f"mount table, line {line}: {reason}: {text!r}")
        self.line = line
        self.text = text
        self.reason = reason


class OptionError(MountError, ValueError):
    """Mount options that contradict the call, or that the kernel could not be told."""


class TooLongError(OptionError):
    """A value is longer than fsconfig takes: 255 bytes."""


class FstabError(MountError, ValueError):
    """A line of fstab cannot be read; `line` is its number, from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"fstab, line {line}: {reason}")
        self.line = line
        self.reason = reason


class NoSuchMountError(MountError, LookupError):
    """The table has no such mount."""


class LogLine(str):
    """One message of a filesystem context; `level` is "error", "warning" or "info"."""

    __slots__ = ("level",)

    level: str

    def __new__(cls, text: str, level: str) -> LogLine:
        made = super().__new__(cls, text)
        made.level = level
        return made


class FsContextError(MountError, OSError):
    """The kernel refused a step of the new mount API.

    Attributes:
        errno: the kernel's number.
        log: what the filesystem said, each line with its level.
        step: the call and what it was to do.
        option: the first option that was refused, or None.
        fstype: of the context.
        source: the source that was set, or None.
    """

    def __init__(
        self,
        cause: OSError,
        *,
        step: str,
        fstype: str,
        source: str | None = None,
        target: str | None = None,
        option: str | None = None,
        log: Sequence[LogLine] = (),
    ) -> None:
        number = cause.errno or 0
        super().__init__(number, os.strerror(number), source or fstype, None, target)
        self.step = step
        self.fstype = fstype
        self.source = source
        self.option = option
        self.log = tuple(log)
        for note in getattr(cause, "__notes__", ()):
            self.add_note(note)
        self.add_note(f"{step} of {fstype}" + (f" from {source!r}" if source else ""))
        for line in self.log:
            self.add_note(f"{line.level}: {line}")


class StillMountedError(MountError, OSError):
    """EBUSY until the deadline, or ETIMEDOUT: the call has not returned by then.

    Attributes:
        holders: who holds the mount, as far as it could be seen.
        target: the mount point.
    """

    def __init__(self, number: int, target: str, holders: Sequence[Holder], *, waited_seconds: float) -> None:
        super().__init__(number, os.strerror(number), target)
        self.target = target
        self.holders = tuple(holders)
        what = "still busy after" if number == EBUSY else "the call has not returned for"
        self.add_note(f"unmount of {target!r}: {what} {waited_seconds:.1f} s")
        for holder in self.holders:
            self.add_note(f"held by {holder}")
        if not self.holders:
            self.add_note("no holder was seen: one of another user or namespace, or the kernel itself")


class UnsafePathError(MountError, OSError):
    """A path leads, or was led while it was followed, to what it must not."""
