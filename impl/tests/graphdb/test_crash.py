"""Crashes: processes killed at random moments and at each of their writes, and power cuts on a simulated disk.

The disk is made from the system calls of a real writer, as strace records them: what was written and not yet
synchronised may be lost, sector by sector, when the power goes; so may a directory's entries. The real thing, a
machine that is switched off, is for the machine tests; here thousands of cuts cost seconds.
"""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.graphdb import GraphDatabase, GraphError
from kernelproof.impl.tests.graphdb.crash_model import contents, judge, operations, recovered, states, writer

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")

# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_killed_at_random_moments(file: Path, journal: str, full_number: Callable[[int], int]) -> None:
    """After each SIGKILL the file holds every operation that was acknowledged, at most one more, and is whole."""
    seed = random.randrange(10**6)
    draw, done, count = random.Random(seed), 0, 20_000
    expected = states(seed, 1)
    with GraphDatabase.in_memory() as model:
        steps = operations(seed, count)
        present = contents(model)
        assert present == expected[0]
        for kill in range(full_number(250)):
            done, acknowledged = kill_one(file, draw, seed, done, count, journal), done
            while acknowledged < done:
                advance(model, steps)
                acknowledged += 1
            present = contents(model)
            found, whole = recovered(file, journal)
            if found != present:
                advance(model, steps)
                done += 1
                present = contents(model)
            assert found == present, (seed, kill)
            assert whole, (seed, kill)


def advance(model: GraphDatabase, steps: Iterator[Callable[[GraphDatabase], None]]) -> None:
    """Do the next operation in the model."""
    with suppress(GraphError):
        next(steps)(model)


