"""What is left after a kill and after a power cut, by journal and by level of synchronisation."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl.graphdb import GraphDatabase, ReadOnly, opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.graphdb.conftest import Shell
    from kernelproof.conformance.seen import Seen

IDS = "SELECT id FROM node ORDER BY id;"
BEGUN = "PRAGMA cache_size = 1; BEGIN; INSERT INTO node (id) SELECT 'begun ' || value FROM generate_series(1, 2000);"
"""A transaction larger than the shell's cache, so that some of it reaches the file before the commit."""


class Disc(Protocol):
    def __call__(self, device: Path) -> Path: ...


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Disc]:
    """Mount a disc's ext4, and unmount it after the test. Nothing is written back for being old.

    An idle machine's time jumps: on a busy host it would be the guest's next minute before the power is cut.
    """
    places: list[Path] = []
    Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("0")

    def at(device: Path) -> Path:
        place = tmp_path / f"disc{len(places)}"
        place.mkdir()
        mount(device, place, "ext4", data="commit=86400")
        places.append(place)
        return place

    yield at
    for place in places:
        umount2(place)


@pytest.fixture
def disc(scratch_disc: Path, mounted: Disc) -> Path:
    """Where the scratch disc is mounted, with nothing but a new file system on it."""
    subprocess.run(["mkfs.ext4", "-q", scratch_disc], check=True, timeout=60)
    return mounted(scratch_disc)


def journal_of(path: Path) -> Path:
    """The file that holds the rollback journal."""
    return path.with_name(path.name + "-journal")


def add_and_die(path: Path, mode: str, level: str) -> None:
    """Set one name at a level of synchronisation and end by SIGKILL, without closing anything."""
    with GraphDatabase.open(path, journal=mode) as graph:
        graph.store.read(lambda c: c.execute(f"PRAGMA synchronous = {level}"))
        graph.set(f"/{level}", level)
        os._exit(0)


@behaviour("graphdb.sync.application-crash-safe")
def test_a_commit_outlives_its_process_at_every_level(path: Path, in_child: InChild, shell: Shell) -> None:
    """With OFF as with EXTRA, in both modes, what was committed is there after the process was killed."""
    GraphDatabase.open(path, journal="rollback").close()
    levels = ("OFF", "NORMAL", "FULL", "EXTRA")
    for mode in ("rollback", "wal"):
        for level in levels:
            child = os.fork()
            if child == 0:
                add_and_die(path, mode, level)
            assert os.waitpid(child, 0)[1] == 0
        with GraphDatabase.open(path, journal=mode) as graph:
            assert sorted(found.name for found in graph.children("/")) == sorted(levels)
            assert shell("SELECT count(*) FROM link; PRAGMA integrity_check;") == ["4", "ok"]
            for level in levels:
                graph.purge(level)
        shell.kill()


@behaviour("graphdb.sync.wal-normal-power-loss")
def test_normal_loses_and_stays_consistent(
    disc: Path, power_cut: Callable[[], Path], mounted: Disc, seen: Seen
) -> None:
    """In WAL mode with NORMAL the last commit is gone after the power cut, and the graph is whole."""
    graph = GraphDatabase.open(disc / "graph.db", journal="wal")
    graph.set("/kept", "kept")  # synchronisation is FULL
    graph.store.read(lambda c: c.execute("PRAGMA synchronous = NORMAL"))
    graph.set("/lost", "lost")
    after = mounted(power_cut()) / "graph.db"
    with closing(sqlite3.connect(after)) as plain:
        found = [row[0] for row in plain.execute(IDS)]
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with GraphDatabase.open(after, journal="wal") as again:
        assert {problem.kind for problem in again.check().problems} == set()
    assert seen(found) == ["0", "kept"]
    graph.close()


