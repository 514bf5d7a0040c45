"""The change feed: what was done to the graph, in order, for any process that can read the file.

Triggers write a row for each change in the change's own transaction, so the log and the graph cannot differ, whoever
wrote. Numbers have no gaps: a reader that finds one knows that rows were dropped (the log is bounded) and is told to
read the graph anew. A bulk load and an upgrade leave one row `reset` instead of millions, with the same effect.

To wait without looking again and again, hand in a descriptor that becomes readable when the file may have changed
(inotify on the file's directory); without one, other threads of this process still wake the waiter at once, and
other processes within `poll_seconds`.

Source: SQLite documentation, pragma, data_version.
"""

from __future__ import annotations

import os
import select
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kernelproof.impl.graphdb.errors import Resync
from kernelproof.impl.graphdb.opening import LONGEST_SECONDS
from kernelproof.impl.graphdb.store import Store
from kernelproof.impl.graphdb.traverse import read_sequence

RESET = "reset"
PAGE = 1000


class Change(NamedTuple):
    """One change.

    Attributes:
        sequence: Its number; each is one more than the one before.
        kind: `entity-added`, `entity-removed`, `entity-attributes`, `edge-added`, `edge-removed` or `edge-attributes`;
            a renamed or moved edge is removed and added.
        entity_id: The entity, for an edge the one that it leads to.
        parent_id: For an edge the entity that it starts from, else None.
        name: For an edge its name, else None.
        attributes: The JSON text after the change, None for none.
    """

    sequence: int
    kind: str
    entity_id: str
    parent_id: str | None
    name: str | None
    attributes: str | None


def read_extent(connection: sqlite3.Connection) -> tuple[int, int]:
    """Read the number after which the log is complete, and its last number."""
    oldest, newest = connection.execute("SELECT min(sequence), max(sequence) FROM change").fetchone()
    (reset,) = connection.execute("SELECT max(sequence) FROM change WHERE kind = ?", (RESET,)).fetchone()
    if newest is None:
        return 0, 0
    return max(int(oldest) - 1, reset or 0), int(newest)


def read_page(connection: sqlite3.Connection, since: int, limit: int) -> list[Change]:
    """Read the next changes after a number.

    Raises:
        Resync: Some of them are gone or not logged one by one, or the number is ahead of the log (the file was replaced
            by an older one).
    """
    rows = connection.execute(
        "SELECT sequence, kind, entity, parent, name, detail FROM change WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (since, limit),
    )
    page = [Change(*row) for row in rows]
    # The whole log, which no index leads through by kind, is looked at only for what is told then.
    is_next = page[0].sequence == since + 1 if page else since == read_sequence(connection)
    if not is_next or any(change.kind == RESET for change in page):
        raise Resync(since, *read_extent(connection))
    return page


def changes(store: Store, since: int) -> Iterator[Change]:
    """Yield all changes after a number up to the present; see `GraphDatabase.changes`."""
    while True:
        page = store.read_consistent(read_page, since, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        since = page[-1].sequence


def wait_until_changed(
    store: Store,
    since: int,
    timeout_seconds: float,
    *,
    wake: int | None,
    poll_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Wait for a change after a number; see `GraphDatabase.wait_until_changed`."""
    deadline = clock() + timeout_seconds
    while True:
        with store.committed:
            newest = store.read(read_sequence)
            rest = min(deadline - clock(), LONGEST_SECONDS)
            if newest != since or rest <= 0:
                return newest
            if wake is None:
                store.committed.wait(min(rest, poll_seconds))
        if wake is not None:
            _wait_until_readable(wake, rest)
            _drain(wake)


def _drain(descriptor: int) -> None:
    # Take what woke us, so that the next wait waits; the descriptor may be blocking.
    while _wait_until_readable(descriptor, 0):
        if not os.read(descriptor, 65536):
            return


def _wait_until_readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
