"""Connections to one database: one a thread, none across a fork, every use under a lock.

SQLite's locks belong to the process, and its library remembers in memory which ones it holds. A child made by fork
inherits that memory but not the locks, so a connection that crosses a fork can corrupt the file. Hence:

- before a fork, wait until no other thread is within an operation, so that no lock is held; in WAL mode, where every
  open connection holds one, close the idle connections;
- in the child, keep the parent's connections unused and never close them, and open new ones when first asked;
- where the fork happens within a transaction, point the child's descriptors of the file at /dev/null (its exit would
  roll the parent's transaction back otherwise) and refuse the database in the child.

Sources: SQLite documentation, howtocorrupt, section 2.6 (connections carried across fork) and 2.2.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from kernelproof.impl.graphdb.errors import Busy, Closed, Forked

# Connections of a parent process, in its child: to drop the last reference would close them there. They live as long
# as the child, hence here and not in an object that may end earlier.
_ABANDONED: Final[list[sqlite3.Connection]] = []
# Files that a fork within a transaction made unusable in this process: SQLite's memory of their locks is wrong.
_CROSSED: Final[set[tuple[int, int]]] = set()
# All pools of this process, for the hooks around fork.
_POOLS: Final[weakref.WeakSet[Connections]] = weakref.WeakSet()

SIDE_FILES = ("", "-journal", "-wal", "-shm")


class WriterLock(Protocol):
    """What `threading.RLock()` makes, which has no name for type checkers before Python 3.13."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock."""

    def release(self) -> None:
        """Give it back."""


class Slot:
    """A connection with its lock, the depth of its open transactions, and the thread and process that use it.

    `walks` and `rollbacks` count, for names of temporary tables and to know when those are gone.
    """

    __slots__ = ("connection", "depth", "lock", "pid", "rollbacks", "thread", "walks")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = threading.RLock()
        self.depth = 0
        self.pid = os.getpid()
        self.thread = weakref.ref(threading.current_thread())
        self.walks = 0
        self.rollbacks = 0


