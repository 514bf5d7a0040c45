"""What is measured: as engines know it, and for people."""

from __future__ import annotations

from typing import Any

import pytest

from kernelproof.impl.cgroups.controllers.cpu import CpuStats
from kernelproof.impl.cgroups.controllers.io import DeviceIo
from kernelproof.impl.cgroups.controllers.memory import MemoryStats
from kernelproof.impl.cgroups.controllers.pids import PidsStats
from kernelproof.impl.cgroups.stats import Stats
from kernelproof.impl.libcontainer.nsinit.measures import describe_event, describe_stats
from kernelproof.impl.libcontainer.nsinit.verbs import (
    measuring,
)

STATS = Stats(
    cpu=CpuStats(5, 3, 2, 10, 1, 7, None, None, (2, 3)),
    cpuset=None,
    memory=MemoryStats(4096, 8192, -1, None, -1, 3, None, None, None, {"file": 100, "anon": 5}),
    io=(DeviceIo(8, 0, 1024, 2048, 3, 4),),
    pids=PidsStats(2, -1, 0, None),
    hugetlb=(),
    rdma=None,
    misc=None,
    pressure={},
)


def test_measurements_have_the_form_that_engines_know() -> None:
    """Times are nanoseconds, no limit is the highest number, each device has one entry an operation."""
    found: Any = describe_stats(STATS)
    assert found["cpu"]["usage"] == {"total": 5000, "percpu": [2000, 3000], "kernel": 2000, "user": 3000}
    assert found["cpu"]["throttling"] == {"periods": 10, "throttledPeriods": 1, "throttledTime": 7000}
    assert found["memory"]["usage"] == {"limit": (1 << 64) - 1, "usage": 4096, "max": 8192, "failcnt": 3}
    assert found["memory"]["cache"] == 100
    assert found["pids"] == {"current": 2, "limit": 0}
    assert found["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 1024},
        {"major": 8, "minor": 0, "op": "Write", "value": 2048},
    ]
    assert describe_event("stats", "web", {}) == {"type": "stats", "id": "web", "data": {}}
    assert describe_event("oom", "web") == {"type": "oom", "id": "web"}


def test_what_is_not_measured_is_empty() -> None:
    """Controllers that are not there leave empty objects."""
    found = describe_stats(Stats(None, None, None, None, None, (), None, None, {}))
    assert (found["cpu"], found["memory"], found["pids"]) == ({}, {}, {})


def test_a_row_for_people() -> None:
    """Sizes with units, no limit in a word."""
    row = measuring.make_row("web", describe_stats(STATS))
    assert row == ("web", "0.0 s", "4.0 KiB", "none", "2", "1.0 KiB", "2.0 KiB")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    """Powers of 1024, one digit behind the point."""
    assert measuring.format_bytes(count) == text
