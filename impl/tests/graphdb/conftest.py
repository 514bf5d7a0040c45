"""Fixtures of the graph's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import GraphDatabase


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a graph file may lie; nothing is there."""
    return tmp_path / "graph.db"


@pytest.fixture
def graph(file: Path) -> Iterator[GraphDatabase]:
    """A new graph in a file."""
    with GraphDatabase.open(file, timeout_seconds=60) as opened:
        yield opened