def kill_one(file: Path, draw: random.Random, seed: int, done: int, count: int, journal: str) -> int:
    """Start a writer, kill it at a random moment after some acknowledgements; return the last one's number."""
    with subprocess.Popen(writer(file, seed, done, count, journal), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        wanted = draw.randrange(1, 15)
        text = b""
        while text.count(b"\n") < wanted:
            text += os.read(process.stdout.fileno(), 4096)
        select.select([], [], [], draw.random() * 0.004)
        process.kill()
        text += process.stdout.read()
    return int(text.split(b"\n")[-2])


@needs_strace
@pytest.mark.rule("G+5")
@pytest.mark.long
@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_killed_at_each_write(tmp_path: Path, journal: str, full_number: Callable[[int], int]) -> None:
    """Killed as it begins its n-th write, synchronisation or truncation, the file is before or after the operation."""
    seed, count = random.randrange(10**6), 4
    expected = states(seed, count)
    draw = random.Random(seed)
    for attempt in range(full_number(200)):
        file = tmp_path / f"{attempt}.db"
        GraphDatabase.open(file).close()
        call, number = draw.choice([("pwrite64", 90), ("fdatasync", 12), ("ftruncate", 6)]), draw.random()
        inject = f"inject={call[0]}:signal=KILL:when={1 + int(number * call[1])}"
        command = [str(STRACE), "-f", "-o", os.devnull, "-e", inject, *writer(file, seed, 0, count, journal)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        acknowledged = done.stdout.count(b"\n")
        found, whole = recovered(file, journal)
        assert found in expected[acknowledged : acknowledged + 2], (seed, inject)
        assert whole, (seed, inject)


# --- power cuts -------------------------------------------------------------------------------------------------------

SECTOR = 512
CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) = (?P<result>-?\d+)")
QUOTED = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
OPENED = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


class Call(NamedTuple):
    """One system call of the writer on the graph's directory, or an acknowledgement."""

    name: str
    path: str
    data: bytes
    number: int


def unescape(text: str) -> bytes:
    """Read strace's hexadecimal form."""
    return bytes.fromhex(text.replace("\\x", ""))


def parse_calls(log: str, directory: Path) -> Iterator[Call]:
    """Find the calls that matter in strace's log."""
    for line in log.splitlines():
        match = CALL.match(line)
        if match is None or int(match["result"]) < 0:
            continue
        name, arguments = match["name"], match["arguments"]
        opened, quoted = OPENED.match(arguments), QUOTED.search(arguments)
        data = unescape(quoted[1]) if quoted else b""
        path = unescape(opened[1]).decode() if opened else data.decode(errors="replace")
        if name == "write" and arguments.startswith("1<"):
            yield Call("acknowledge", "", data, 0)
        elif path == str(directory) or path.startswith(f"{directory}/"):
            last = arguments.rsplit(", ", 1)[-1]
            if name == "openat" and "O_CREAT" not in arguments:
                continue
            yield Call(name, path, data, int(last) if name in ("pwrite64", "ftruncate") else 0)


class Disk:
    """Files as they are, and what of them would survive a power cut."""

    def __init__(self, directory: Path, draw: random.Random) -> None:
        self.directory = str(directory)
        self.draw = draw
        self.durable = {str(path): path.read_bytes() for path in directory.iterdir()}
        self.pending: dict[str, list[Call]] = {path: [] for path in self.durable}
        self.entries = set(self.durable)  # the directory as it is on disk

    def do(self, call: Call) -> None:
        """Take one call."""
        if call.name == "openat":
            self.durable.setdefault(call.path, b"")
            self.pending.setdefault(call.path, [])
        elif call.name in ("fsync", "fdatasync"):
            self.synchronise(call.path)
        elif call.name in ("unlink", "unlinkat"):
            self.durable.pop(call.path, None)
            self.pending.pop(call.path, None)
        elif call.name == "pwrite64":
            for start in range(0, len(call.data), SECTOR):
                part = call.data[start : start + SECTOR]
                self.pending[call.path].append(call._replace(data=part, number=call.number + start))
        elif call.name == "ftruncate":
            self.pending[call.path].append(call)

    def synchronise(self, path: str) -> None:
        """Make a file's data, or the directory's entries, safe."""
        if path == self.directory:
            self.entries = set(self.durable)
            return
        for change in self.pending[path]:
            self.durable[path] = apply(self.durable[path], change)
        self.pending[path] = []

    def cut(self, target: Path) -> None:
        """Write what a power cut leaves into an empty directory: of all that is not synchronised, any part."""
        for path, data in self.durable.items():
            image = data
            if path not in self.entries and self.draw.random() < 0.5:
                continue
            for change in self.pending[path]:
                if self.draw.random() < 0.5:
                    image = apply(image, change)
            (target / Path(path).name).write_bytes(image)


def apply(data: bytes, change: Call) -> bytes:
    """Do one write or truncation."""
    if change.name == "ftruncate":
        return data[: change.number].ljust(change.number, b"\0")
    data = data.ljust(change.number, b"\0")
    return data[: change.number] + change.data + data[change.number + len(change.data) :]


def cut_often(tmp_path: Path, seed: int, journal: str, synchronous: str, cuts: int) -> list[str]:
    """Record a writer, cut the power at random points, open what is left; return what was wrong."""
    source = tmp_path / "source"
    source.mkdir()
    file, count = source / "graph.db", 25
    GraphDatabase.open(file, journal=journal).close()
    draw = random.Random(seed)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    log = tmp_path / "log"
    traced = "trace=openat,pwrite64,write,ftruncate,fsync,fdatasync,unlink,unlinkat"
    command = [str(STRACE), "-f", "-y", "-xx", "-s", "70000", "-e", traced, "-o", str(log)]
    subprocess.run([*command, *writer(file, seed, 0, count, journal, synchronous)], check=True, stdout=subprocess.PIPE)
    calls = list(parse_calls(log.read_text(), source))
    expected = states(seed, count)
    assert sum(call.name == "acknowledge" for call in calls) == count
    wrong: list[str] = []
    for cut in range(cuts):
        for path in source.iterdir():
            path.unlink()
        for name, data in before.items():
            (source / name).write_bytes(data)
        disk, moment, acknowledged = Disk(source, draw), draw.randrange(len(calls)), 0
        for call in calls[:moment]:
            disk.do(call)
            acknowledged += call.name == "acknowledge"
        left = tmp_path / f"left{cut}"
        left.mkdir()
        disk.cut(left)
        wrong.extend(judge(left / "graph.db", journal, expected[acknowledged : acknowledged + 2], f"{seed}/{moment}"))
        shutil.rmtree(left)
    return wrong


@needs_strace
@pytest.mark.long
@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_power_cuts_lose_nothing_acknowledged(tmp_path: Path, journal: str, full_number: Callable[[int], int]) -> None:
    """Whatever is lost of what is not synchronised, each acknowledged operation is there, and the file is whole."""
    seed = random.randrange(10**6)
    assert cut_often(tmp_path, seed, journal, "full", full_number(2000)) == []


@needs_strace
def test_without_synchronisation_power_cuts_do_lose(tmp_path: Path) -> None:
    """The control: with synchronous off the same disk loses acknowledged operations."""
    assert cut_often(tmp_path, 7, "rollback", "off", 20) != []
