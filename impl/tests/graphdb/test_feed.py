"""The change feed: complete, in order, across processes, and honest about gaps."""

from __future__ import annotations

import fcntl
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.inotify import Event, inotify_add_watch, inotify_init1
from kernelproof.impl.graphdb import GraphDatabase, NameTaken, Resync
from kernelproof.impl.graphdb.feed import Change


class Replica:
    """A copy of the graph that is kept by the feed alone."""

    def __init__(self) -> None:
        self.entities: dict[str, str | None] = {"0": None}
        self.edges: dict[tuple[str, str], tuple[str, str | None]] = {}
        self.sequence = 0

    def apply(self, changes: Iterator[Change]) -> None:
        """Do each change in the copy."""
        for change in changes:
            assert change.sequence == self.sequence + 1
            self.sequence = change.sequence
            edge = (change.parent_id or "", change.name or "")
            if change.kind in ("entity-added", "entity-attributes"):
                self.entities[change.entity_id] = change.attributes
            elif change.kind == "entity-removed":
                del self.entities[change.entity_id]
            elif change.kind == "edge-removed":
                assert self.edges.pop(edge)[0] == change.entity_id
            else:
                self.edges[edge] = (change.entity_id, change.attributes)

    def matches(self, graph: GraphDatabase) -> bool:
        """Compare with the graph, read through SQL."""
        nodes = graph.store.read(lambda c: dict(c.execute("SELECT id, attributes FROM node").fetchall()))
        links = graph.store.read(
            lambda c: {
                (parent, name): (child, attributes)
                for parent, name, child, attributes in c.execute(
                    """SELECT p.id, l.name, c.id, l.attributes FROM link AS l
                    JOIN node AS p ON p.key = l.parent JOIN node AS c ON c.key = l.child"""
                )
            }
        )
        return (nodes, links) == (self.entities, self.edges)


@pytest.mark.rule("G+1")
def test_a_copy_kept_by_the_feed_is_equal(graph: GraphDatabase) -> None:
    """Every kind of change is in the feed: a copy that follows it is the graph, after each step."""
    replica = Replica()
    steps = (
        lambda: graph.set("/a", "1", attributes={"x": 1}),
        lambda: graph.set("/a/b", "2"),
        lambda: graph.set("/c", "2"),
        lambda: graph.set_attributes("2", {"y": 2}),
        lambda: graph.set_edge_attributes("/a", None),
        lambda: graph.rename("/a", "z"),
        lambda: graph.move("/z/b", "/b"),
        lambda: graph.set("/c", "3", expect="2"),
        lambda: graph.delete("/b"),
        lambda: graph.purge("1"),
        lambda: graph.set("/z", "1"),
    )
    for step in steps:
        step()
        replica.apply(graph.changes(replica.sequence))
        assert replica.matches(graph)
    assert list(graph.changes(replica.sequence)) == []


@pytest.mark.rule("G+1")
def test_what_is_undone_is_not_in_the_feed(graph: GraphDatabase) -> None:
    """A refused or rolled back change leaves no row and no gap; what other programs write is there."""
    graph.set("/a", "1")
    with pytest.raises(NameTaken):
        graph.set("/a", "2")
    graph.set("/b", "2")
    assert graph.path is not None
    with closing(sqlite3.connect(graph.path, isolation_level=None)) as other:
        other.execute("INSERT INTO node (id) VALUES ('3')")
        other.execute("INSERT INTO edge (parent_id, name, entity_id) VALUES ('0', 'c', '3')")
    kinds = [(change.sequence, change.kind, change.entity_id) for change in graph.changes()]
    assert kinds == [
        (1, "entity-added", "1"), (2, "edge-added", "1"), (3, "entity-added", "2"), (4, "edge-added", "2"),
        (5, "entity-added", "3"), (6, "edge-added", "3"),
    ]  # fmt: skip


@pytest.mark.rule("G+1")
def test_gaps_are_told(file: Path) -> None:
    """A reader that is behind the bounded log, before a bulk load, or ahead of the log is told to read anew."""
    with GraphDatabase.open(file, change_limit=100) as graph:
        for number in range(200):
            graph.set(f"/{number}", "1")
        with pytest.raises(Resync) as caught:
            list(graph.changes(0))
        error = caught.value
        assert 0 < error.oldest < error.newest == graph.sequence == 201
        assert 100 <= error.newest - error.oldest < 200
        assert len(list(graph.changes(error.oldest))) == error.newest - error.oldest
        with pytest.raises(Resync):
            list(graph.changes(error.oldest - 1))
        graph.load([("0", "bulk", "bulk")])
        with pytest.raises(Resync) as caught:
            list(graph.changes(error.newest))
        assert list(graph.changes(caught.value.newest)) == []
        graph.set("/after", "2")
        assert [change.kind for change in graph.changes(caught.value.newest)] == ["entity-added", "edge-added"]
        with pytest.raises(Resync):
            list(graph.changes(graph.sequence + 1))


