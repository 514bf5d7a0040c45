"""The profile `disk` and its fixtures, in machines."""

from __future__ import annotations

import mmap
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.machine(profile="disk")

CHECK = "pragma integrity_check"


def mount(device: Path, place: Path) -> Path:
    # An idle machine's time jumps, further on a busy host: nothing is written back for being old.
    Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("0")
    place.mkdir()
    subprocess.run(["mount", "-o", "commit=86400", device, place], check=True)
    return place


@pytest.mark.parametrize(("synchronous", "rows"), [("off", 0), ("full", 1)])
def test_power_cut(
    scratch_disc: Path, power_cut: Callable[[], Path], tmp_path: Path, synchronous: str, rows: int
) -> None:
    """After a cut a store that syncs has what it committed; one that does not has lost it: the control."""
    subprocess.run(["mkfs.ext4", "-q", scratch_disc], check=True)
    store = sqlite3.connect(mount(scratch_disc, tmp_path / "before") / "store")
    store.execute("pragma journal_mode=wal")
    store.execute("create table t(a)")
    store.execute("pragma wal_checkpoint(truncate)")
    os.sync()
    store.execute(f"pragma synchronous={synchronous}")
    with store:
        store.execute("insert into t values(1)")
    after = sqlite3.connect(mount(power_cut(), tmp_path / "after") / "store")
    assert after.execute(CHECK).fetchone() == ("ok",)
    assert after.execute("select count(*) from t").fetchone() == (rows,)
    assert store.execute("select count(*) from t").fetchone() == (1,)


def test_second_cut(power_cut: Callable[[], Path]) -> None:
    """The power is cut once in a machine."""
    power_cut()
    with pytest.raises(RuntimeError, match="one test a cut"):
        power_cut()


def test_raw_writes(scratch_disc: Path, power_cut: Callable[[], Path]) -> None:
    """Of writes to the bare disc those before fsync(2) are there, those after it are not."""
    descriptor = os.open(scratch_disc, os.O_RDWR | os.O_CLOEXEC)
    os.pwrite(descriptor, b"flushed", 0)
    os.fsync(descriptor)
    os.pwrite(descriptor, b"cached!", 4096)
    with power_cut().open("rb") as file:
        found = file.read(8192)
    assert found[:7] == b"flushed"
    assert found[4096:] == bytes(4096)
    os.close(descriptor)


def test_scratch_disc(scratch_disc: Path) -> None:
    """The disc is empty and has 256 MiB."""
    with scratch_disc.open("rb") as file:
        assert file.seek(0, os.SEEK_END) == 256 << 20
        file.seek(0)
        assert not any(file.read(1 << 20))


def test_swap() -> None:
    """Pages can be swapped out."""
    sizes = [line.split()[2] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    assert [int(size) // 1024 for size in sizes] == [127]


def test_huge_pages() -> None:
    """Eight huge pages are there to be used."""
    assert "HugePages_Free:        8" in Path("/proc/meminfo").read_text()
    with mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000) as page:  # MAP_HUGETLB
        page[0] = 1
        assert "HugePages_Free:        7" in Path("/proc/meminfo").read_text()
