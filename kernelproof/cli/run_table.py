"""What `run` keeps and shows of a program on several kernels. Its output is data: escaped, and no more than an end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from kernelproof.cli.tables import print_rows
from kernelproof.vm.console import escape_text

COLUMNS = ("kernel", "release", "outcome", "status", "tests", "seconds", "detail")
TAIL = 64 * 1024  # bytes of each stream
_LINES = 10


class Kept:
    """The ends of a program's streams."""

    def __init__(self) -> None:
        self._stdout, self._stderr = bytearray(), bytearray()
        self.log = ""

    def stdout(self, data: bytes) -> None:
        """Take in more of its output."""
        _keep(self._stdout, data)

    def stderr(self, data: bytes) -> None:
        """Take in more of its error output."""
        _keep(self._stderr, data)

    def texts(self) -> dict[str, str]:
        """All of it, safe to show."""
        return {
            "stdout": escape_text(bytes(self._stdout[-TAIL:])),
            "stderr": escape_text(bytes(self._stderr[-TAIL:])),
            "log": self.log,
        }


def _keep(end: bytearray, data: bytes) -> None:
    end += data
    if len(end) > 2 * TAIL:
        del end[:-TAIL]


def print_table(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """The table on standard output, and what failed with the end of its output on standard error; or JSON."""
    if as_json:
        print(json.dumps([{**row, "seconds": round(float(str(row["seconds"])), 3)} for row in rows], indent=2))
        return
    shown = [{**row, "tests": _describe(row["tests"]), "seconds": f"{row['seconds']:.1f}"} for row in rows]
    print_rows(
        [{**row, "detail": str(row["detail"]).splitlines()[0] if row["detail"] else ""} for row in shown],
        COLUMNS,
        as_json=False,
    )
    sys.stdout.flush()
    for row in rows:
        if row["status"]:
            _show_end(row)


def _describe(tests: object) -> str:
    if not isinstance(tests, dict):
        return ""
    return ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in tests.items())


def _show_end(row: Mapping[str, object]) -> None:
    for name in ("stdout", "stderr", "log"):
        lines = str(row[name]).rstrip("\n").splitlines()[-_LINES:]
        if lines:
            print(f"kernelproof: {row['kernel']}: the end of its {name}:", *lines, sep="\n  ", file=sys.stderr)