WRITER = """
import sys
from kernelproof.impl.graphdb import GraphDatabase
with GraphDatabase.open(sys.argv[1]) as graph:
    for line in sys.stdin:
        graph.set("/" + line.strip(), "x")
        print(line, end="", flush=True)
"""


@pytest.mark.rule("G+1")
@pytest.mark.parametrize("way", ["poll", "wake"])
def test_another_process_is_followed(graph: GraphDatabase, way: str) -> None:
    """A change by another process ends the wait: soon when looking again and again, at once with a descriptor."""
    graph.set("/a", "x")
    arguments = [sys.executable, "-c", WRITER, str(graph.path)]
    read_end, write_end = os.pipe()
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for name in ("b", "c", "d"):
            since = graph.sequence
            writer.stdin.write(f"{name}\n")
            writer.stdin.flush()
            if way == "wake":
                writer.stdout.readline()
                os.write(write_end, b"changed")
                newest = graph.wait_until_changed(since, 60, wake=read_end)
            else:
                newest = graph.wait_until_changed(since, 60)
            assert newest == since + 1
            assert [change.name for change in graph.changes(since)] == [name]
        writer.stdin.close()
    os.close(read_end)
    os.close(write_end)


@pytest.mark.rule("G+1")
def test_threads_wake_each_other(graph: GraphDatabase) -> None:
    """A change by another thread ends the wait without a look at the clock."""
    since = graph.sequence
    thread = threading.Timer(0.05, lambda: graph.set("/a", "1"))
    thread.start()
    began = time.monotonic()
    assert graph.wait_until_changed(since, 300, poll_seconds=290) == since + 2
    assert time.monotonic() - began < 60
    thread.join()


@pytest.mark.rule("G+1")
def test_a_wait_ends_with_its_time(graph: GraphDatabase) -> None:
    """Without a change the wait ends at its timeout and returns the number that it was given."""
    graph.set("/a", "1")
    read_end, write_end = os.pipe()
    for wake in (None, read_end):
        began = time.monotonic()
        assert graph.wait_until_changed(2, 0.1, wake=wake) == 2
        assert time.monotonic() - began >= 0.1
    os.close(read_end)
    os.close(write_end)


@pytest.mark.rule("G+1")
def test_waiting_and_following_read_no_more_of_the_log_than_is_new(graph: GraphDatabase) -> None:
    """With a long log neither a look while waiting nor the next page reads all of it: both take few steps of SQLite."""
    with graph.transaction():
        for number in range(3000):
            graph.set(f"/{number}", f"n{number}")
    steps: list[int] = []

    def count(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(lambda: steps.append(1), 100)

    graph.store.read(count)
    since = graph.sequence
    assert graph.wait_until_changed(since, 0) == since
    assert list(graph.changes(since)) == []
    assert len(steps) <= 1
    list(graph.changes(0))  # every row once: a few steps each
    assert len(steps) < since * 30 / 100


@pytest.mark.rule("G+1")
@pytest.mark.parametrize("wake", [False, True], ids=["poll", "wake"])
def test_a_wait_may_be_without_end(graph: GraphDatabase, wake: bool) -> None:
    """A wait whose timeout no call of the system could take ends with the change."""
    read_end, write_end = os.pipe()

    def change() -> None:
        graph.set("/a", "1")
        os.write(write_end, b"changed")

    thread = threading.Timer(0.05, change)
    thread.start()
    for seconds in (3e6, float("inf")):
        newest = graph.wait_until_changed(0, seconds, wake=read_end if wake else None, poll_seconds=seconds)
        assert newest > 0
    thread.join()
    os.close(read_end)
    os.close(write_end)


@pytest.mark.rule("G+1")
def test_descriptor_of_any_number_wakes(graph: GraphDatabase) -> None:
    """A descriptor above 1023, the last that select(2) takes, wakes the waiter too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    read_end, write_end = os.pipe()
    high = fcntl.fcntl(read_end, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        os.write(write_end, b"changed")
        since = graph.sequence
        assert graph.wait_until_changed(since, 0.05, wake=high) == since
        graph.set("/a", "1")
        assert graph.wait_until_changed(since, 60, wake=high) == since + 2
    finally:
        for fd in (read_end, write_end, high):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.rule("G+1")
@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_inotify_wakes_the_waiter(graph: GraphDatabase) -> None:
    """With inotify on the file's directory as descriptor, another process's commit ends the wait without polling."""
    graph.set("/a", "x")
    watch = inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        assert graph.path is not None
        inotify_add_watch(watch, graph.path.parent, Event.MODIFY)
        since = graph.sequence
        arguments = [sys.executable, "-c", WRITER, str(graph.path)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdin is not None
            writer.stdin.write("b\n")
            writer.stdin.close()
            assert graph.wait_until_changed(since, 60, wake=watch) == since + 1
    finally:
        os.close(watch)
