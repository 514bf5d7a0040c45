"""Which journal a file gets: a table of decisions, and what is really set."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import Busy, GraphDatabase
from kernelproof.impl.graphdb.journal import Journal, is_wal_repaired, parse_fstype, plan_journal, read_fstype
from kernelproof.impl.graphdb.opening import set_journal

Plan = Callable[[str, tuple[int, int, int], str | None], Journal]


def ask(pragma: str, connection: sqlite3.Connection) -> object:
    """The answer of a pragma."""
    return connection.execute(f"PRAGMA {pragma}").fetchone()


def always_wal(asked: str, version: tuple[int, int, int], fstype: str | None) -> Journal:
    """What most programs do: WAL is faster, so WAL it is."""
    return Journal("wal", "normal", "faster")


@pytest.mark.rule("G5", ours=plan_journal, wrong=always_wal)
def test_wal_only_on_repaired_releases(subject: Plan) -> None:
    """WAL is chosen from 3.44.6, 3.50.7 and 3.51.3 on in their lines, and not on the withdrawn 3.52.0."""
    chosen = {
        version: subject("auto", version, "ext4").mode
        for version in (
            (3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 44, 6), (3, 45, 0), (3, 46, 1), (3, 50, 6), (3, 50, 7), (3, 51, 2),
            (3, 51, 3), (3, 52, 0), (3, 52, 1), (3, 53, 0), (4, 0, 0),
        )
    }  # fmt: skip
    assert {version for version, mode in chosen.items() if mode == "wal"} == {
        (3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 52, 1), (3, 53, 0), (4, 0, 0),
    }  # fmt: skip
    assert {mode for mode in chosen.values()} == {"wal", "truncate"}


@pytest.mark.rule("G5", ours=plan_journal, wrong=always_wal)
def test_no_wal_on_network_file_systems(subject: Plan) -> None:
    """A file on a file system that another host may hold gets the rollback journal, fully synchronised."""
    for fstype in ("nfs4", "cifs", "9p", "fuse.sshfs", "virtiofs"):
        assert subject("auto", (3, 53, 0), fstype)[:2] == ("truncate", "full")


@pytest.mark.rule("G5")
def test_the_caller_may_insist_but_not_everywhere() -> None:
    """WAL that is insisted on is taken on any release, refused on a network file system, and always full."""
    assert plan_journal("wal", (3, 46, 1), "ext4") == Journal("wal", "full", "asked for")
    assert plan_journal("rollback", (3, 53, 0), "ext4")[:2] == ("truncate", "full")
    with pytest.raises(ValueError, match="nfs"):
        plan_journal("wal", (3, 53, 0), "nfs")
    with pytest.raises(ValueError, match="choose auto, wal or rollback"):
        plan_journal("delete", (3, 53, 0), None)


def set_without_reading(connection: sqlite3.Connection, journal: Journal, path: str) -> None:
    """What others do: set the mode on each connection, whatever it is."""
    connection.execute(f"PRAGMA journal_mode = {journal.mode}").fetchone()


@pytest.mark.rule("G5", ours=set_journal, wrong=set_without_reading)
def test_the_mode_is_read_before_it_is_set(
    file: Path, subject: Callable[[sqlite3.Connection, Journal, str], None]
) -> None:
    """On a file that is in WAL mode already, the mode is not set again."""
    with GraphDatabase.open(file, journal="wal") as graph:
        graph.set("/a", "1")
        asked: list[str] = []
        other = sqlite3.connect(file, isolation_level=None)
        other.set_trace_callback(asked.append)
        subject(other, Journal("wal", "full", ""), str(file))
        other.close()
    assert not [text for text in asked if "journal_mode =" in text]


@pytest.mark.rule("G5")
@pytest.mark.parametrize(("asked", "mode"), [("wal", "wal"), ("rollback", "truncate")])
def test_every_connection_has_the_planned_mode(file: Path, asked: str, mode: str) -> None:
    """The planned mode and full synchronisation are in force on each connection."""
    with GraphDatabase.open(file, journal=asked) as graph:
        assert graph.journal.mode == mode
        for pragma, value in (("journal_mode", mode), ("synchronous", 2), ("foreign_keys", 1)):
            assert graph.store.read(partial(ask, pragma)) == (value,)


def test_auto_follows_this_library(file: Path) -> None:
    """Left to itself, a file is in WAL mode exactly where this SQLite is repaired."""
    with GraphDatabase.open(file) as graph:
        assert (graph.journal.mode == "wal") == is_wal_repaired(sqlite3.sqlite_version_info)
        assert ".".join(map(str, sqlite3.sqlite_version_info)) in graph.journal.reason


@pytest.mark.rule("G5")
def test_a_mode_that_others_hold_is_said_so(file: Path) -> None:
    """A file whose WAL mode another connection holds cannot be opened in another mode, and the error says why."""
    with GraphDatabase.open(file, journal="wal") as graph:
        graph.set("/a", "1")
        with pytest.raises(Busy, match="journal mode is wal"):
            GraphDatabase.open(file, journal="rollback", timeout_seconds=0)
        assert graph.exists("/a")
    with GraphDatabase.open(file, journal="rollback") as graph:
        assert graph.exists("/a")
        assert file.read_bytes()[18:20] == b"\x01\x01"


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /srv rw - tmpfs tmpfs rw
31 22 0:40 / /srv/with\\040space rw - nfs4 server:/x rw
32 22 0:41 / /data rw - btrfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("device", "path", "fstype"),
    [
        ("254:0", "/home/x.db", "ext4"),
        ("0:40", "/srv/with space/x.db", "nfs4"),
        ("0:77", "/data/sub/x.db", "btrfs"),
        ("0:77", "/srv2/x.db", "ext4"),
    ],
)
def test_the_file_system_is_found_by_device_or_by_mount_point(device: str, path: str, fstype: str) -> None:
    """The mount with the path's device number wins, else the longest mount point above it."""
    assert parse_fstype(MOUNTS, device, path) == fstype
    assert parse_fstype("", device, path) is None


def test_systems_without_mountinfo_know_nothing(tmp_path: Path) -> None:
    """Where there is no mountinfo the type is unknown, which is no network file system."""
    assert read_fstype(tmp_path, mountinfo=tmp_path / "none") is None
    assert read_fstype(tmp_path) not in (None, "nfs4")
