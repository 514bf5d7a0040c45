"""Older generations that have not ended: listed, and ended at their age limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import messages
from kernelproof.impl.listenbuffer.elders import read_elders
from kernelproof.impl.listenbuffer.handover import Generations, take_over
from kernelproof.impl.tests.listenbuffer.generations import echo

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="pidfds are Linux's")

STAYS = """
import sys
from kernelproof.impl.listenbuffer import listen
from kernelproof.impl.listenbuffer.handover import Generations, take_over
from kernelproof.impl.tests.listenbuffer.generations import echo
try:
    taken = take_over(sys.argv[1])
    echo(taken.listeners["web"], "2")
    generations = taken.ready()
except FileNotFoundError:
    generations = Generations(sys.argv[1], {"web": listen("tcp://127.0.0.1:0")})
print("serves", flush=True)
sys.stdin.read()
"""


@contextmanager
def staying(control: str) -> Iterator[subprocess.Popen[str]]:
    """A generation that serves, and does not end when it is retired."""
    command = [sys.executable, "-c", STAYS, control]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serves\n"
        yield process


def follow(control: str, age_limit_seconds: float | None) -> Generations:
    """Take over from whoever serves."""
    taken = take_over(control)
    echo(taken.listeners["web"], "last")
    return taken.ready(age_limit_seconds=age_limit_seconds)


@pytest.mark.rule("L7")
def test_those_who_have_not_ended_are_listed(tmp_path: Path) -> None:
    """Over several generations the list has those who live, the youngest first, and no longer than they do."""
    control = str(tmp_path / "control")
    with staying(control) as first, staying(control) as second, follow(control, None) as last:
        assert [(elder.generation, elder.pid) for elder in last.elders] == [(2, second.pid), (1, first.pid)]
        assert last.elders[0].retired >= last.elders[1].retired
        second.communicate()
        assert [elder.pid for elder in last.elders] == [first.pid]
        first.communicate()
        assert last.elders == ()
        last.listeners["web"].close()


@pytest.mark.rule("L7")
def test_those_who_take_too_long_are_ended(tmp_path: Path) -> None:
    """A generation that has not ended at the age limit is killed; one that retires leaves that to its successor."""
    control = str(tmp_path / "control")
    with staying(control) as first, follow(control, 3600) as second:
        assert [elder.pid for elder in second.elders] == [first.pid]
        with follow(control, 0.1) as last:
            assert first.wait(60) == -9
            assert second.retired.wait(60)
            assert (second.elders, [elder.pid for elder in last.elders]) == ((), [os.getpid()])
            for generations in (second, last):
                generations.listeners["web"].close()


@pytest.mark.parametrize("elders", [None, [], [[1, 2]], [["x", 2, 0.0]], [[1, 2, None]], [[1, 2, 0.0], [1, 2, 0.0]]])
def test_a_last_word_that_does_not_fit(elders: object) -> None:
    """A list that does not fit its descriptors is none, and they are closed."""
    reading, writing = os.pipe()
    assert read_elders(messages.Message("retire", {"elders": elders}, (writing,))) == ()
    with open(reading, "rb") as end:
        assert end.read() == b""
