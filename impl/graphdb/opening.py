"""Opening and making graph files: decisions and first statements, before anything is read from the graph.

A new file is made complete under another name and then linked to its own, so that no process ever sees half of one,
two makers at once end with one file, and an empty file is always somebody else's.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from kernelproof.impl.graphdb import schema
from kernelproof.impl.graphdb.errors import Busy, GraphError, NotAGraph, ReadOnly, StorageError, translate
from kernelproof.impl.graphdb.journal import Journal

CACHE_KIB = 16 * 1024
"""How much of a file a connection may keep in memory, filled as it is read. SQLite's own 2 MiB make a walk of 100,000
entities a sixth slower; 64 MiB no faster than this."""

LONGEST_SECONDS = (2**31 - 1) / 1000
"""What SQLite's busy timeout takes at most, and poll(2) too: 24 days. A longer timeout is as good as this one."""


class Options(NamedTuple):
    """How a connection to a graph file is made; `frozen` leaves out locks, for a file that nobody writes to."""

    path: str
    read_only: bool
    timeout_seconds: float
    journal: Journal
    frozen: bool = False


def format_uri(path: str, mode: str) -> str:
    """Write the URI by which SQLite opens a file.

    Source: SQLite documentation, uri, section 3.1.
    """
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{escaped}?mode={mode}"


# What SQLite answers where it cannot make the files beside a database in WAL mode.
_WITHOUT_PLACE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY_CANTINIT,
    sqlite3.SQLITE_READONLY_CANTLOCK,
    sqlite3.SQLITE_READONLY_DIRECTORY,
)


def lacks_place(error: sqlite3.Error, path: str) -> bool:
    """Tell whether a file could not be read because nothing can be made beside it.

    Source: SQLite documentation, wal, section 5; rescode, SQLITE_READONLY_DIRECTORY.
    """
    code = getattr(error, "sqlite_errorcode", None)
    return code in _WITHOUT_PLACE and not os.access(os.path.dirname(path), os.W_OK, effective_ids=True)


def check_settled(path: str) -> None:
    """Refuse a file that is not all there is of its database: a log or journal beside it has content.

    Raises:
        ReadOnly: One has.
    """
    for suffix in ("-wal", "-journal"):
        beside = path + suffix
        if os.path.exists(beside) and os.stat(beside).st_size:
            raise ReadOnly(
                f"{path}: {beside} holds changes, and reading them needs to write in that directory: open the graph "
                "once where it is writable, or copy both files to such a place"
            )


