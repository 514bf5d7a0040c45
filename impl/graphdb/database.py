"""The graph: names for things, in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.schema import CHANGE_LIMIT
from kernelproof.impl.graphdb.store import memory_store, open_store
from kernelproof.impl.graphdb.writing import Writing

if TYPE_CHECKING:
    from pathlib import Path


class GraphDatabase(Writing):
    """A rooted graph of named edges in one file.

    Threads may share it, each gets a connection of its own; other processes may open the same file. Every method is
    one transaction, or one step of the `transaction()` that the thread is in.
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        journal: str = "auto",
        create: bool = True,
        read_only: bool = False,
        timeout_seconds: float = 5.0,
        upgrade: bool = True,
        acyclic: bool = False,
        change_limit: int = CHANGE_LIMIT,
    ) -> Self:
        """Open a graph file, making it if it does not exist.

        Args:
            path: The file; relative to the working directory, symbolic links are followed.
            journal: `auto` takes WAL where the SQLite library is free of its race and the file system is local, else
                the rollback journal; `wal` and `rollback` insist.
            create: Whether to make a missing file.
            read_only: Refuse writes; the file and its directory need not be writable. A file in WAL mode without a log,
                in a directory that is not writable, is read without locks: operations raise `Stale` once another
                program has written to it.
            timeout_seconds: How long an operation waits for locks, in seconds.
            upgrade: Whether to upgrade a file of 2014, keeping a copy beside it.
            acyclic: Refuse edges that would close a cycle.
            change_limit: How many rows the change log of a new file keeps.

        Raises:
            FileNotFoundError: The file (with `create=False`) or its directory does not exist.
            IsADirectoryError: The path is a directory.
            PermissionError: The file or its directory refuses what was asked (EACCES).
            NotAGraph: The file is empty, foreign, or of a newer version; it is not written to.
            Damaged: SQLite found the file corrupt.
            ReadOnly: `read_only`, and a log beside the file holds changes that cannot be read without writing there.
            Busy: Another program holds the file in another journal mode, or upgrades it.
            Forked: This process was forked off within a transaction on that file.
            ValueError: `journal` is unknown, or `wal` on a network file system.
        """
        store = open_store(
            path,
            journal=journal,
            create=create,
            read_only=read_only,
            timeout_seconds=timeout_seconds,
            upgrade=upgrade,
            change_limit=change_limit,
        )
        return cls(store, acyclic=acyclic)

    @classmethod
    def in_memory(
        cls, *, timeout_seconds: float = 5.0, acyclic: bool = False, change_limit: int = CHANGE_LIMIT
    ) -> Self:
        """Make a graph in memory, shared by the threads of this process and gone when closed."""
        return cls(memory_store(timeout_seconds=timeout_seconds, change_limit=change_limit), acyclic=acyclic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; closing twice is once.

        Raises:
            Busy: Another thread is within an operation; nothing was closed.
        """
        self._store.close()

    @property
    def path(self) -> Path | None:
        """The file, None in memory."""
        from pathlib import Path  # 4 ms at every import of the package

        return None if self._store.path is None else Path(self._store.path)

    @property
    def journal(self) -> Journal:
        """The journal mode, with the reason for the choice."""
        return self._store.journal

    def backup(
        self,
        target: str | os.PathLike[str],
        *,
        pages: int = 1024,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Copy the graph into a new file while it is in use: complete and checked, or not at all.

        Args:
            target: The new file; it must not exist.
            pages: How many pages are copied before others may write again.
            progress: Called with the number of pages that remain and of all.

        Raises:
            FileExistsError: The target exists (EEXIST).
            OSError: The target's directory does not exist or refuses.
            Busy: The lock could not be had in time.
        """
        self._store.backup(os.fspath(target), pages=pages, progress=progress)
