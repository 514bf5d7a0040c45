"""The file behind a graph: who may use which connection when, and what a transaction is.

Everything that touches the database goes through `Store.read`, `Store.read_consistent` or `Store.transaction`; they
take the thread's connection under its lock and turn what SQLite raises into the errors of this package.

Threads of one process write in turn, by a lock of their own. Between processes SQLite decides, which looks again and
again with growing pauses: a process that writes without any gap can keep another one waiting up to its timeout.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

from kernelproof.impl.graphdb import migrate, opening, schema
from kernelproof.impl.graphdb.connection import Connections, Slot, check_not_crossed
from kernelproof.impl.graphdb.errors import Busy, Closed, Forked, GraphError, NotAGraph, ReadOnly, Stale, translate
from kernelproof.impl.graphdb.journal import Journal, plan_journal, read_fstype

P = ParamSpec("P")
T = TypeVar("T")

_MEMORY: Final = Journal("memory", "off", "in memory")


class Store:
    """An open graph file (or one in memory) with its connections.

    Attributes:
        path: The file, None in memory.
        journal: The journal mode, with the reason for it.
        read_only: Whether writes are refused.
        timeout_seconds: How long an operation waits for locks.

    `frozen_at` is the identity of a file that is read without locks: whether it has changed is looked at instead.
    """

    def __init__(
        self,
        path: str | None,
        connections: Connections,
        *,
        journal: Journal,
        read_only: bool,
        timeout_seconds: float,
        frozen_at: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.path = path
        self.journal = journal
        self.read_only = read_only
        self.timeout_seconds = timeout_seconds
        self._connections = connections
        self._frozen_at = frozen_at

    @property
    def label(self) -> str:
        """The file's path for messages."""
        return ":memory:" if self.path is None else self.path

    def read(self, operation: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one statement's worth of reading on this thread's connection.

        Raises:
            Busy: The lock could not be had in time.
            Closed: The database is closed.
            GraphError: What the operation or SQLite refused.
        """
        slot = self._enter()
        try:
            result = operation(slot.connection, *args, **kwargs)
            self._check_frozen()
            return result
        except GraphError:
            raise
        except sqlite3.Error as error:
            raise translate(error, self.label) from error
        finally:
            slot.lock.release()

    def read_consistent(
        self, operation: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run several statements that see one state of the graph; the read transaction is over when it returns.

        Raises:
            Busy: The lock could not be had in time.
            Closed: The database is closed.
            GraphError: What the operation or SQLite refused.
        """
        slot = self._enter()
        try:
            if slot.connection.in_transaction:
                return operation(slot.connection, *args, **kwargs)
            slot.connection.execute("BEGIN")
            try:
                result = operation(slot.connection, *args, **kwargs)
                self._check_frozen()
                return result
            finally:
                slot.connection.execute("ROLLBACK")
        except GraphError:
            raise
        except sqlite3.Error as error:
            raise translate(error, self.label) from error
        finally:
            slot.lock.release()

    def write(self, operation: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in a transaction of its own, or as one step of the transaction under way.

        Raises:
            Busy: The lock could not be had, or readers kept the commit waiting, for the timeout: nothing was changed.
            ReadOnly: The database was opened read-only, or the file refuses writes.
            GraphError: What the operation or SQLite refused: nothing was changed.
        """
        with self.transaction() as connection:
            return operation(connection, *args, **kwargs)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold a write transaction; all of it is done, or nothing. Within another one it is a savepoint.

        Raises:
            Busy: As for `write`.
            ReadOnly: As for `write`.
        """
        if self.read_only:
            raise ReadOnly(f"{self.label} was opened read-only")
        began = time.monotonic()
        self._connections.slot()
        writer = self._connections.acquire_writer(self.timeout_seconds)
        try:
            slot = self._enter()
            try:
                with self._level(slot, time.monotonic() - began):
                    yield slot.connection
            except GraphError:
                raise
            except sqlite3.Error as error:
                raise translate(error, self.label) from error
            finally:
                slot.lock.release()
        finally:
            writer.release()
        with self._connections.committed:
            self._connections.committed.notify_all()

    @property
    def committed(self) -> threading.Condition:
        """What a thread of this process waits on for the next commit of another one."""
        return self._connections.committed

    @contextmanager
    def _level(self, slot: Slot, waited: float) -> Iterator[None]:
        connection, depth = slot.connection, slot.depth
        began = time.monotonic()
        with self._patience(connection, waited):
            connection.execute(f"SAVEPOINT level_{depth}" if depth else "BEGIN IMMEDIATE")
        waited += time.monotonic() - began
        slot.depth += 1
        try:
            yield
            if not self.is_current(slot):
                if slot.pid != os.getpid():
                    raise Forked(f"{self.label}: the transaction belongs to the parent process; nothing was done here")
                raise Closed(f"{self.label} was closed within the transaction, which was undone")
            with self._patience(connection, waited):
                connection.execute(f"RELEASE level_{depth}" if depth else "COMMIT")
        except BaseException:
            self._undo(slot, depth)
            raise
        finally:
            slot.depth -= 1

    def _undo(self, slot: Slot, depth: int) -> None:
        # Not in a child that was forked meanwhile; and SQLite may have rolled back by itself (disk full).
        slot.rollbacks += 1
        if not self.is_current(slot) or not slot.connection.in_transaction:
            return
        if depth:
            slot.connection.execute(f"ROLLBACK TO level_{depth}")
            slot.connection.execute(f"RELEASE level_{depth}")
        else:
            slot.connection.execute("ROLLBACK")

    @contextmanager
    def _patience(self, connection: sqlite3.Connection, waited: float) -> Iterator[None]:
        # The timeout is for the whole operation, SQLite's begins anew with each lock: take off what was waited.
        if waited < 0.01:
            yield
            return
        rest = max(0.0, self.timeout_seconds - waited)
        connection.execute(f"PRAGMA busy_timeout = {int(rest * 1000)}")
        try:
            yield
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(self.timeout_seconds * 1000)}")

    def slot(self) -> Slot:
        """Return this thread's connection; hold its lock while using it."""
        self._check_frozen()
        return self._connections.slot()

    def is_current(self, slot: Slot) -> bool:
        """Tell whether a connection is still this thread's in this process."""
        return self._connections.is_current(slot)

    def _check_frozen(self) -> None:
        if self._frozen_at is not None and opening.read_identity(self.label) != self._frozen_at:
            raise Stale(
                f"{self.label} was written to since it was opened, in a directory that is not writable here, where it "
                "is read without locks: open it again"
            )

    def _enter(self) -> Slot:
        slot = self.slot()
        if not slot.lock.acquire(timeout=self.timeout_seconds):
            raise Busy(f"{self.label}: another thread held the connection for {self.timeout_seconds:g} s")
        return slot

    def backup(self, target: str, *, pages: int, progress: Callable[[int, int], object] | None) -> None:
        """Copy the database as it is at this moment; see `GraphDatabase.backup`."""
        directory, name = os.path.split(os.path.realpath(target))
        temporary = os.path.join(directory, f".{name}.{os.getpid()}.{os.urandom(6).hex()}.new")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            self.read(opening.copy_connection, temporary, pages=pages, progress=progress)
            os.link(temporary, os.path.join(directory, name))
        finally:
            os.unlink(temporary)
        opening.sync_directory(directory)

    def close(self) -> None:
        """Close all connections; in WAL mode the log is written back and emptied first. Closing twice is once.

        Raises:
            Busy: Another thread is within an operation; nothing was closed.
        """
        self._connections.close(self._tidy)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        # The log is written back and emptied; the empty journal of TRUNCATE mode is taken away by SQLite, which knows
        # whether another process needs it. Of the main database only: that of temporary tables has no log, and a
        # checkpoint of all fails while a walk is under way.
        if self.read_only or self.path is None:
            return
        wal = self.journal.mode == "wal"
        connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)" if wal else "PRAGMA journal_mode = DELETE").fetchall()