def read_identity(path: str) -> tuple[int, int, int, int]:
    """Read what changes when a file is written to or replaced."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_library(version: tuple[int, int, int]) -> None:
    """Refuse a SQLite library that lacks what the layout needs.

    Raises:
        StorageError: It is older than 3.38.0.
    """
    if version < schema.MINIMUM_SQLITE:
        raise StorageError(
            f"SQLite {'.'.join(map(str, version))} is too old: the layout needs STRICT tables and the "
            f"built-in JSON functions of {'.'.join(map(str, schema.MINIMUM_SQLITE))}"
        )


def check_access(path: str, *, read_only: bool) -> None:
    """Say why a file could not be used, before SQLite says only that it could not.

    Raises:
        FileNotFoundError: The file or its directory does not exist.
        IsADirectoryError: The path is a directory.
        PermissionError: The file may not be read (or written), or its directory may not be written, where the
            journal has to lie.
    """
    os.stat(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    wanted = [(path, os.R_OK)]
    if not read_only:
        wanted += [(path, os.W_OK), (os.path.dirname(path), os.W_OK | os.X_OK)]
    for place, mode in wanted:
        if not os.access(place, mode, effective_ids=True):
            error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
            error.add_note(
                "needed to open the graph for writing; read_only=True needs only the file"
                if mode & os.W_OK
                else "needed to read the graph"
            )
            raise error


def connect(options: Options, *, look: bool = False) -> sqlite3.Connection:
    """Make a connection, set up as every connection of this package is.

    Args:
        options: The file, and how to open it.
        look: Leave the journal mode as it is, to see first what the file holds. A journal that a crash left is
            rolled back all the same, which is why looking needs the right to write where writing is wanted.

    Foreign keys are enforced only on connections that ask for it, so each one asks and reads the answer back.

    Raises:
        GraphError: SQLite refuses the file, does not enforce foreign keys, or another connection keeps the journal
            mode from being set (`Busy`).

    Source: SQLite documentation, foreignkeys, section 2; pragma, busy_timeout.
    """
    connection = sqlite3.connect(
        format_uri(options.path, "ro" if options.read_only else "rw") + ("&immutable=1" if options.frozen else ""),
        uri=True,
        timeout=min(options.timeout_seconds, LONGEST_SECONDS),
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        set_up(connection)
        if not (options.read_only or look):
            set_journal(connection, options.journal, options.path)
    except sqlite3.Error as error:
        connection.close()
        raise (error if isinstance(error, GraphError) else translate(error, options.path)) from None
    except BaseException:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection) -> None:
    """Set what every connection needs, whatever it opens.

    Raises:
        StorageError: The library was built without foreign keys.
    """
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    if connection.execute("PRAGMA foreign_keys").fetchone() != (1,):
        raise StorageError("this SQLite library does not enforce foreign keys")


def set_journal(connection: sqlite3.Connection, journal: Journal, path: str) -> None:
    """Set the journal mode where it differs, and the level of synchronisation.

    The mode is read first: to set WAL again on a file that has it rebuilt the side files under other processes.

    Raises:
        Busy: The file is in another mode and other connections use it.
        sqlite3.Error: SQLite cannot read the file.
    """
    (present,) = connection.execute("PRAGMA journal_mode").fetchone()
    if present != journal.mode:
        try:
            (present,) = connection.execute(f"PRAGMA journal_mode = {journal.mode}").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        if present != journal.mode:
            raise Busy(
                f"{path}: its journal mode is {present} and other connections keep it from becoming "
                f"{journal.mode} ({journal.reason}); close them, or open it with the mode that they use"
            )
    connection.execute(f"PRAGMA synchronous = {journal.synchronous}")


def create_file(path: str, *, change_limit: int = schema.CHANGE_LIMIT) -> bool:
    """Make a new graph file, complete or not at all.

    Returns:
        Whether it was made; False if the path exists already, by another maker at the same moment perhaps.

    Raises:
        OSError: The directory does not exist (ENOENT), refuses (EACCES, EROFS), or is full (ENOSPC).
        GraphError: SQLite refuses to write it.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.{os.urandom(6).hex()}.new")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644))
    try:
        _write_new(temporary, change_limit)
        made = _link_new(temporary, path)
    finally:
        os.unlink(temporary)
    if made:
        sync_directory(directory)
    return made


def _write_new(path: str, change_limit: int) -> None:
    connection = sqlite3.connect(format_uri(path, "rw"), uri=True, isolation_level=None)
    try:
        set_up(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        schema.create(connection, change_limit=change_limit)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise translate(error, path) from None
    finally:
        connection.close()


def _link_new(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links: claim the name first, then put the whole file in its place.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            return False
        os.rename(temporary, path)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return True


def sync_directory(directory: str) -> None:
    """Write a directory's entries to disk.

    Raises:
        OSError: It cannot be opened (EACCES) or synchronised (EIO).
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_size(path: str) -> None:
    """Refuse a file of no bytes, which SQLite would take for a new database.

    Raises:
        NotAGraph: It has no bytes.
    """
    if os.stat(path).st_size == 0:
        raise NotAGraph(
            f"{path}: found a file of no bytes; this program never makes one, so it is not written over: "
            "move it away, or restore the graph that was there"
        )


def copy_connection(
    connection: sqlite3.Connection, target: str, *, pages: int, progress: Callable[[int, int], object] | None
) -> None:
    """Copy a connection's database into an existing empty file and check the copy.

    Raises:
        sqlite3.Error: The copy cannot be written, or is not sound.
    """
    copy = sqlite3.connect(format_uri(target, "rw"), uri=True, isolation_level=None)
    try:
        told = None if progress is None else (lambda status, rest, total: progress(rest, total))
        connection.backup(copy, pages=pages, progress=told)
        copy.execute("PRAGMA journal_mode = DELETE")
        (answer,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(f"the copy is not sound: {answer}")
    finally:
        copy.close()
