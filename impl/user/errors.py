"""What can go wrong with users and groups.

    UserDatabaseError
    ├── ParseError (ValueError)            a line of a file, or a specification, that cannot be read
    ├── IdRangeError (ValueError)          a number that is no user or group id; ErrRange of 2014
    ├── TooLargeError (ValueError)         a file beyond its limit
    ├── NotRegularFileError (ValueError)   a device, FIFO or directory in the place of a file
    ├── IdMapError (ValueError)            an ID map that the kernel would refuse, and why
    ├── ExchangedError (RuntimeError)      somebody exchanged a file while it was worked on
    ├── NoMatchingEntryError (LookupError) no user or group of this name or id
    └── UnsupportedError (NotImplementedError)  the system has no such files; ErrUnsupported of 2014

What the kernel refused stays an OSError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernelproof.impl.user.records import Diagnostic


class UserDatabaseError(Exception):
    """Root of what this package raises."""


class ParseError(UserDatabaseError, ValueError):
    """A line that cannot be used; `diagnostic` has file, line, column and field."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


class IdRangeError(UserDatabaseError, ValueError):
    """A number that is no user or group id: ids are 0 to 4294967294."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: uids and gids must be in range 0-4294967294")


class TooLargeError(UserDatabaseError, ValueError):
    """A file or a line is larger than the limit for it."""


class NotRegularFileError(UserDatabaseError, ValueError):
    """The path names a device, a FIFO, a socket or a directory."""


class IdMapError(UserDatabaseError, ValueError):
    """The kernel, or newuidmap, would refuse this ID map; the text says why."""


class ExchangedError(UserDatabaseError, RuntimeError):
    """A file or directory is another one than a moment ago: somebody works against the call."""


class NoMatchingEntryError(UserDatabaseError, LookupError):
    """No entry has this name or id."""


class UnsupportedError(UserDatabaseError, NotImplementedError):
    """This system has no such database."""


ErrRange = IdRangeError  # the names of 2014
ErrUnsupported = UnsupportedError
