"""Pseudoterminal pairs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pair(NamedTuple):
    """The two ends of a pseudoterminal; `path` is that of the slave."""

    master: int
    slave: int
    path: str


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A fresh pseudoterminal pair, no process's controlling terminal."""
    master, slave = os.openpty()
    yield Pair(master, slave, os.ttyname(slave))
    os.close(slave)
    os.close(master)
