"""Terminals, the local side of a copy, and programs on a pair."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from kernelproof.impl.term import (
    PseudoterminalPair,
    make_raw_state,
    restore,
    save,
)
from kernelproof.impl.tests.term.programs import SIZE, Program, script_argv
from kernelproof.impl.tests.term.sides import Local


@pytest.fixture
def run_script() -> Iterator[Callable[..., Any]]:
    """`run_script(text)`: run it on a pair of its own; killed and closed after the test."""
    with ExitStack() as stack:

        @contextmanager
        def program(script: str) -> Iterator[Program]:
            with PseudoterminalPair.open(SIZE) as pair:
                before = save(pair.master)
                process = stack.enter_context(pair.spawn(script_argv(script)))
                try:
                    yield Program(pair, process, before)
                finally:
                    process.send_signal(9)
                    process.wait(30)

        yield lambda script: stack.enter_context(program(script))


@pytest.fixture
def peer() -> Iterator[int]:
    """The peer of a pair."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        yield fd
        os.close(fd)


@pytest.fixture
def local() -> Iterator[Local]:
    """Pipes for the local side."""
    stdin, typing = os.pipe()
    screen, stdout = os.pipe()
    yield Local(stdin, typing, stdout, screen)
    for fd in (stdin, typing, screen, stdout):
        try:
            os.close(fd)
        except OSError:
            continue  # closed by the test


@pytest.fixture
def pair() -> Iterator[PseudoterminalPair]:
    """A pair in raw mode."""
    with PseudoterminalPair.open(SIZE) as pair:
        restore(pair.master, make_raw_state(save(pair.master)))
        yield pair
