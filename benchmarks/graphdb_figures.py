"""The graph's figures, each beside the bare statements or the old way on the same work in one run.

    python benchmarks/graphdb_figures.py [--nodes 1000000] [--edges 3000000] [NAME …]

Prints one line a figure: what, ours, the other, the ratio, and the goal. Times are the best of several runs, as other
work on the machine only ever adds. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kernelproof.impl.graphdb import GraphDatabase, schema
from kernelproof.impl.graphdb.names import parse_path

Work = Callable[[], object]


class Figure(NamedTuple):
    """One figure: ours and the other in seconds (or another unit), with the bound on ours / other, or on ours."""

    name: str
    ours: float
    other: float | None
    bound: float
    unit: str = "s"

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return (self.ours if self.other is None else self.ours / self.other) <= self.bound

    def line(self) -> str:
        """The figure as text."""
        text = f"{'ok  ' if self.met else 'MISS'} {self.name:58} ours {self.ours:10.4g} {self.unit}"
        if self.other is not None:
            text += f"  other {self.other:10.4g} {self.unit}  ratio {self.ours / self.other:6.3f}"
        return f"{text}  goal <= {self.bound:g}"


def best(work: Work, times: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    """The shortest time of several runs, in seconds."""
    found = []
    for _ in range(times):
        gc.collect()
        began = clock()
        work()
        found.append(clock() - began)
    return min(found)


def in_turn(ours: Work, other: Work, times: int = 7, *, wall: bool = False) -> tuple[float, float]:
    """The shortest times of two works, run in turn so that the machine's moods fall on both; of this process's CPU
    unless told to take the wall's (for work that waits)."""
    clock = time.perf_counter if wall else time.process_time
    first, second = [], []
    for _ in range(times):
        first.append(best(ours, 1, clock))
        second.append(best(other, 1, clock))
    return min(first), min(second)


def random_edges(nodes: int, edges: int, seed: int = 1) -> list[tuple[int, str, int]]:
    """A tree over all nodes, and edges at random beyond it."""
    draw = random.Random(seed)
    found = [(draw.randrange(node), f"n{node}", node) for node in range(1, nodes)]
    while len(found) < edges:
        parent, child = draw.randrange(nodes), draw.randrange(nodes)
        if parent != child:
            found.append((parent, f"x{len(found)}", child))
    return found


def bare_load(file: Path, nodes: int, edges: list[tuple[int, str, int]]) -> None:
    """executemany of ready rows into the same schema: constraints, index and foreign keys, no log."""
    GraphDatabase.open(file).close()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    schema.drop_feed_triggers(connection)
    connection.executemany("INSERT INTO node (key, id) VALUES (?, ?)", ((i, f"{i:032x}") for i in range(1, nodes)))
    connection.executemany("INSERT INTO link (parent, name, child) VALUES (?, ?, ?)", edges)
    schema.create_feed_triggers(connection)
    connection.execute("COMMIT")
    connection.close()


def our_load(file: Path, nodes: int, edges: list[tuple[int, str, int]]) -> None:
    """The bulk loader, with ids as text."""
    ids = ["0", *(f"{i:032x}" for i in range(1, nodes))]
    with GraphDatabase.open(file) as graph:
        graph.load(
            ((ids[parent], name, ids[child]) for parent, name, child in edges), iter(ids[1:]), create_missing=False
        )