class Connections:
    """The connections of one open database.

    Args:
        connect: Makes a new connection, set up for use.
        path: The database file, None for one in memory (which all threads then share).
        timeout_seconds: How long a fork or a close waits for another thread's operation.
        holds_locks: Whether an idle connection holds a lock on the file, as in WAL mode.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        path: str | None,
        timeout_seconds: float,
        holds_locks: bool,
    ) -> None:
        self._connect = connect
        self._path = path
        self._timeout = timeout_seconds
        self._holds_locks = holds_locks
        self._local = threading.local()
        self._mutex = threading.Lock()
        self._slots: list[Slot] = []
        self._pid = os.getpid()
        self._closed: type[Closed] | None = None
        self._restless = False
        self._writer: WriterLock = threading.RLock()
        self.committed = threading.Condition()
        _POOLS.add(self)

    def slot(self) -> Slot:
        """Return this thread's connection, opening it if this is the thread's first use.

        Raises:
            Closed: The database was closed.
            Forked: It was in a transaction when this process was forked off.
            sqlite3.Error: The file cannot be opened any more.
        """
        if self._closed is not None:
            raise self._closed("the database is closed" if self._closed is Closed else _CROSSED_TEXT)
        if self._pid != os.getpid():  # a fork that ran no hooks: clone(2) from C
            self._forget()
            return self.slot()
        slot: Slot | None = getattr(self._local, "slot", None)
        if slot is None:
            slot = self._open()
        return slot

    def is_current(self, slot: Slot) -> bool:
        """Tell whether a connection is still this thread's in this process."""
        return self._closed is None and self._pid == os.getpid() and getattr(self._local, "slot", None) is slot

    def acquire_writer(self, timeout_seconds: float) -> WriterLock:
        """Take the lock that lets one thread of this process write at a time, and return it for its release.

        Raises:
            Busy: Another thread held it for the whole time.
        """
        writer = self._writer
        if not writer.acquire(timeout=max(0.0, timeout_seconds)):
            raise Busy(
                f"{self._path or ':memory:'}: another thread of this process is writing since {timeout_seconds:g} s"
            )
        return writer

    def close(self, last: Callable[[sqlite3.Connection], object]) -> None:
        """Close all connections; twice is once.

        Args:
            last: Called with one idle connection before it is closed, to leave the file tidy.

        Raises:
            Busy: Another thread was within an operation for the whole timeout; everything stays open.
        """
        if self._closed is not None or self._pid != os.getpid():
            return
        with self._mutex:
            taken = self._take_all()
            try:
                if len(taken) < len(self._slots):
                    raise Busy("another thread is within an operation or a transaction of this database")
                self._closed = Closed
                for position, slot in enumerate(taken):
                    if position == len(taken) - 1 and not slot.depth:
                        last(slot.connection)
                    slot.connection.close()
                self._slots.clear()
            finally:
                for slot in taken:
                    slot.lock.release()
        _POOLS.discard(self)

    def _open(self) -> Slot:
        with self._mutex:
            if self._path is None and self._slots:
                slot = self._slots[0]
            else:
                self._drop_ended()
                slot = Slot(self._connect())
                self._slots.append(slot)
            self._local.slot = slot
            return slot

    def _drop_ended(self) -> None:
        # A thread that ended without close() left its connection here.
        for slot in list(self._slots):
            thread = slot.thread()
            if thread is None or not thread.is_alive():
                slot.connection.close()
                self._slots.remove(slot)

    def _take_all(self) -> list[Slot]:
        taken: list[Slot] = []
        for slot in self._slots:
            if not slot.lock.acquire(timeout=self._timeout):
                break
            taken.append(slot)
        return taken

    # --- around fork -------------------------------------------------------------------------------------------------

    def before_fork(self) -> Callable[[], None]:
        """Come to rest before a fork; return what undoes it in the parent."""
        self._mutex.acquire()
        taken = self._take_all()
        self._restless = len(taken) < len(self._slots)
        if self._holds_locks and not self._restless:
            idle = [slot for slot in taken if not slot.depth]
            for slot in idle:
                slot.connection.close()
                self._slots.remove(slot)
            if idle:
                self._local = threading.local()
                for slot in self._slots:
                    if slot.thread() is threading.current_thread():
                        self._local.slot = slot

        def resume() -> None:
            for slot in taken:
                slot.lock.release()
            self._mutex.release()

        return resume

    def _forget(self) -> None:
        crossed = self._restless or any(slot.depth or slot.connection.in_transaction for slot in self._slots)
        _ABANDONED.extend(slot.connection for slot in self._slots)
        self._slots = []
        self._local = threading.local()
        self._mutex = threading.Lock()
        self._writer = threading.RLock()
        self.committed = threading.Condition()
        self._pid = os.getpid()
        if self._path is None or crossed:
            self._closed = Forked
        if crossed and self._path is not None:
            _cut_off(self._path)


_CROSSED_TEXT = (
    "this process was forked off while the database was in a transaction (or is in memory and belongs to "
    "the parent): start the child before, or by spawn"
)


def check_not_crossed(path: str) -> None:
    """Refuse a file whose locks SQLite misremembers in this process.

    Raises:
        Forked: This process was forked off within a transaction on that file.
    """
    if _CROSSED:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in _CROSSED:
            raise Forked(f"{path}: {_CROSSED_TEXT}")


def _cut_off(path: str) -> None:
    # Point every descriptor of the file and its side files at /dev/null, so that closing cannot roll back.
    targets: set[tuple[int, int]] = set()
    for suffix in SIDE_FILES:
        if os.path.exists(path + suffix):
            status = os.stat(path + suffix)
            targets.add((status.st_dev, status.st_ino))
    status = os.stat(path)
    _CROSSED.add((status.st_dev, status.st_ino))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in [int(entry) for entry in os.listdir("/dev/fd")]:
        try:
            held = os.fstat(number)
        except OSError:  # the descriptor of the listing itself is gone
            continue
        if (held.st_dev, held.st_ino) in targets:
            os.dup2(null, number, inheritable=False)
    os.close(null)


class _ForkHooks:
    # The three hooks share what `before` took; they run in the forking thread, one fork at a time.
    def __init__(self) -> None:
        self._resume: list[Callable[[], None]] = []

    def before(self) -> None:
        self._resume = [pool.before_fork() for pool in list(_POOLS)]

    def in_parent(self) -> None:
        for resume in self._resume:
            resume()
        self._resume = []

    def in_child(self) -> None:
        self._resume = []
        for pool in list(_POOLS):
            pool._forget()


_HOOKS: Final = _ForkHooks()
os.register_at_fork(before=_HOOKS.before, after_in_parent=_HOOKS.in_parent, after_in_child=_HOOKS.in_child)
