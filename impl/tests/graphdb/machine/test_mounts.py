"""Graph files on mounts that cannot be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl._syscalls.mount import MountFlag, mount
from kernelproof.impl.graphdb import GraphDatabase

pytestmark = pytest.mark.machine


@pytest.mark.rule("G11")
@pytest.mark.parametrize("journal", ["wal", "rollback"])
def test_reading_on_a_read_only_mount(tmp_path: Path, journal: str) -> None:
    """A file in either journal mode is read on a mount that is read-only."""
    mount("none", tmp_path, "tmpfs")
    with GraphDatabase.open(tmp_path / "graph.db", journal=journal) as graph:
        graph.set("/a", "1")
    mount("none", tmp_path, "tmpfs", MountFlag.REMOUNT | MountFlag.RDONLY)
    with GraphDatabase.open(tmp_path / "graph.db", read_only=True) as graph:
        assert graph.exists("/a")
