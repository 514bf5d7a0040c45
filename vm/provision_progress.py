"""How provisioning tells what it does: a bar at a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from kernelproof.vm.provision_types import Progress, SilentProgress

__all__ = ["BarProgress", "LineProgress", "Progress", "SilentProgress", "open_progress"]


class LineProgress:
    """A line a step, for logs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def step(self, text: str) -> None:
        """One line."""
        self._write(f"kernelproof: {text}")

    def advance(self, done: float, total: float) -> None:
        """No line: a log needs no percents."""

    def note(self, text: str) -> None:
        """One line."""
        self._write(f"kernelproof: note: {text}")

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()


class BarProgress:
    """A line with a bar that is drawn over, for terminals."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, visible=False)

    def step(self, text: str) -> None:
        """The bar begins anew with this text."""
        self._bars.reset(self._task, description=text, total=None, visible=True)

    def advance(self, done: float, total: float) -> None:
        """The bar grows."""
        self._bars.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """A line above the bar, which stays."""
        self._bars.console.print(f"note: {text}", markup=False, highlight=False)


@contextmanager
def open_progress(file: TextIO, *, quiet: bool = False) -> Iterator[Progress]:
    """The right kind for `file`: nothing if quiet, a bar at a terminal, else lines; the terminal is restored after."""
    if quiet:
        yield SilentProgress()
    elif not file.isatty():
        yield LineProgress(file)
    else:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(file=file), transient=True) as bars:
            yield BarProgress(bars)
