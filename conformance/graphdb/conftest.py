"""Databases of a test; the sqlite3 module acts, the sqlite3 shell and the bytes of the file observe."""

from __future__ import annotations

import sqlite3
import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Shell(Protocol):
    def __call__(self, script: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database lies."""
    return tmp_path / "graph.db"


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that starts and ends no transaction by itself and does not wait for locks."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


@pytest.fixture
def shell(path: Path) -> Shell:
    """Run a script on the test's database in the sqlite3 shell, which stops at the first error."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["sqlite3", "-batch", "-bail", str(path), script]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)

    return run
