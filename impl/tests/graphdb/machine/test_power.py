"""Pulled plugs: a disc that loses, at a random moment of a writer's work, any part of what it was not told to keep.

The writer works on the machine's scratch disc. A cut takes what the disc was sent up to that moment: what came before
the last flush survives, and of each later write all, nothing, or some of its sectors, as a seed decides. From that a
disc is made, mounted and looked at. The seed is printed.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl.graphdb import GraphDatabase
from kernelproof.impl.tests.graphdb.crash_model import judge, states, writer
from kernelproof.vm.guest.write_log import DISCARD, FLUSH, FUA, MARK, Entry, Extent, IncompleteLog, read_entries

pytestmark = [pytest.mark.machine(profile="disk"), pytest.mark.long]

CUTS = 5  # a machine: more would not fit into a test's time on a busy host
OPERATIONS = 200
SECTOR = 512
BLKFLSBUF = 0x1261
LOG = Path("/dev/disc/scratch-log")
_ALL = Extent(2**40, SECTOR)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A hundred cuts under --long, half of them with each journal, five a machine; else one of each."""
    if "cuts" in metafunc.fixturenames:
        rounds = [(journal, number) for number in range(10) for journal in ("rollback", "wal")]
        if not metafunc.config.getoption("--long"):
            rounds = rounds[:2]
        cuts = CUTS if len(rounds) > 2 else 1
        metafunc.parametrize(
            ("journal", "cuts"), [(journal, cuts) for journal, _ in rounds], ids=[f"{j}{n}" for j, n in rounds]
        )


def read_log() -> list[Entry]:
    """Everything that the disc was sent up to now, in order."""
    log = os.open(LOG, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(log, BLKFLSBUF)  # what was read of it before is old
        entries: list[Entry] = []
        try:
            entries.extend(read_entries(lambda length, at: os.pread(log, length, at), _ALL))
        except IncompleteLog:
            return entries
        raise AssertionError("the log has no end")
    finally:
        os.close(log)


def survivors(entries: list[Entry], draw: random.Random) -> Iterator[Entry]:
    """What of these writes a power cut behind them leaves."""
    last = max((number for number, entry in enumerate(entries) if entry.flags & FLUSH), default=0)
    for number, entry in enumerate(entries):
        if not entry.length or entry.flags & (DISCARD | MARK):
            continue
        chance = draw.random()
        if number < last or entry.flags & FUA or chance < 1 / 3:
            yield entry
        elif chance < 2 / 3:
            for start in range(0, entry.length, SECTOR):
                if draw.random() < 0.5:
                    yield Entry(entry.at + start, SECTOR, entry.flags, entry.data + start)


def make_image(entries: list[Entry], draw: random.Random, image: Path) -> None:
    """Write what survives into a file as large as the disc."""
    log = os.open(LOG, os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(target, 256 * 2**20)
        for entry in survivors(entries, draw):
            os.pwrite(target, os.pread(log, entry.length, entry.data), entry.at)
    finally:
        os.close(log)
        os.close(target)


@contextmanager
def looped(image: Path, place: Path) -> Iterator[Path]:
    """Mount a disc's image."""
    place.mkdir()
    done = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = Path(done.stdout.strip())
    try:
        mount(device, place, "ext4")
        try:
            yield place
        finally:
            umount2(place)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


class Writer:
    """The writer at work on the mounted disc, and what it has acknowledged."""

    def __init__(self, file: Path, seed: int, journal: str, synchronous: str) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = writer(file, seed, 0, OPERATIONS, journal, synchronous)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self.acknowledged = 0

    def wait_for(self, number: int) -> None:
        """Wait until it has acknowledged that many operations."""
        assert self._process.stdout is not None
        while self.acknowledged < number:
            text = os.read(self._process.stdout.fileno(), 65536)
            assert text, f"the writer ended after {self.acknowledged} operations"
            self.acknowledged += text.count(b"\n")

    def hold(self) -> None:
        """Stop it where it is, and take what it has acknowledged until then."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        while select.select([self._process.stdout], [], [], 0)[0]:
            text = os.read(self._process.stdout.fileno(), 65536)
            assert text, f"the writer ended after {self.acknowledged} operations"
            self.acknowledged += text.count(b"\n")

    def go_on(self) -> None:
        """Let it work again."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        with self._process as process:
            process.wait()


@pytest.fixture
def disc(scratch_disc: Path, tmp_path: Path) -> Iterator[Path]:
    """The scratch disc, with nothing but a new file system on it."""
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", scratch_disc], check=True)
    place = tmp_path / "disc"
    place.mkdir()
    # An idle machine's time jumps, further on a busy host: nothing is written back for being old.
    Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("0")
    mount(scratch_disc, place, "ext4", data="commit=86400")
    yield place
    umount2(place)


def cut_often(disc: Path, tmp_path: Path, seed: int, journal: str, synchronous: str, cuts: int) -> list[str]:
    """Let a writer work and pull the plug at random moments of that; return what was wrong with what was left."""
    draw = random.Random(seed)
    expected = states(seed, OPERATIONS)
    GraphDatabase.open(disc / "graph.db", journal=journal).close()
    os.sync()
    at_work = Writer(disc / "graph.db", seed, journal, synchronous)
    wrong: list[str] = []
    try:
        for cut in range(cuts):
            at_work.wait_for(at_work.acknowledged + draw.randrange(1, 12))
            select.select([], [], [], draw.random() * 0.01)  # somewhere in the middle of what comes next
            at_work.hold()  # it writes nothing new while this one looks at what it has written
            acknowledged, entries = at_work.acknowledged, read_log()
            image = tmp_path / f"image{cut}"
            make_image(entries, draw, image)
            with looped(image, tmp_path / f"left{cut}") as left:
                what = f"seed {seed}, cut {cut} after {len(entries)} writes, {acknowledged} acknowledged"
                wrong += judge(left / "graph.db", journal, expected[acknowledged : acknowledged + 2], what)
            image.unlink()
            at_work.go_on()
    finally:
        at_work.end()
    return wrong


def test_pulled_plugs_lose_nothing_acknowledged(disc: Path, tmp_path: Path, journal: str, cuts: int) -> None:
    """After a cut at any moment each acknowledged operation is there, the file is whole, the graph is the model's."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    assert cut_often(disc, tmp_path, seed, journal, "full", cuts) == []


@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_without_synchronisation_plugs_do_lose(
    disc: Path, tmp_path: Path, journal: str, full_number: Callable[[int], int]
) -> None:
    """The control: with synchronous off the same cuts lose acknowledged operations."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    assert cut_often(disc, tmp_path, seed, journal, "off", max(3, full_number(10))) != []
