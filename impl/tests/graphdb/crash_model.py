"""A writer whose operations a seed decides, and what its file may hold after a crash: the model, before or after.

Shared by the tests that kill it, that cut its simulated disk, and that cut the power of a machine's disc.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from kernelproof.impl.graphdb import GraphDatabase, GraphError

Contents = tuple[frozenset[str], frozenset[tuple[str, str, str]]]

# Does the operations of a seed one after the other and says so after each. SKIP of them were done before.
WRITER = """
import os, random, sys
from kernelproof.impl.graphdb import GraphDatabase, GraphError
file, seed, skip, count, journal, synchronous = sys.argv[1:]
with GraphDatabase.open(file, journal=journal) as graph:
    graph.store.read(lambda connection: connection.execute(f"PRAGMA synchronous = {synchronous}"))
    OPERATIONS
    for number, step in enumerate(operations(int(seed), int(count))):
        if number < int(skip):
            continue
        try:
            step(graph)
        except GraphError:
            pass
        os.write(1, b"%d\\n" % (number + 1))
    os._exit(0)
"""

OPERATIONS = '''
def operations(seed, count):
    """What a seed does: sets below random parents, deletions, purges, moves, and transactions of several."""
    draw = random.Random(seed)
    for number in range(count):
        path = "/" + "/".join(f"n{draw.randrange(4)}" for _ in range(draw.randrange(1, 4)))
        other = "/" + "/".join(f"n{draw.randrange(4)}" for _ in range(draw.randrange(1, 3)))
        entity = f"e{draw.randrange(12)}"
        kind = draw.choice(["set", "set", "set", "delete", "purge", "move", "several"])
        def step(graph, number=number, path=path, other=other, entity=entity, kind=kind):
            graph.set(f"/done{number}", f"done{number}")
            if kind == "set":
                graph.set(path, entity)
            elif kind == "delete":
                graph.delete(path)
            elif kind == "purge":
                graph.purge(entity)
            elif kind == "move":
                graph.move(path, other)
            else:
                with graph.transaction():
                    for extra in range(30):
                        graph.set(f"/many{number}.{extra}", f"many{number}.{extra}" * 8)
        def whole(graph, step=step):
            with graph.transaction():
                step(graph)
        yield whole
'''


def operations(seed: int, count: int) -> Iterator[Callable[[GraphDatabase], None]]:
    """The writer's operations, for the model."""
    names: dict[str, object] = {"random": random}
    exec(OPERATIONS, names)
    return names["operations"](seed, count)  # type: ignore[operator,no-any-return]


def writer(file: Path, seed: int, skip: int, count: int, journal: str, synchronous: str = "full") -> list[str]:
    """The command of a writer."""
    program = WRITER.replace("    OPERATIONS\n", "".join(f"    {line}\n" for line in OPERATIONS.splitlines()))
    return [sys.executable, "-c", program, str(file), str(seed), str(skip), str(count), journal, synchronous]


def contents(graph: GraphDatabase) -> Contents:
    """What a graph holds."""
    return graph.store.read_consistent(
        lambda c: (
            frozenset(row[0] for row in c.execute("SELECT id FROM node")),
            frozenset(c.execute("SELECT parent_id, name, entity_id FROM edge WHERE parent_id IS NOT NULL").fetchall()),
        )
    )


def states(seed: int, count: int) -> list[Contents]:
    """The contents before the first operation and after each."""
    with GraphDatabase.in_memory() as graph:
        found = [contents(graph)]
        for step in operations(seed, count):
            with suppress(GraphError):
                step(graph)
            found.append(contents(graph))
    return found


def recovered(file: Path, journal: str) -> tuple[Contents, bool]:
    """Open a file after a crash; return what it holds and whether the check found it whole."""
    with GraphDatabase.open(file, create=False, journal=journal) as graph:
        kinds = {problem.kind for problem in graph.check().problems}
        return contents(graph), kinds <= {"unnamed", "unreachable"}


def judge(file: Path, journal: str, allowed: list[Contents], what: str) -> list[str]:
    """Open what a cut left; return what is wrong with it."""
    try:
        found, whole = recovered(file, journal)
    except GraphError as error:
        return [f"{what}: {error}"]
    if not whole:
        return [f"{what}: damaged"]
    return (
        [] if found in allowed else [f"{what}: {len(found[1])} edges, {[len(state[1]) for state in allowed]} allowed"]
    )