def open_store(
    path: str | os.PathLike[str],
    *,
    journal: str = "auto",
    create: bool = True,
    read_only: bool = False,
    timeout_seconds: float = 5.0,
    upgrade: bool = True,
    change_limit: int = schema.CHANGE_LIMIT,
) -> Store:
    """Open a graph file; see `GraphDatabase.open`."""
    opening.check_library(sqlite3.sqlite_version_info)
    timeout_seconds = min(timeout_seconds, opening.LONGEST_SECONDS)
    if not timeout_seconds >= 0 or change_limit < 1:
        raise ValueError("timeout_seconds must not be negative, and the change log needs room for one row at least")
    if "\0" in os.fspath(path):
        raise ValueError("a file name holds no NUL")
    name = os.path.realpath(path)
    if create and not read_only and not os.path.lexists(name):
        opening.create_file(name, change_limit=change_limit)
    opening.check_access(name, read_only=read_only)
    opening.check_size(name)
    check_not_crossed(name)
    planned = plan_journal(journal, sqlite3.sqlite_version_info, read_fstype(name))
    options = opening.Options(name, read_only, timeout_seconds, planned)
    identity = opening.read_identity(name)
    options, version = _identify(options, upgrade=upgrade)

    def connect() -> sqlite3.Connection:
        connection = opening.connect(options)
        if version == 0:
            migrate.create_temporary_views(connection)
        return connection

    connections = Connections(connect, path=name, timeout_seconds=timeout_seconds, holds_locks=planned.mode == "wal")
    store = Store(
        name,
        connections,
        journal=planned,
        read_only=read_only,
        timeout_seconds=timeout_seconds,
        frozen_at=identity if options.frozen else None,
    )
    store.slot()  # a file that cannot be used stops the open
    return store


