"""Figures of many cgroups from folders that stand for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelproof.impl.cgroups import sampling
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.sampling import Sampler

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write the files of a cgroup."""

    def write(name: str, usage: int, moved: int = 0) -> None:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("")
        (folder / "cpu.stat").write_text(f"usage_usec {usage}\n")
        (folder / "memory.stat").write_text("anon 0\n")
        (folder / "memory.current").write_text("4096\n")
        (folder / "io.stat").write_text(f"8:0 rbytes={moved} wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n")
        (folder / "pids.current").write_text("3\n")
        (folder / "memory.pressure").write_text("some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n")

    return write


@pytest.fixture
def top(tmp_path: Path, put: Put) -> Iterator[Directory]:
    """The first of the cgroups."""
    put(".", 0)
    with Directory(os.open(tmp_path, os.O_RDONLY), str(tmp_path), 2) as directory:
        yield directory


@pytest.mark.parametrize("most", [None, 0, 1], ids=["held", "opened-each-time", "one-held"])
def test_use_between_two_looks(top: Directory, put: Put, monkeypatch: pytest.MonkeyPatch, most: int | None) -> None:
    """CPU and bytes are a second's, memory and processes are now's; at the first look there are no rates."""
    clock = iter(range(1, 1000))
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    put("a/b", 1_000_000)
    with Sampler(top, most) as sampler:
        first = {use.name: use for use in sampler.look()}
        assert set(first) == {"/", "/a/b"} | {"/a"}
        assert [first["/a/b"].cpus, first["/a/b"].io_bytes] == [None, None]
        put("a/b", 2_500_000, 6000)
        second = {use.name: use for use in sampler.look()}
    assert second["/a/b"] == ("/a/b", 0.5, 4096, 2000.0, 3, 1.5)  # three looks at the clock: three seconds
    assert second["/a"].memory_bytes is None


def test_cgroups_come_and_go(top: Directory, put: Put, tmp_path: Path) -> None:
    """One that is removed is left out and closed, one that is made anew is another."""
    put("a", 1)
    before = len(os.listdir("/proc/self/fd"))
    with Sampler(top) as sampler:
        assert [name for name, _ in sampler.read()] == ["/a", "/"]
        shutil.rmtree(tmp_path / "a")
        put("b", 1)
        assert [name for name, _ in sampler.read()] == ["/b", "/"]
        put("a", 7)
        found = dict(sampler.read())
        assert found["/a"].cpu is not None
        assert found["/a"].cpu.usage_microseconds == 7
    assert len(os.listdir("/proc/self/fd")) == before
