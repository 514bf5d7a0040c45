"""Walks: breadth-first, in order of name at each level, on any graph, in constant memory.

Each level is one statement that fills a temporary table of the connection; rows are handed out from that table in
batches, and no read transaction is open between them, so the caller may write. The table is SQLite's business: it
spills to a temporary file, so that a walk of a million rows needs no more of Python's memory than one of ten.

What may repeat is named, since the answers differ:

- `entities`: each entity once, under its shortest path (the first by name among equals). Ends on any graph.
- `shortest`: every shortest path to each entity, of which there may be several. Ends on any graph.
- `acyclic`: every path on which no entity repeats.
- `trail`: every path on which no edge repeats.
- `walk`: every path; needs `max_depth`, as a cycle makes them endless.

The number of paths grows beyond all bounds where things are cross-linked (15 that link each other: more than 10^11),
so a walk that has more than `max_rows` raises instead of handing out a part as if it were all.

Sources: SQLite documentation, lang_with, section 3 (UNION and a depth column on cycles); tempfiles, section 2.6.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from operator import length_hint
from typing import Final, NamedTuple

from kernelproof.impl.graphdb import lookup
from kernelproof.impl.graphdb.connection import Slot
from kernelproof.impl.graphdb.errors import DeadlineExceeded, GraphError, LimitExceeded, Stale, translate
from kernelproof.impl.graphdb.names import Names, format_path
from kernelproof.impl.graphdb.store import Store

MODES: Final = ("entities", "shortest", "acyclic", "trail", "walk")
BATCH: Final = 1000
"""Rows fetched at a time."""

DEFAULT_MAX_ROWS: Final = 100_000

_CACHE_KIB: Final = 4 * 1024
"""How much of a walk's table is kept in memory before it goes to a temporary file."""

_PROGRESS_STEPS: Final = 50_000
"""Virtual machine instructions of SQLite between two looks at the clock: a few milliseconds."""


class Step(NamedTuple):
    """One entity met on a walk.

    Attributes:
        path: Where it was met.
        entity_id: The entity.
        depth: 1 for a child of the start.
    """

    path: str
    entity_id: str
    depth: int

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path.rpartition("/")[2]


# `Step._make` without its look at the length: the walk's queries have three columns.
_as_step: Final[Callable[[tuple[str, str, int]], Step]] = partial(tuple.__new__, Step)


class Cursor(NamedTuple):
    """Where a walk stands; plain values, so that another process can go on.

    Attributes:
        start: The path that the walk began at.
        mode: Its mode.
        max_depth: Its bound, None for none.
        handed_out: How many steps the caller has had.
        sequence: The change log's last number when the walk began.
    """

    start: str
    mode: str
    max_depth: int | None
    handed_out: int
    sequence: int


class Plan(NamedTuple):
    """A walk as asked for, checked."""

    names: Names
    mode: str
    max_depth: int | None
    max_rows: int | None
    deadline: float | None
    snapshot: bool
    resume: Cursor | None


