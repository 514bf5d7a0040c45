"""Progress that is shown only once something takes its time: drawing it loads much, and a machine is there at once."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from importlib import import_module
from types import TracebackType
from typing import Self

from kernelproof.vm.provision_types import Progress


class LateProgress:
    """A context manager; the bar or the lines begin with the first step that is told.

    Args:
        quiet: Whether nothing is ever shown.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._stack = ExitStack()
        self._shown: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Give the terminal back; what is told later begins anew."""
        self._shown = None
        self._stack.close()

    def step(self, text: str) -> None:
        """What is done now."""
        self._open().step(text)

    def advance(self, done: float, total: float) -> None:
        """How much of it is done."""
        self._open().advance(done, total)

    def note(self, text: str) -> None:
        """What is worth a line that stays."""
        self._open().note(text)

    def _open(self) -> Progress:
        if self._shown is None:
            # Loaded here: it draws with rich, which costs as much as all else of this command.
            module = import_module("kernelproof.vm.provision_progress")
            opened: Progress = self._stack.enter_context(module.open_progress(sys.stderr, quiet=self._quiet))
            self._shown = opened
        return self._shown
