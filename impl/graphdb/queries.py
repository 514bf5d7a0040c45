"""Questions about the whole of a graph, or of the part below a path. All end on cycles."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from graphlib import CycleError as OrderError
from graphlib import TopologicalSorter
from operator import itemgetter
from typing import NamedTuple

from kernelproof.impl.graphdb import lookup
from kernelproof.impl.graphdb.errors import CycleError, InvalidPath, LimitExceeded
from kernelproof.impl.graphdb.names import Names, check_name
from kernelproof.impl.graphdb.schema import ROOT_ID, ROOT_KEY

BELOW = """WITH RECURSIVE below (key) AS (
    SELECT CAST(? AS INTEGER) UNION SELECT l.child FROM link AS l JOIN below AS b ON l.parent = b.key)"""
"""The keys at and below one, each once."""

ABOVE = """WITH RECURSIVE above (key) AS (
    SELECT l.parent FROM link AS l WHERE l.child = ? UNION SELECT l.parent FROM link AS l JOIN above AS a
    ON l.child = a.key)"""
"""The keys above one, each once; itself only if it lies on a cycle."""


def reachable(connection: sqlite3.Connection, names: Names) -> frozenset[str]:
    """List the ids of all entities below a path.

    Raises:
        NotFound: There is no such path.
    """
    key = lookup.resolve(connection, names)
    on_a_cycle = connection.execute(f"{ABOVE} SELECT 1 FROM above WHERE key = ? LIMIT 1", (key, key)).fetchone()
    query = f"{BELOW} SELECT n.id FROM below JOIN node AS n USING (key) WHERE key <> ? OR ?"
    rows = connection.execute(query, (key, key, on_a_cycle is not None))
    return frozenset(map(itemgetter(0), rows))


def is_reachable(connection: sqlite3.Connection, names: Names, entity_id: str) -> bool:
    """Tell whether an entity lies below a path.

    Raises:
        NotFound: There is no such path or no such entity.
    """
    start, end = lookup.resolve(connection, names), lookup.require_key(connection, entity_id)
    query = """WITH RECURSIVE below (key) AS (SELECT l.child FROM link AS l WHERE l.parent = ?
        UNION SELECT l.child FROM link AS l JOIN below AS b ON l.parent = b.key)
        SELECT 1 FROM below WHERE key = ? LIMIT 1"""
    return connection.execute(query, (start, end)).fetchone() is not None


def ancestors(connection: sqlite3.Connection, entity_id: str) -> frozenset[str]:
    """List the ids of all entities from which one can be reached.

    Raises:
        NotFound: There is no such entity.
    """
    key = lookup.require_key(connection, entity_id)
    rows = connection.execute(f"{ABOVE} SELECT n.id FROM above JOIN node AS n USING (key)", (key,))
    return frozenset(found for (found,) in rows)


def topological_order(connection: sqlite3.Connection, names: Names) -> tuple[str, ...]:
    """Order the entities at and below a path so that each comes after all its parents among them.

    Raises:
        NotFound: There is no such path.
        CycleError: They have no such order; its `cycle` names one that stands in the way.
    """
    key = lookup.resolve(connection, names)
    ids: dict[int, str] = dict(
        connection.execute(f"{BELOW} SELECT n.key, n.id FROM below JOIN node AS n USING (key)", (key,))
    )
    sorter: TopologicalSorter[int] = TopologicalSorter({found: () for found in ids})
    edges = connection.execute(
        f"{BELOW} SELECT l.child, l.parent FROM below AS b CROSS JOIN link AS l ON l.parent = b.key", (key,)
    )
    for child, parent in edges:
        sorter.add(child, parent)
    try:
        return tuple(ids[found] for found in sorter.static_order())
    except OrderError as error:
        cycle = tuple(ids[found] for found in error.args[1])
        raise CycleError(f"no order: {' -> '.join(cycle)} is a cycle", cycle) from None


class _Partial(NamedTuple):
    # A path that ends at the entity and begins at `key`.
    key: int
    names: Names
    keys: frozenset[int]


def names_of(connection: sqlite3.Connection, entity_id: str, *, max_rows: int) -> Iterator[str]:
    """Yield the full paths of an entity on which no entity repeats, the shortest first, then by name.

    It goes from the entity to the root, one statement a level.

    Raises:
        NotFound: There is no such entity.
        LimitExceeded: More than `max_rows` beginnings of paths would have to be followed.
    """
    key = lookup.require_key(connection, entity_id)
    if key == ROOT_KEY:
        yield "/"
        return
    partials = [_Partial(key, (), frozenset({key}))]
    followed = 0
    while partials:
        followed += len(partials)
        if followed > max_rows:
            raise LimitExceeded(max_rows, f"the set of paths to {entity_id!r}")
        partials = _one_up(connection, partials)
        complete = sorted(partial.names for partial in partials if partial.key == ROOT_KEY)
        yield from ("/" + "/".join(names) for names in complete)
        partials = [partial for partial in partials if partial.key != ROOT_KEY]


def _one_up(connection: sqlite3.Connection, partials: list[_Partial]) -> list[_Partial]:
    query = """SELECT DISTINCT l.child, l.parent, l.name FROM json_each(?) AS j CROSS JOIN link AS l
        ON l.child = j.value"""
    above: dict[int, list[tuple[int, str]]] = {}
    keys = json.dumps(sorted({partial.key for partial in partials}))
    for child, parent, name in connection.execute(query, (keys,)):
        above.setdefault(child, []).append((parent, name))
    return [
        _Partial(parent, (name, *partial.names), partial.keys | {parent})
        for partial in partials
        for parent, name in above.get(partial.key, ())
        if parent not in partial.keys
    ]


def parse_pattern(pattern: str) -> Names:
    """Split a pattern for paths: `*`, `?` and `[…]` stand for parts of one name, `**` for any names or none.

    Raises:
        InvalidPath: It does not begin with a slash, or holds an empty part, `.` or `..`.
    """
    if not pattern.startswith("/"):
        raise InvalidPath(f"{pattern!r} does not begin with a slash: paths start at the root")
    return () if pattern == "/" else tuple(check_name(part) for part in pattern[1:].split("/"))


def match_children(connection: sqlite3.Connection, parent: int, pattern: str) -> list[tuple[str, int, str]]:
    """List name, key and id of the children of a key whose names match, in order of name.

    SQLite looks only at the names that begin with the pattern's plain beginning.

    Source: SQLite documentation, optoverview, section 5 (the GLOB optimization).
    """
    query = """SELECT l.name, l.child, n.id FROM link AS l JOIN node AS n ON n.key = l.child
        WHERE l.parent = ? AND l.name GLOB ? ORDER BY l.name"""
    return connection.execute(query, (parent, pattern)).fetchall()


class _Match(NamedTuple):
    key: int
    path: str
    entity_id: str


def glob(connection: sqlite3.Connection, pattern: Names, *, max_rows: int) -> Iterator[tuple[str, str]]:
    """Yield path and id of what a pattern matches, in order of path; below `**` each entity on one path only.

    Raises:
        LimitExceeded: More than `max_rows` paths match the pattern or a beginning of it.
    """
    matches = [_Match(ROOT_KEY, "", ROOT_ID)]
    for part in pattern:
        if part == "**":
            matches = _with_all_below(connection, matches)
        else:
            matches = [
                _Match(key, f"{match.path}/{name}", entity_id)
                for match in matches
                for name, key, entity_id in match_children(connection, match.key, part)
            ]
        if len(matches) > max_rows:
            raise LimitExceeded(max_rows, "the set of matches")
    yield from sorted((match.path or "/", match.entity_id) for match in matches)


def _with_all_below(connection: sqlite3.Connection, matches: list[_Match]) -> list[_Match]:
    seen = {match.key: match for match in matches}
    level = list(seen.values())
    while level:
        by_key = {match.key: match for match in level}
        query = """SELECT l.parent, l.name, l.child, n.id FROM json_each(?) AS j CROSS JOIN link AS l
            ON l.parent = j.value JOIN node AS n ON n.key = l.child ORDER BY j.id, l.name"""
        level = []
        for parent, name, key, entity_id in connection.execute(query, (json.dumps(list(by_key)),)):
            if key not in seen:
                seen[key] = _Match(key, f"{by_key[parent].path}/{name}", entity_id)
                level.append(seen[key])
    return list(seen.values())
