"""Version 2, the io controller: rates, weights and figures of block devices; acted on by impl.cgroups."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import MIB, run_inside, set_limits
from kernelproof.impl.cgroups.controllers import io
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import IoLimit, Limits
from kernelproof.impl.cgroups.planning import plan_v2

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen

DISC = Path("/dev/disc/scratch")


def numbers() -> tuple[int, int]:
    device = os.stat(DISC).st_rdev
    return os.major(device), os.minor(device)


def limit(**rates: int) -> Limits:
    return Limits(io=(IoLimit(*numbers(), **rates),))


def transfer(size: int, *, write: bool) -> None:
    """Read or write that much past the page cache, a megabyte at a time."""
    fd = os.open(DISC, (os.O_WRONLY if write else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC)
    with mmap.mmap(-1, MIB) as block:
        for offset in range(0, size, MIB):
            done = os.pwrite(fd, block, offset) if write else os.preadv(fd, [block], offset)
            assert done == MIB
    os.close(fd)


@behaviour("cgroup-v2.io.max-set-and-read", subject="impl")
def test_rates_come_back(unified: Path, make: Make) -> None:
    """Those that are set are there, the others are max."""
    set_limits(make("child", "io"), limit(read_bytes=2_097_152, write_operations=120))
    major, minor = numbers()
    expected = f"{major}:{minor} rbps=2097152 wbps=max riops=max wiops=120\n"
    assert (unified / "child/io.max").read_text() == expected


@behaviour("cgroup-v2.io.max-remove", subject="impl")
def test_rates_are_taken_back(unified: Path, make: Make) -> None:
    """With the last of them the line goes."""
    child = make("child", "io")
    set_limits(child, limit(read_bytes=2_097_152, write_operations=120))
    set_limits(child, limit(read_bytes=-1))
    one_left = (unified / "child/io.max").read_text()
    set_limits(child, limit(write_operations=-1))
    assert one_left.endswith("rbps=max wbps=max riops=max wiops=120\n")
    assert (unified / "child/io.max").read_text() == ""


@behaviour("cgroup-v2.io.max-no-device-enodev", subject="impl")
def test_a_device_that_is_not(unified: Path, make: Make, seen: Seen) -> None:
    """Numbers that no disc has are refused."""
    child = make("child", "io")
    limits = Limits(io=(IoLimit(4000, 1, read_bytes=1),))
    assert seen.errno_of(set_limits, child, limits) == "ENODEV"
    assert (unified / "child/io.max").read_text() == ""


@behaviour("cgroup-v2.io.max-unknown-key-einval", subject="impl")
def test_a_rate_of_something_else(unified: Path, make: Make, seen: Seen) -> None:
    """A key that is none is refused."""
    major, minor = numbers()
    assert seen.errno_of(make("child", "io").write, "io.max", f"{major}:{minor} speed=1") == "EINVAL"
    assert (unified / "child/io.max").read_text() == ""


@behaviour("cgroup-v2.io.max-zero-erange", subject="impl")
def test_no_bytes_at_all(unified: Path, make: Make, seen: Seen) -> None:
    """A rate of 0 is refused, by the package too."""
    major, minor = numbers()
    child = make("child", "io")
    assert seen.errno_of(child.write, "io.max", f"{major}:{minor} rbps=0") == "ERANGE"
    with pytest.raises(LimitError):
        plan_v2(limit(read_bytes=0), child.read_or_none)
    assert (unified / "child/io.max").read_text() == ""


@behaviour("cgroup-v2.io.max-delays", subject="impl")
def test_a_megabyte_a_second(make: Make) -> None:
    """Two of them take a second at the least; without the limit the quickest of five times two takes next to none.

    Only so much can be said: while a disc is waited for, virtual time jumps from one timer to the next.
    """
    child = make("child", "io")

    def seconds() -> float:
        begin = time.monotonic()
        assert run_inside(child, lambda: transfer(2 * MIB, write=True)) == 0
        return time.monotonic() - begin

    free = min(seconds() for _ in range(5))
    set_limits(child, limit(write_bytes=MIB))
    assert free < 0.5
    assert seconds() >= 0.9


@behaviour("cgroup-v2.io.stat-keys", subject="impl")
def test_lines_of_io_stat(unified: Path, make: Make) -> None:
    """Six keys of a device that was read from; the package reads what was moved."""
    child = make("child", "io")
    assert run_inside(child, lambda: transfer(2 * MIB, write=False)) == 0
    major, minor = numbers()
    lines = (line.split() for line in (unified / "child/io.stat").read_text().splitlines())
    found = {device: {pair.split("=")[0] for pair in pairs} for device, *pairs in lines}
    assert {"rbytes", "wbytes", "rios", "wios", "dbytes", "dios"} <= found[f"{major}:{minor}"]
    (read,) = (entry for entry in io.read_v2(child.read_or_none) or () if entry[:2] == (major, minor))
    assert (read.read_bytes, read.write_bytes) == (2 * MIB, 0)


@behaviour("cgroup-v2.io.weight-default", subject="impl")
def test_weight_of_a_new_cgroup(unified: Path, make: Make) -> None:
    """It is 100, for every device."""
    make("child", "io")
    assert (unified / "child/io.weight").read_text() == "default 100\n"


@behaviour("cgroup-v2.io.weight-write-forms", subject="impl")
@pytest.mark.parametrize("text", ["200", "default 200"], ids=["number", "word"])
def test_two_ways_to_write_a_weight(unified: Path, make: Make, text: str) -> None:
    """The number alone, and with the word default; the package writes the first."""
    child = make("child", "io")
    child.write("io.weight", text)
    assert (unified / "child/io.weight").read_text() == "default 200\n"
    set_limits(child, Limits(io_weight=300))
    assert (unified / "child/io.weight").read_text() == "default 300\n"


@behaviour("cgroup-v2.io.weight-range", subject="impl")
@pytest.mark.parametrize("weight", [0, 10_001])
def test_weights_there_are_not(unified: Path, make: Make, seen: Seen, weight: int) -> None:
    """0 and 10001 are refused, by the package too."""
    child = make("child", "io")
    assert seen.errno_of(child.write, "io.weight", str(weight)) == "EINVAL"
    with pytest.raises(LimitError):
        plan_v2(Limits(io_weight=weight), child.read_or_none)
    assert (unified / "child/io.weight").read_text() == "default 100\n"


@behaviour("cgroup-v2.io.cost-root-only", subject="impl")
def test_costs_are_the_root_s(unified: Path, make: Make) -> None:
    """Both files of the cost model are in the root and nowhere else."""
    make("child", "io")
    files = ("io.cost.qos", "io.cost.model")
    assert [(unified / name / file).exists() for name in (".", "child") for file in files] == [True] * 2 + [False] * 2


@behaviour("cgroup-v2.io.prio-class", subject="impl")
def test_words_for_priorities(unified: Path, make: Make, seen: Seen) -> None:
    """Five are taken, another is not."""
    child = make("child", "io")
    for word in ("no-change", "promote-to-rt", "restrict-to-be", "idle", "none-to-rt"):
        assert seen.errno_of(child.write, "io.prio.class", word) == "no error"
    before = (unified / "child/io.prio.class").read_text()
    assert seen.errno_of(child.write, "io.prio.class", "fast") == "EINVAL"
    assert (unified / "child/io.prio.class").read_text() == before
