"""Adds what guests measured to the coverage that this process measures: `coverage run -m pytest` or pytest-cov."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelproof.vm.replay import Checker

_LAST_LINE = 10_000_000


def find_measurement() -> Any:
    """The running measurement of this process, or None."""
    coverage = sys.modules.get("coverage")
    return None if coverage is None else coverage.Coverage.current()


def plan_measurement(root: Path) -> dict[str, object] | None:
    """What the guest is told to measure; None where this process measures nothing."""
    measurement = find_measurement()
    if measurement is None:
        return None
    names = {"branch": "run:branch", "source": "run:source", "include": "run:include", "omit": "run:omit"}
    return {**{name: measurement.get_option(option) for name, option in names.items()}, "root": str(root)}


def add_measured(told: object, root: Path) -> None:
    """Take what a guest told over into the measurement of this process.

    Raises:
        ChannelError: it is not of the form that a guest sends.
    """
    measurement = find_measurement()
    if told is None or measurement is None:
        return
    data = measurement.get_data()
    found = read_measured(told, root, pairs=bool(measurement.get_option("run:branch")))
    (data.add_arcs if measurement.get_option("run:branch") else data.add_lines)(found)


def read_measured(told: object, root: Path, *, pairs: bool) -> Mapping[str, Sequence[Any]]:
    """What a guest told, as data: files of the project alone.

    Raises:
        ChannelError: it is not of that form.
    """
    check = Checker("the guest's coverage")
    found: dict[str, Sequence[Any]] = {}
    for name, lines in check.mapping(told, "coverage").items():
        read = _read_pair if pairs else _read_line
        measured = [read(check, line) for line in check.sequence(lines, "lines")]
        path = Path(check.text(name, "file"))
        if ".." not in path.parts and path.is_relative_to(root) and path.is_file():
            found[str(path)] = measured
    return found


def _read_line(check: Checker, value: object) -> int:
    line = check.integer(value, "line")
    if abs(line) > _LAST_LINE:
        check.refuse(f"line {line}")
    return line


def _read_pair(check: Checker, value: object) -> tuple[int, int]:
    pair = check.sequence(value, "pair")
    if len(pair) != 2:
        check.refuse("a pair has two lines")
    return _read_line(check, pair[0]), _read_line(check, pair[1])
