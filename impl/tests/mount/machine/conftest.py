"""A place to mount on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl import mount


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A private tmpfs with the directories "a" and "b"."""
    path = tmp_path / "place"
    path.mkdir()
    mount.force_mount("place", path, "tmpfs", "private")
    for name in ("a", "b"):
        (path / name).mkdir()
    yield path
    mount.unmount_recursive(path, lazy=True)
