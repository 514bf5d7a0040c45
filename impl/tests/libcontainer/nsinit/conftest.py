"""A recorder of calls, and a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.tests.libcontainer.nsinit.calls import Calls


@pytest.fixture
def calls() -> Calls:
    """A recorder."""
    return Calls([])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose process has no terminal."""
    (tmp_path / "config.json").write_text(Config.minimal("rootfs", ["true"]).dump())
    return tmp_path
