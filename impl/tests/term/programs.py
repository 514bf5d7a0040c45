"""Programs on terminals, for the tests: scripts in an interpreter of their own, with the package importable."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from kernelproof.impl.term import Process, PseudoterminalPair, TermState, WindowSize

ROOT = Path(__file__).resolve().parents[3]
SIZE = WindowSize(24, 80)


class Program:
    """A script that runs on a pair."""

    def __init__(self, pair: PseudoterminalPair, process: Process, before: TermState) -> None:
        self.pair = pair
        self.process = process
        self.before = before  # the terminal's state when the script began
        self.seen = b""

    def read_until(self, text: bytes, seconds: float = 30) -> bytes:
        """Return what the script wrote up to a text and with it."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.pair.master, select.POLLIN)
        while text not in self.seen:
            assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.pair.master, 4096)
        before, found, self.seen = self.seen.partition(text)
        return before + found

    def read_to_end(self) -> bytes:
        """Return what the script wrote until it closed the terminal."""
        try:
            while data := os.read(self.pair.master, 4096):
                self.seen += data
        except OSError:
            pass
        return self.seen


def script_argv(script: str) -> list[str]:
    """The command that runs a script in a new interpreter, where the package is found."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"]