def _identify(options: opening.Options, *, upgrade: bool) -> tuple[opening.Options, int]:
    # Read what the file is, before its journal mode or anything else is changed; upgrade a file of 2014.
    try:
        options, found = _look(options)
    except GraphError:
        raise
    except sqlite3.Error as error:
        raise translate(error, options.path) from None
    schema.check_found(found, options.path)
    if found.kind == "2014" and not options.read_only:
        if not upgrade:
            raise NotAGraph(
                f"{options.path}: found {found.text}; open it with upgrade=True (a copy is kept beside "
                "it), or read_only=True to leave it as it is"
            )
        migrate.upgrade(options)
        return options, schema.VERSION
    return options, found.version


def _look(options: opening.Options) -> tuple[opening.Options, schema.Found]:
    # A file in WAL mode can be read without locks where nothing can be made beside it, if there is no log.
    try:
        with closing(opening.connect(options, look=True)) as looker:
            return options, schema.read_found(looker)
    except sqlite3.Error as error:
        if options.frozen or not (options.read_only and opening.lacks_place(error, options.path)):
            raise
        opening.check_settled(options.path)
    return _look(options._replace(frozen=True))


def memory_store(*, timeout_seconds: float = 5.0, change_limit: int = schema.CHANGE_LIMIT) -> Store:
    """Make a graph in memory, shared by the threads of this process; see `GraphDatabase.in_memory`."""
    opening.check_library(sqlite3.sqlite_version_info)
    timeout_seconds = min(timeout_seconds, opening.LONGEST_SECONDS)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=256)
        opening.set_up(connection)
        connection.execute("BEGIN")
        schema.create(connection, change_limit=change_limit)
        connection.execute("COMMIT")
        return connection

    connections = Connections(connect, path=None, timeout_seconds=timeout_seconds, holds_locks=False)
    return Store(None, connections, journal=_MEMORY, read_only=False, timeout_seconds=timeout_seconds)
