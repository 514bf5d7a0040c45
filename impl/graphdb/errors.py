"""What can go wrong in a graph database.

GraphError
├── InvalidPath        (ValueError)                a path or a name that cannot be one
├── InvalidAttributes  (ValueError)                attributes that are no JSON object
├── NotFound           (LookupError)               no such path, name or entity
├── NameTaken          (sqlite3.IntegrityError)    the parent already has an edge of that name
├── Conflict           (RuntimeError)              compare-and-set saw another entity than expected
├── RootProtected      (ValueError)                the root cannot be deleted, purged, moved or renamed
├── CycleError         (ValueError)                the edge would link a thing below itself, or a cycle has no order
├── LimitExceeded      (RuntimeError)              more rows than the caller allowed
├── Stale              (RuntimeError)              the graph changed under a walk
├── Resync             (LookupError)               the change log no longer reaches back that far
├── Busy               (TimeoutError)              another writer or reader held the file for too long
├── DeadlineExceeded   (TimeoutError)              the caller's deadline for a walk passed
├── Closed             (RuntimeError)              used after close
│   └── Forked                                     used in a child that was forked within a transaction
├── ReadOnly           (sqlite3.OperationalError)  the file, its directory or the connection refuses writes
├── NotAGraph          (ValueError)                the file is empty, foreign, or of another version
├── Damaged            (sqlite3.DatabaseError)     SQLite found the file corrupt
└── StorageError       (sqlite3.OperationalError)  any other refusal of SQLite, its code in the text

What the kernel refused while a file is opened (no such directory, permission) stays a plain `OSError`.
"""

from __future__ import annotations

import sqlite3


class GraphError(Exception):
    """Root of all errors of this package."""


class InvalidPath(GraphError, ValueError):
    """A path or a name that cannot be one: relative, an empty part, `.`, `..`, a `/` or a NUL within a name."""


class InvalidAttributes(GraphError, ValueError):
    """Attributes that are not a JSON object."""


class NotFound(GraphError, LookupError):
    """No such path, name or entity."""


class NameTaken(GraphError, sqlite3.IntegrityError):
    """The parent already has an edge of that name."""


class Conflict(GraphError, RuntimeError):
    """Compare-and-set: the name leads elsewhere than expected.

    Attributes:
        expected: The id that the caller expected, None for "no such name".
        found: The id that was there, None for none.
    """

    def __init__(self, path: str, expected: str | None, found: str | None) -> None:
        super().__init__(f"{path}: expected {expected!r}, found {found!r}; read it again and decide anew")
        self.expected = expected
        self.found = found


class RootProtected(GraphError, ValueError):
    """The root cannot be deleted, purged, moved, renamed or put below a name twice."""


class CycleError(GraphError, ValueError):
    """An edge that would close a cycle where none is allowed, or a cycle where an order was asked for.

    Attributes:
        cycle: The ids along the cycle where they are known, else empty.
    """

    def __init__(self, message: str, cycle: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.cycle = cycle


class LimitExceeded(GraphError, RuntimeError):
    """More rows than the caller allowed; never a silently shortened answer.

    Attributes:
        limit: The number of rows that was allowed.
    """

    def __init__(self, limit: int, what: str) -> None:
        super().__init__(
            f"{what} has more than {limit} rows; give a larger max_rows, a smaller max_depth, or "
            "ask for entities instead of paths"
        )
        self.limit = limit


class Stale(GraphError, RuntimeError):
    """The graph changed, or the process forked, between two steps of a walk.

    Also: a file that is read without locks, where nothing can be made beside it, was written to.

    Attributes:
        cursor: Where the walk stood; `walk(..., resume=cursor)` goes on only in an unchanged graph.
    """

    def __init__(self, message: str, cursor: object = None) -> None:
        super().__init__(message)
        self.cursor = cursor


class Resync(GraphError, LookupError):
    """The change log no longer holds all changes since the given sequence: read the graph anew.

    Attributes:
        oldest: The first sequence from which the log is complete.
        newest: The last sequence at this moment; follow `changes(since=newest)` after reading the graph.
    """

    def __init__(self, since: int, oldest: int, newest: int) -> None:
        super().__init__(
            f"changes after {since} are gone or unlisted, the log is complete after {oldest}: "
            f"read the graph anew, then follow from {newest}"
        )
        self.oldest = oldest
        self.newest = newest


class Busy(GraphError, TimeoutError):
    """Another writer, or a reader that holds its snapshot, kept the file locked beyond the timeout."""


class DeadlineExceeded(GraphError, TimeoutError):
    """The caller's deadline passed before a walk was over.

    Attributes:
        cursor: Where the walk stood.
    """

    def __init__(self, message: str, cursor: object = None) -> None:
        super().__init__(message)
        self.cursor = cursor


class Closed(GraphError, RuntimeError):
    """The database was used after close."""


class Forked(Closed):
    """The process was forked while the database was in a transaction; the child cannot use it."""


class ReadOnly(GraphError, sqlite3.OperationalError):
    """The file, its directory or the way it was opened refuses writes."""


class NotAGraph(GraphError, ValueError):
    """The file is empty, belongs to another program, or was made by a newer version of this one."""


class Damaged(GraphError, sqlite3.DatabaseError):
    """SQLite found the file corrupt; nothing was changed."""


class StorageError(GraphError, sqlite3.OperationalError):
    """Any other refusal of SQLite (disk full, input/output error); its code is in the text."""


_REMEDIES: dict[int, tuple[type[GraphError], str]] = {
    sqlite3.SQLITE_BUSY: (Busy, "another connection holds the lock; give a longer timeout_seconds or try again"),
    sqlite3.SQLITE_LOCKED: (Busy, "a statement of this connection is still running"),
    sqlite3.SQLITE_READONLY: (ReadOnly, "open it for writing, or make the file and its directory writable"),
    sqlite3.SQLITE_PERM: (ReadOnly, "make the file and its directory accessible"),
    sqlite3.SQLITE_CORRUPT: (Damaged, "restore a backup, or salvage with the sqlite3 shell's .recover"),
    sqlite3.SQLITE_NOTADB: (NotAGraph, "the file does not begin as an SQLite database does"),
}


def is_unique_violation(error: BaseException) -> bool:
    """Tell whether SQLite refused a row because a unique key exists already.

    The extended result code decides, not the message, whose wording differs between SQLite 3.6, 3.7 and 3.8.

    Source: SQLite documentation, rescode, SQLITE_CONSTRAINT_UNIQUE and SQLITE_CONSTRAINT_PRIMARYKEY.
    """
    codes = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in codes


def translate(error: sqlite3.Error, path: str) -> GraphError:
    """Make the error of this package from one of `sqlite3`, choosing by result code.

    Args:
        error: What the `sqlite3` module raised.
        path: The database file, for the text.
    """
    code = getattr(error, "sqlite_errorcode", None)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code is None:
        return StorageError(f"{path}: {error} ({name})")
    kind, remedy = _REMEDIES.get(code & 0xFF, (StorageError, "see SQLite's documentation of this result code"))
    made = kind(f"{path}: {error} ({name}); {remedy}")
    if isinstance(made, sqlite3.Error):
        made.sqlite_errorcode, made.sqlite_errorname = code, name
    return made
