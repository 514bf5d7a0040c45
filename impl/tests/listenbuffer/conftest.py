"""What the tests of listeners share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import (
    GatedListener,
    listen,
)
from kernelproof.impl.listenbuffer.handover import Generations
from kernelproof.impl.tests.listenbuffer.generations import echo


@pytest.fixture
def tcp() -> Iterator[GatedListener]:
    """A listener on a free port of the loopback."""
    with listen("tcp://127.0.0.1:0") as listener:
        yield listener


@pytest.fixture
def old(tmp_path: Path) -> Iterator[tuple[Generations, GatedListener, GatedListener]]:
    """A first generation that serves on TCP and on a unix socket."""
    web, local = listen("tcp://127.0.0.1:0"), listen(f"unix:{tmp_path}/app.sock")
    with web, local, Generations(f"{tmp_path}/control", {"web": web, "local": local}) as generations:
        for listener in (web, local):
            listener.activate()
            echo(listener, "1")
        yield generations, web, local