def figure_load(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Bulk load, in CPU time of the process: the disk's moods are larger than any difference."""
    rows = random_edges(nodes, edges)
    bare, ours = directory / "bare.db", directory / "ours.db"
    other = best(lambda: bare_load(bare, nodes, rows), 1, time.process_time)
    bare.unlink()
    mine = best(lambda: our_load(ours, nodes, rows), 1, time.process_time)
    return [Figure(f"load {nodes:,} entities, {edges:,} edges / bare executemany", mine, other, 1.3, "s CPU")]


TIMES = 2000


class LookUps:
    """One path, looked up by the graph and by a bare statement for each name."""

    def __init__(self, graph: GraphDatabase, file: Path, path: str) -> None:
        self.graph = graph
        self.path = path
        self.names = parse_path(path)
        self.connection = sqlite3.connect(file, isolation_level=None)

    def bare(self) -> None:
        """The best that one can do by hand: a prepared look-up for each name."""
        execute, query = self.connection.execute, "SELECT child FROM link WHERE parent = ? AND name = ?"
        for _ in range(TIMES):
            key = 0
            for name in self.names:
                (key,) = execute(query, (key, name)).fetchone()

    def bare_in_one_transaction(self) -> None:
        """The same without taking the file's lock each time."""
        self.connection.execute("BEGIN")
        self.bare()
        self.connection.execute("COMMIT")

    def ours(self) -> None:
        """Ours."""
        for _ in range(TIMES):
            self.graph.get(self.path)

    def ours_in_one_transaction(self) -> None:
        """The same without taking the file's lock each time."""
        self.graph.store.read_consistent(lambda _: self.ours())


def figure_get(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Look-ups of paths."""
    file = directory / "get.db"
    with GraphDatabase.open(file) as graph:
        fan = [("0" if i < 200 else f"p{i // 200 - 1}", f"name{i % 200}", f"p{i}") for i in range(20_000)]
        deep = [("p0" if i == 0 else f"d{i - 1}", f"d{i}", f"d{i}") for i in range(5)]
        graph.load([*fan, *deep])
        six, five = LookUps(graph, file, "/name0/d0/d1/d2/d3/d4"), LookUps(graph, file, "/name0/d0/d1/d2/d3")
        figures = []
        for name, mine, other in (
            ("get, 6 deep / six bare look-ups", six.ours, six.bare),
            ("get, 6 deep / six bare look-ups, within a transaction", six.ours_in_one_transaction,
             six.bare_in_one_transaction),
        ):  # fmt: skip
            times = in_turn(mine, other)
            figures.append(Figure(name, times[0] / TIMES * 1e6, times[1] / TIMES * 1e6, 2.0, "us"))
        figures.append(Figure("get, 5 deep", best(five.ours) / TIMES * 1e6, None, 150, "us"))
        six.connection.close()
        five.connection.close()
    return figures


def walk_as_in_2014(connection: sqlite3.Connection) -> int:
    """The queries of 2014 for each entity, on its tables, with a set of what was seen so that it ends."""
    seen = {"0"}
    todo = ["0"]
    while todo:
        parent = todo.pop()
        rows = connection.execute("SELECT entity_id, name FROM edge where parent_id = ?;", (parent,)).fetchall()
        for entity, name in rows:
            if entity not in seen:
                # Children() was given each child's path and looked it up step by step; one step is enough here.
                connection.execute(
                    "SELECT entity_id FROM edge WHERE parent_id = ? AND name = ?;", (parent, name)
                ).fetchone()
                seen.add(entity)
                todo.append(entity)
    return len(seen)


def figure_walk(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Walks of 100,000 entities over 300,000 edges."""
    rows = random_edges(100_000, 300_000)
    our_load(directory / "walk.db", 100_000, rows)
    old = sqlite3.connect(directory / "old.db", isolation_level=None)
    old.executescript("PRAGMA synchronous = OFF; BEGIN;" + schema.TABLES_2014)
    ids = ["0", *(f"{i:032x}" for i in range(1, 100_000))]
    old.executemany("INSERT INTO entity VALUES (?)", ((one,) for one in ids))
    old.executemany("INSERT INTO edge VALUES (?, ?, ?)", ((ids[c], ids[p], name) for p, name, c in rows))
    old.execute("COMMIT")
    with GraphDatabase.open(directory / "walk.db") as graph:
        recursive = sqlite3.connect(directory / "walk.db", isolation_level=None)
        query = """WITH RECURSIVE below (key) AS (SELECT 0 UNION
            SELECT l.child FROM link AS l JOIN below AS b ON l.parent = b.key)
            SELECT n.id FROM below JOIN node AS n USING (key)"""

        def by_recursion() -> int:
            return len(recursive.execute(query).fetchall())

        def by_walk() -> int:
            return sum(1 for _ in graph.walk("/", max_rows=None))

        assert by_walk() + 1 == by_recursion() == walk_as_in_2014(old) == 100_000
        figures = [
            Figure(
                "walk, paths and ids / the queries of 2014", *in_turn(by_walk, lambda: walk_as_in_2014(old), 5), 0.5
            ),
            Figure(
                "reachable, ids / the recursive query, ids",
                *in_turn(lambda: graph.reachable("/"), by_recursion, 5),
                1.1,
            ),
            Figure("walk, paths and ids / the recursive query, ids only", *in_turn(by_walk, by_recursion, 7), 1.15),
        ]
        recursive.close()
    old.close()
    return [*figures, figure_tree(directory)]


def figure_tree(directory: Path) -> Figure:
    """A tree of 100,000 entities, where a recursive query can give each one's path too: the same answer from both."""
    our_load(directory / "tree.db", 100_000, random_edges(100_000, 99_999))
    query = """WITH RECURSIVE below (key, path) AS (SELECT 0, '' UNION ALL
        SELECT l.child, b.path || '/' || l.name FROM link AS l JOIN below AS b ON l.parent = b.key)
        SELECT b.path, n.id FROM below AS b JOIN node AS n USING (key)"""
    with GraphDatabase.open(directory / "tree.db") as graph:
        recursive = sqlite3.connect(directory / "tree.db", isolation_level=None)

        def by_recursion() -> int:
            return len(recursive.execute(query).fetchall())

        def by_walk() -> int:
            return sum(1 for _ in graph.walk("/", max_rows=None))

        assert by_walk() + 1 == by_recursion() == 100_000
        times = in_turn(by_walk, by_recursion, 7)
        recursive.close()
    return Figure("walk of a tree, paths and ids / the recursive query, the same", *times, 1.0)


def figure_set(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Single durable writes."""
    with GraphDatabase.open(directory / "set.db") as graph:
        bare_file = directory / "bareset.db"
        GraphDatabase.open(bare_file).close()
        connection = sqlite3.connect(bare_file, isolation_level=None)
        mode = graph.journal.mode
        for pragma in (f"journal_mode = {mode}", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        count = iter(range(10**9))

        def ours() -> None:
            for _ in range(50):
                number = next(count)
                graph.set(f"/n{number}", f"n{number}")

        def bare() -> None:
            for _ in range(50):
                number = next(count)
                connection.execute("BEGIN IMMEDIATE")
                cursor = connection.execute("INSERT INTO node (id) VALUES (?)", (f"n{number}",))
                connection.execute(
                    "INSERT INTO link (parent, name, child) VALUES (0, ?, ?)", (f"n{number}", cursor.lastrowid)
                )
                connection.execute("COMMIT")

        times = in_turn(ours, bare, 15, wall=True)
        connection.close()
    return [
        Figure(
            f"durable set ({mode}) / bare statements, same pragmas", times[0] / 50 * 1e3, times[1] / 50 * 1e3, 1.2, "ms"
        )
    ]


# The high-water mark of getrusage is inherited from the parent across fork and exec; this one is not.
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
"""
MEMORY = (
    PEAK
    + """
import sys
from kernelproof.impl.graphdb import GraphDatabase
with GraphDatabase.open(sys.argv[1], read_only=True) as graph:
    before = peak()
    count = sum(1 for _ in graph.walk("/", max_rows=None))
    print(count, peak() - before)
"""
)


def figure_memory(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Memory of a walk of everything, in a process of its own."""
    file = directory / "ours.db"
    if not file.exists():
        our_load(file, nodes, random_edges(nodes, edges))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(file)], capture_output=True, text=True, check=True)
    count, used = done.stdout.split()
    return [Figure(f"memory that a walk of {int(count):,} entities adds", float(used), None, 30, "MiB")]


REACH = (
    PEAK
    + """
import sys, time
from kernelproof.impl.graphdb import GraphDatabase
with GraphDatabase.open(sys.argv[1], read_only=True) as graph:
    began = time.process_time()
    count = len(graph.reachable("/"))
    print(time.process_time() - began, peak())
"""
)


def figure_reach(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """Reachability over 500,000 edges."""
    file = directory / "reach.db"
    our_load(file, 170_000, random_edges(170_000, 500_000))
    runs = [
        subprocess.run(
            [sys.executable, "-c", REACH, str(file)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    return [
        Figure("reachability over 500,000 edges", min(float(run[0]) for run in runs), None, 1.2),
        Figure("memory of that process", max(float(run[1]) for run in runs), None, 100, "MiB"),
    ]


def figure_import(directory: Path, nodes: int, edges: int) -> list[Figure]:
    """What importing the package costs, beyond a bare interpreter."""

    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def start(program: str) -> float:
        return best(lambda: subprocess.run([sys.executable, "-I", "-c", program], check=True), 15, children)

    bare = start("pass")
    used = start("from kernelproof.impl.graphdb import GraphDatabase")
    return [Figure("import GraphDatabase from kernelproof.impl.graphdb", (used - bare) * 1e3, None, 20, "ms")]


FIGURES = {
    "import": figure_import,
    "get": figure_get,
    "set": figure_set,
    "walk": figure_walk,
    "reach": figure_reach,
    "load": figure_load,
    "memory": figure_memory,
}


def main() -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=3_000_000)
    given = parser.parse_args()
    print(
        f"# python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}, limit {resource.getrlimit(resource.RLIMIT_AS)[0]}"
    )
    met = True
    with tempfile.TemporaryDirectory(prefix="kernelproof-bench-", dir=os.environ.get("TMPDIR", "/tmp")) as directory:
        for name in given.names or FIGURES:
            for figure in FIGURES[name](Path(directory), given.nodes, given.edges):
                print(figure.line(), flush=True)
                met = met and figure.met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