@behaviour("graphdb.sync.wal-full-durable")
def test_full_keeps_what_returned(disc: Path, power_cut: Callable[[], Path], mounted: Disc, seen: Seen) -> None:
    """In WAL mode with FULL, which is what `open` sets, each commit that returned is there after the power cut."""
    graph = GraphDatabase.open(disc / "graph.db", journal="wal")
    assert graph.journal.synchronous == "full"
    assert graph.store.read(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    names = [f"n{number}" for number in range(20)]
    for name in names:
        graph.set(f"/{name}", name)
    after = mounted(power_cut()) / "graph.db"
    with closing(sqlite3.connect(after)) as plain:
        found = {row[0] for row in plain.execute("SELECT name FROM link")}
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert seen(sorted(set(names) - found)) == []
    graph.close()


@behaviour("graphdb.sync.extra-syncs-directory")
@pytest.mark.parametrize(("level", "kept"), [("FULL", False), ("EXTRA", True)], ids=["full", "extra"])
def test_only_extra_synchronises_the_directory(
    disc: Path, power_cut: Callable[[], Path], mounted: Disc, seen: Seen, level: str, kept: bool
) -> None:
    """In DELETE mode the journal comes back after a power cut and undoes the last commit, but for EXTRA; that is why
    `open` chooses TRUNCATE, which keeps what returned."""
    path = disc / "graph.db"
    with GraphDatabase.open(path, journal="rollback") as ours:
        ours.set("/first", "first")
        assert ours.journal.mode == "truncate"
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("PRAGMA journal_mode = DELETE").fetchall()
    plain.execute(f"PRAGMA synchronous = {level}")
    plain.execute("INSERT INTO node (id) VALUES ('last')")
    os.sync()
    plain.execute("INSERT INTO node (id) VALUES ('very last')")
    assert not journal_of(path).exists()
    after = mounted(power_cut())
    with GraphDatabase.open(after / "graph.db", journal="rollback") as again:
        found = [row[0] for row in again.store.read(lambda c: c.execute(IDS).fetchall())]
        assert {problem.kind for problem in again.check().problems} == {"unnamed"}
    plain.close()
    assert seen("very last" in found) is kept


@behaviour("graphdb.sync.default-full")
def test_full_is_the_default(graph: GraphDatabase, shell: Shell, seen: Seen) -> None:
    """The shell's connection to a graph with a rollback journal synchronises with FULL by itself; ours say so."""
    level = shell("PRAGMA synchronous;")
    assert graph.journal.synchronous == "full"
    assert graph.store.read(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert seen(level) == ["2"]


@behaviour("graphdb.journal.hot-journal-rollback")
def test_a_killed_writers_journal_is_rolled_back(path: Path, graph: GraphDatabase, shell: Shell) -> None:
    """The next opener undoes what the killed shell had begun, takes the journal away and sees committed rows only."""
    graph.set("/a", "a")
    size = path.stat().st_size
    graph.close()
    shell(BEGUN)
    shell.kill()
    assert journal_of(path).stat().st_size > 512
    assert path.stat().st_size > size
    with GraphDatabase.open(path, journal="rollback") as again:
        assert again.store.read(lambda c: c.execute(IDS).fetchall()) == [("0",), ("a",)]
        assert again.check().ok
        assert not journal_of(path).exists()
        assert shell(IDS) == ["0", "a"]
    assert path.stat().st_size == size


@behaviour("graphdb.journal.deleting-hot-journal")
def test_without_its_journal_nothing_is_rolled_back(path: Path, graph: GraphDatabase, shell: Shell) -> None:
    """If the killed writer's journal was renamed, what it had written of its transaction stays in the file."""
    graph.set("/a", "a")
    graph.close()
    before = path.read_bytes()
    shell(BEGUN)
    shell.kill()
    journal_of(path).rename(path.with_name("elsewhere"))
    with GraphDatabase.open(path, journal="rollback", create=False) as again:
        problems = again.check().problems
    assert path.read_bytes()[: len(before)] != before
    assert problems != ()  # rows begun, or a damaged file: either way not the graph as it was committed
    path.with_name("elsewhere").rename(journal_of(path))
    assert shell(IDS) == ["0", "a"]
    assert path.read_bytes() == before


@behaviour("graphdb.journal.recovery-needs-write")
def test_a_reader_cannot_roll_back(path: Path, graph: GraphDatabase, shell: Shell, seen: Seen) -> None:
    """A read-only connection that meets a hot journal gets SQLITE_READONLY_ROLLBACK, a graph ReadOnly."""
    graph.set("/a", "a")
    graph.close()
    shell(BEGUN)
    shell.kill()
    before = path.read_bytes(), journal_of(path).read_bytes()
    reader = sqlite3.connect(opening.format_uri(str(path), "ro"), uri=True)
    with pytest.raises(sqlite3.OperationalError) as refused:
        reader.execute(IDS)
    reader.close()
    with pytest.raises(ReadOnly, match="READONLY_ROLLBACK"):
        GraphDatabase.open(path, read_only=True)
    assert (path.read_bytes(), journal_of(path).read_bytes()) == before
    assert seen(refused.value.sqlite_errorname) == "SQLITE_READONLY_ROLLBACK"
