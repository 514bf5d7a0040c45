"""Runs pytest as `python -m pytest` does, and writes down when its first result came and what a clone kept to itself.

    python benchmarks/first_result.py RECORD.json [--stop] PYTEST-ARGUMENTS...

`--stop` ends the run at the first result. Run by scale.py; what it writes is one JSON object:

    first_cpu, first_wall         seconds until the first item's last report: of this process and of what it waited for
    between_wall                  seconds from the first item's last report to the last item's
    items                         how many items were reported
    private_bytes                 for each machine, what it had of memory that no other process maps, at its end
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import pytest

from kernelproof.vm.process import Usage
from kernelproof.vm.running import Running


def cpu_seconds() -> float:
    """User and system time of this process and of all that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Watch:
    """A pytest plugin that notes when items end."""

    def __init__(self, began: float, *, stop: bool) -> None:
        self.record: dict[str, object] = {"items": 0, "between_wall": 0.0}
        self._began = began
        self._stop = stop
        self._items = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an item's last report."""
        if report.when != "teardown":
            return
        if not self._items:
            self.record |= {"first_cpu": cpu_seconds(), "first_wall": time.monotonic() - self._began}
            self._first = time.monotonic()
        self._items += 1
        self.record |= {"items": self._items, "between_wall": time.monotonic() - self._first}
        if self._stop:
            pytest.exit("measured", 0)


def read_private(pid: int) -> int:
    """Bytes of memory that only this process maps, from its smaps_rollup; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def watch_machines() -> list[int]:
    """Let every machine's end be preceded by a look at its memory; returns where the looks are put."""
    seen: list[int] = []
    close = Running.close

    def close_and_look(running: Running) -> Usage:
        if not running.closed and running.name == "clone":
            seen.append(read_private(running.child.pid))
        return close(running)

    Running.close = close_and_look  # type: ignore[method-assign,assignment]
    return seen


def main() -> int:
    """Run pytest; returns its exit status."""
    began = time.monotonic()
    path, *arguments = sys.argv[1:]
    stop = arguments[:1] == ["--stop"]
    watch, private = Watch(began, stop=stop), watch_machines()
    status = pytest.main(arguments[stop:], plugins=[watch])
    Path(path).write_text(json.dumps({**watch.record, "private_bytes": private}), encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