def plan_walk(
    names: Names,
    *,
    mode: str = "entities",
    max_depth: int | None = None,
    max_rows: int | None = None,
    deadline_seconds: float | None = None,
    snapshot: bool = False,
    resume: Cursor | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Check what was asked of a walk.

    Raises:
        ValueError: An unknown mode, a bound that is not positive, `walk` without `max_depth`, or a cursor of another
            walk.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: choose one of {', '.join(MODES)}")
    if mode == "walk" and max_depth is None:
        raise ValueError("mode='walk' repeats everything for ever on a cycle: give max_depth")
    if (max_depth is not None and max_depth < 1) or (max_rows is not None and max_rows < 1):
        raise ValueError("max_depth and max_rows begin at 1")
    if max_rows is None and mode != "entities":
        raise ValueError(
            f"mode={mode!r} lists paths, of which there may be more than anyone can wait for: give max_rows"
        )
    if resume is not None and (resume.start, resume.mode, resume.max_depth) != (format_path(names), mode, max_depth):
        raise ValueError(f"the cursor belongs to another walk: {resume}")
    deadline = None if deadline_seconds is None else clock() + deadline_seconds
    return Plan(names, mode, max_depth, max_rows, deadline, snapshot, resume)


# What a row remembers in order to know what must not repeat: nothing, the keys so far, or the edges so far.
_TRACES: Final = {
    "entities": ("", "", ""),
    "walk": ("", "", ""),
    "shortest": (
        "",
        "",
        "AND NOT EXISTS (SELECT 1 FROM {table} AS e WHERE e.key = l.child AND e.ordinal <= :last)",
    ),
    "acyclic": (
        "json_array(:root)",
        "json_insert(s.trace, '$[#]', l.child)",
        "AND NOT EXISTS (SELECT 1 FROM json_each(s.trace) AS t WHERE t.value = l.child)",
    ),
    "trail": (
        "json_array()",
        "json_insert(s.trace, '$[#]', l.parent || '/' || l.name)",
        "AND NOT EXISTS (SELECT 1 FROM json_each(s.trace) AS t WHERE t.value = l.parent || '/' || l.name)",
    ),
}


class Walker:
    """One walk under way on one connection: its temporary table and how far it is filled and handed out.

    It may be used by one thread only, the one whose connection holds the table.
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._slot: Slot | None = None
        self._table = ""
        self._sequence = 0
        self._depth = 0
        self._filled = (0, 0)  # the ordinals of the last level
        self._fetched = 0
        self._batch: Iterator[Step] = iter(())
        self._ended = False
        self._rollbacks = 0

    def cursor(self) -> Cursor:
        """Return where the walk stands."""
        plan, handed_out = self._plan, self._fetched - length_hint(self._batch)
        return Cursor(format_path(plan.names), plan.mode, plan.max_depth, handed_out, self._sequence)

    def steps(self) -> Generator[Step]:
        """Hand out the steps of the walk; see `GraphDatabase.walk`."""
        self._use(self._begin)
        try:
            while not self._ended:
                self._use(lambda connection: _in_one_state(connection, self._next_level))
                position, last = self._skip_to_resume()
                while position <= last:
                    steps = self._fetch(position, min(last, position + BATCH - 1))
                    position += BATCH
                    self._fetched += len(steps)
                    self._batch = iter(steps)  # how much of it is left tells `cursor` where the caller is
                    yield from self._batch
        finally:
            self._drop()

    def _skip_to_resume(self) -> tuple[int, int]:
        # The ordinals of the last level that the caller has not had in an earlier walk.
        position, last = self._filled
        skip = 0 if self._plan.resume is None else self._plan.resume.handed_out
        jump = max(0, min(skip - self._fetched, last - position + 1))
        self._fetched += jump
        return position + jump, last

    def _use(self, action: Callable[[sqlite3.Connection], None]) -> None:
        current = self._store.slot()
        if self._slot is not None and (current is not self._slot or current.rollbacks != self._rollbacks):
            raise Stale(
                "the walk ended with its thread's connection: a rollback, a fork, or another thread took over",
                self.cursor(),
            )
        with current.lock:
            self._slot, self._rollbacks = current, current.rollbacks
            self._with_deadline(current.connection, action)

    def _with_deadline(self, connection: sqlite3.Connection, action: Callable[[sqlite3.Connection], None]) -> None:
        # SQLite ends a whole transaction when it interrupts a statement that writes, were it only to a temporary table:
        # within the caller's transaction the clock is looked at between statements only.
        deadline = self._plan.deadline
        interrupts = deadline is not None and not connection.in_transaction
        if deadline is not None and interrupts:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
        try:
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineExceeded("the walk's deadline passed", self.cursor())
            action(connection)
        except GraphError:
            raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise DeadlineExceeded("the walk's deadline passed", self.cursor()) from None
            raise translate(error, self._store.label) from error
        finally:
            if interrupts:
                connection.set_progress_handler(None, 0)

    def _begin(self, connection: sqlite3.Connection) -> None:
        plan, slot = self._plan, self._slot
        assert slot is not None
        self._sequence = read_sequence(connection)
        resume = plan.resume
        if resume is not None and resume.handed_out and resume.sequence != self._sequence:
            raise Stale("the graph changed since the cursor was taken: begin the walk anew", resume)
        root = lookup.resolve(connection, plan.names)
        slot.walks += 1
        self._table = f"walk_{slot.walks}"
        unique = " UNIQUE" if plan.mode == "entities" else ""
        first_trace = _TRACES[plan.mode][0]
        trace = ", trace TEXT" if first_trace else ""
        connection.execute(f"""CREATE TEMP TABLE {self._table} (ordinal INTEGER PRIMARY KEY,
            key INTEGER NOT NULL{unique}, path TEXT NOT NULL{trace})""")
        connection.execute(f"PRAGMA temp.cache_size = -{_CACHE_KIB}")
        if plan.mode == "shortest":
            connection.execute(f"CREATE INDEX temp.{self._table}_key ON {self._table} (key)")
        path = "" if not plan.names else format_path(plan.names)
        connection.execute(
            f"INSERT INTO {self._table} VALUES (0, :root, :path{', ' if trace else ''}{first_trace})",
            {"root": root, "path": path},
        )
        if plan.snapshot:
            _in_one_state(connection, self._fill_all)

    def _fill_all(self, connection: sqlite3.Connection) -> None:
        # All levels from one state of the graph, with the ids, which a purge would take away.
        self._sequence = read_sequence(connection)
        while self._fill(connection):
            pass
        connection.execute(f"CREATE TEMP TABLE {self._table}_taken AS {self._query()} WHERE w.ordinal > 0")
        connection.execute(f"CREATE INDEX temp.{self._table}_ordinal ON {self._table}_taken (ordinal)")

    def _next_level(self, connection: sqlite3.Connection) -> None:
        if self._plan.snapshot:
            self._ended = True
            self._filled = (1, self._filled[1])
            return
        self._check_unchanged(connection)
        self._ended = not self._fill(connection)

    def _check_unchanged(self, connection: sqlite3.Connection) -> None:
        if read_sequence(connection) != self._sequence:
            raise Stale("the graph changed during the walk: walk it anew, or take snapshot=True", self.cursor())

    def _query(self) -> str:
        start = len(self._plan.names)
        depth = f"length(w.path) - length(replace(w.path, '/', '')) - {start}" if self._plan.snapshot else self._depth
        return f"""SELECT w.path AS path, n.id AS id, {depth} AS depth, w.ordinal AS ordinal
            FROM {self._table} AS w JOIN node AS n ON n.key = w.key"""

    def _fill(self, connection: sqlite3.Connection) -> bool:
        # Add one level; tell whether there was one.
        plan = self._plan
        if plan.max_depth is not None and self._depth >= plan.max_depth:
            self._filled = (self._filled[1] + 1, self._filled[1])
            return False
        _, extend, condition = _TRACES[plan.mode]
        table, (first, last) = self._table, self._filled
        condition = condition.replace("{table}", table)
        verb = "INSERT OR IGNORE" if plan.mode == "entities" else "INSERT"
        limit = -1 if plan.max_rows is None or plan.mode == "entities" else plan.max_rows - last + 1
        cursor = connection.execute(
            f"""{verb} INTO {table} (key, path{", trace" if extend else ""})
            SELECT l.child, s.path || '/' || l.name{", " if extend else ""}{extend}
            FROM {table} AS s CROSS JOIN link AS l ON l.parent = s.key
            WHERE s.ordinal BETWEEN :first AND :last {condition}
            ORDER BY s.ordinal, l.name LIMIT :limit""",
            {"first": first, "last": last, "limit": limit},
        )
        added = max(0, cursor.rowcount)
        self._depth += 1
        self._filled = (last + 1, last + added)
        if plan.max_rows is not None and last + added > plan.max_rows:
            raise LimitExceeded(plan.max_rows, f"the walk of {format_path(plan.names)} ({plan.mode})")
        return added > 0

    def _fetch(self, first: int, last: int) -> list[Step]:
        steps: list[Step] = []

        def fetch(connection: sqlite3.Connection) -> None:
            if self._plan.snapshot:
                query = f"SELECT path, id, depth FROM {self._table}_taken AS w"
            else:
                self._check_unchanged(connection)
                query = self._query().replace(", w.ordinal AS ordinal", "")
            rows = connection.execute(f"{query} WHERE w.ordinal BETWEEN ? AND ? ORDER BY w.ordinal", (first, last))
            steps.extend(map(_as_step, rows))

        self._use(lambda connection: _in_one_state(connection, fetch))
        return steps

    def _drop(self) -> None:
        # The generator may be closed by another thread, after a fork, or after the database was closed.
        slot = self._slot
        if slot is None or not self._table or not self._store.is_current(slot):
            return
        with slot.lock:
            for table in (self._table, f"{self._table}_taken"):
                slot.connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


class Walk(Iterator[Step]):
    """A walk: an iterator of its steps, whose cursor can be taken between any two of them.

    It is over when it is dropped, closed, or at its end; what it kept in the database's connection goes with it.
    """

    __slots__ = ("_steps", "_walker")

    def __init__(self, store: Store, plan: Plan) -> None:
        self._walker = Walker(store, plan)
        self._steps = self._walker.steps()

    def __iter__(self) -> Iterator[Step]:
        return self._steps  # a loop is faster over the generator itself

    def __next__(self) -> Step:
        return next(self._steps)

    def cursor(self) -> Cursor:
        """Return where the walk stands."""
        return self._walker.cursor()

    def close(self) -> None:
        """End the walk."""
        self._steps.close()


def _in_one_state(connection: sqlite3.Connection, action: Callable[[sqlite3.Connection], None]) -> None:
    # A read transaction, unless the caller is within one. It ends in COMMIT: a rollback would undo the temporary
    # table too.
    if connection.in_transaction:
        action(connection)
        return
    connection.execute("BEGIN")
    try:
        action(connection)
    finally:
        if _is_in_transaction(connection):  # not after an interrupt
            connection.execute("COMMIT")


def _is_in_transaction(connection: sqlite3.Connection) -> bool:
    return connection.in_transaction


def read_sequence(connection: sqlite3.Connection) -> int:
    """Read the number of the last change, 0 if there was none."""
    (sequence,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM change").fetchone()
    return int(sequence)
