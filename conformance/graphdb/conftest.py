"""Graphs of a test: impl.graphdb acts, through its functions and through its lowest layer, a connection as
`opening.connect` makes it; the sqlite3 shell, a process of its own, and the bytes of the file observe."""

from __future__ import annotations

import os
import select
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof.impl.graphdb import GraphDatabase, opening
from kernelproof.impl.graphdb.journal import plan_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SHELL_SECONDS = 30
_UNNAMED = {3091: "SQLITE_CONSTRAINT_DATATYPE"}  # in no version of Python's list (rescode)
_END = "--end of the answer--"


class Shell:
    """The sqlite3 shell on one file, started when first asked; it may hold transactions between two scripts."""

    def __init__(self, path: Path, *options: str) -> None:
        self._command = ["sqlite3", "-batch", *options, "-cmd", ".timeout 0", "-cmd", ".nullvalue NULL", str(path)]
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, script: str) -> list[str]:
        """Run a script and return the lines that it prints; an error is a line and does not end the script."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{script}\n.print {_END}\n".encode())
        process.stdin.flush()
        answer = b""
        while not answer.endswith(f"{_END}\n".encode()):
            ready, _, _ = select.select([process.stdout], [], [], _SHELL_SECONDS)
            assert ready, f"the shell did not answer {script!r}, only {answer!r}"
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, f"the shell ended: {answer!r}"
            answer += piece
        return answer.decode().splitlines()[:-1]

    def kill(self) -> None:
        """End it by SIGKILL, with whatever it holds."""
        if self._process is not None:
            self._process.kill()
            with self._process as process:
                process.wait()
            self._process = None


class Connect(Protocol):
    def __call__(
        self, *, read_only: bool = False, timeout_seconds: float = 0, journal: str = "rollback"
    ) -> sqlite3.Connection: ...


class Refusal(Protocol):
    def __call__(self, call: Callable[..., object], *arguments: object, **keywords: object) -> str: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's graph lies."""
    return tmp_path / "graph.db"


@pytest.fixture
def graph(path: Path) -> Iterator[GraphDatabase]:
    """A graph in rollback mode that does not wait for locks."""
    with GraphDatabase.open(path, journal="rollback", timeout_seconds=0) as opened:
        yield opened


@pytest.fixture
def wal_graph(path: Path) -> Iterator[GraphDatabase]:
    """A graph in WAL mode that does not wait for locks."""
    with GraphDatabase.open(path, journal="wal", timeout_seconds=0) as opened:
        yield opened


@pytest.fixture
def connect(path: Path) -> Iterator[Connect]:
    """Make connections of impl's lowest layer: no transaction starts by itself, and nothing waits for locks."""
    made: list[sqlite3.Connection] = []

    def one(*, read_only: bool = False, timeout_seconds: float = 0, journal: str = "rollback") -> sqlite3.Connection:
        planned = plan_journal(journal, sqlite3.sqlite_version_info, None)
        made.append(opening.connect(opening.Options(str(path), read_only, timeout_seconds, planned)))
        return made[-1]

    yield one
    for connection in made:
        connection.close()


@pytest.fixture
def low(graph: GraphDatabase, connect: Connect) -> sqlite3.Connection:
    """One connection of the lowest layer to the graph's file."""
    assert graph.path is not None
    return connect()


@pytest.fixture
def shell(path: Path) -> Iterator[Shell]:
    """The sqlite3 shell on the test's graph."""
    started = Shell(path)
    yield started
    started.kill()


@pytest.fixture
def refusal() -> Refusal:
    """Call, and return the name of SQLite's extended result code, or "no error"."""

    def call_it(call: Callable[..., object], *arguments: object, **keywords: object) -> str:
        try:
            call(*arguments, **keywords)
        except sqlite3.Error as error:
            return _UNNAMED.get(error.sqlite_errorcode, error.sqlite_errorname)
        return "no error"

    return call_it
