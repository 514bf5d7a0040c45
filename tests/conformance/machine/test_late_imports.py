"""What would be imported at its first use is there before the snapshot: no clone imports it again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kernelproof.impl import mount

pytestmark = pytest.mark.machine


def test_nothing_is_left_to_import(tmp_path: Path) -> None:
    """Neither the names that a package of `impl` finds when they are asked for, nor what its first call needs."""
    before = set(sys.modules)
    for name in dir(mount):
        getattr(mount, name)
    assert mount.is_mount_point("/proc")
    assert not mount.is_mount_point(tmp_path)
    assert set(sys.modules) - before == set()
    assert "getpass" in before  # which pytest imports for its first folder
