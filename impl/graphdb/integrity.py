"""Checking and repairing a graph: what SQLite says of the file, and what only the graph can know.

The constraints keep programs that enforce them from doing harm. A program of 2014 does not enforce foreign keys, a
crash of one left entities without a name, and `delete` leaves what has no other name: all that is found here, and
mended only when asked, problem by problem.

Sources: SQLite documentation, pragma, integrity_check (it does not look at foreign keys) and foreign_key_check.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kernelproof.impl.graphdb.lookup import find_key
from kernelproof.impl.graphdb.queries import BELOW
from kernelproof.impl.graphdb.schema import ROOT_KEY


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: `damaged` (the file), `index` (an index differs from its table), `dangling` (an edge without an end),
            `unnamed` (an entity to which no edge leads), `unreachable` (entities that name each other, but no path
            from the root does), `leftover` (a row of 2014 that broke a rule).
        subject: The entity's id, or the row, as text.
        detail: What SQLite or the check says.
        remedy: What `repair` does: `reindex`, `delete-edge`, `delete-entity`, `delete-leftover`; None if it cannot.
    """

    kind: str
    subject: str
    detail: str
    remedy: str | None


class Report(NamedTuple):
    """All problems found; none is `ok`."""

    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def check(connection: sqlite3.Connection) -> Report:
    """Look for problems in the file and in the graph; nothing is changed.

    Raises:
        sqlite3.DatabaseError: The file is too damaged to be read.
    """
    damage = tuple(_check_file(connection))
    if any(problem.kind == "damaged" for problem in damage):
        return Report(damage)
    return Report((*damage, *_check_ends(connection), *_check_reachable(connection), *_check_leftovers(connection)))


def _check_file(connection: sqlite3.Connection) -> Iterator[Problem]:
    try:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        found = [str(error)]
    for text in found:
        index = "missing from index" in text or "wrong # of entries in index" in text
        yield Problem("index" if index else "damaged", "file", text, "reindex" if index else None)


def _check_ends(connection: sqlite3.Connection) -> Iterator[Problem]:
    query = """SELECT l.parent, l.name, l.child FROM link AS l
        WHERE l.parent NOT IN (SELECT key FROM node) OR l.child NOT IN (SELECT key FROM node)
        ORDER BY l.parent, l.name"""
    for parent, name, child in connection.execute(query):
        yield Problem(
            "dangling",
            f"{parent}/{name}",
            f"the edge {name!r} from key {parent} to key {child} lacks an end",
            "delete-edge",
        )


def _check_reachable(connection: sqlite3.Connection) -> Iterator[Problem]:
    query = f"""{BELOW} SELECT n.id, EXISTS (SELECT 1 FROM link WHERE child = n.key) FROM node AS n
        WHERE n.key NOT IN (SELECT key FROM below) ORDER BY n.id"""
    for entity_id, named in connection.execute(query, (ROOT_KEY,)):
        if named:
            yield Problem("unreachable", entity_id, "edges lead to it, but none from the root's side", "delete-entity")
        else:
            yield Problem("unnamed", entity_id, "no edge leads to it", "delete-entity")


def _check_leftovers(connection: sqlite3.Connection) -> Iterator[Problem]:
    query = "SELECT rowid, entity_id, parent_id, name, reason FROM leftover ORDER BY rowid"
    for row, entity_id, parent_id, name, reason in connection.execute(query):
        text = f"of 2014: entity {entity_id!r}, parent {parent_id!r}, name {name!r}: {reason}"
        yield Problem("leftover", str(row), text, "delete-leftover")


def repair(connection: sqlite3.Connection, problems: Iterable[Problem]) -> int:
    """Mend the given problems as their remedies say, within the caller's transaction; return how many were mended.

    What is no longer so is left alone. Deleting an unreachable entity deletes its edges.

    Raises:
        ValueError: A problem has no remedy or an unknown one; nothing is done then.
    """
    chosen = tuple(problems)
    for problem in chosen:
        if problem.remedy not in _REMEDIES:
            raise ValueError(f"no remedy for {problem.kind} {problem.subject}: {problem.detail}; restore a backup")
    present = set(check(connection).problems)
    connection.execute("PRAGMA defer_foreign_keys = ON")
    done = 0
    for problem in chosen:
        if problem in present:
            _REMEDIES[problem.remedy or ""](connection, problem.subject)
            done += 1
    return done


def _reindex(connection: sqlite3.Connection, subject: str) -> None:
    connection.execute("REINDEX")


def _delete_edge(connection: sqlite3.Connection, subject: str) -> None:
    parent, _, name = subject.partition("/")
    connection.execute("DELETE FROM link WHERE parent = ? AND name = ?", (int(parent), name))


def _delete_entity(connection: sqlite3.Connection, subject: str) -> None:
    key = find_key(connection, subject)
    connection.execute("DELETE FROM link WHERE parent = ? OR child = ?", (key, key))
    connection.execute("DELETE FROM node WHERE key = ?", (key,))


def _delete_leftover(connection: sqlite3.Connection, subject: str) -> None:
    connection.execute("DELETE FROM leftover WHERE rowid = ?", (int(subject),))


_REMEDIES = {
    "reindex": _reindex,
    "delete-edge": _delete_edge,
    "delete-entity": _delete_entity,
    "delete-leftover": _delete_leftover,
}
