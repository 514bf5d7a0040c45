"""pytest's own debugger, in the failing frame of a machine, at the terminal of whoever runs pytest."""

from __future__ import annotations

import os
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.tests.interruptible import PYTEST

CACHE = default_cache_root()  # before a pytester gives itself a home of its own
SECONDS = 600.0  # for what is waited for on a busy host, a template included


class Terminal:
    """pytest at a pseudoterminal, and what a person would do there."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (33, 101))
        command = (*PYTEST, "-p", "no:cacheprovider", "--kernel", "6.12", *arguments)
        environment = {**os.environ, "KERNELPROOF_CACHE": str(CACHE), "TERM": "xterm", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._new = b""
        self.seen = ""

    def expect(self, text: str) -> str:
        """Wait for a text; returns what came before it, and nothing of that is expected again."""
        deadline = time.monotonic() + SECONDS
        while (place := self._new.decode("utf-8", "replace").find(text)) < 0:
            assert select.select([self.master], [], [], max(deadline - time.monotonic(), 0))[0], (text, self.seen)
            self._read()
        all_text = self._new.decode("utf-8", "replace")
        self._new = all_text[place + len(text) :].encode()
        return all_text[:place]

    def _read(self) -> None:
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: everybody has closed the other end
            data = b""
        assert data, f"pytest ended: {self.seen}"
        self._new += data
        self.seen += data.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, text.encode() + b"\r")

    def end(self) -> int:
        """Wait for the end of pytest; its exit status."""
        deadline = time.monotonic() + SECONDS
        while select.select([self.master], [], [], max(deadline - time.monotonic(), 0))[0]:
            try:
                self._read()
            except AssertionError:
                break
        return self.process.wait(60)

    def close(self) -> None:
        """Leave nothing."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)


Run = Callable[..., Terminal]


@pytest.fixture
def at_terminal(pytester: pytest.Pytester) -> Iterator[Run]:
    """Start pytest with some arguments."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Terminal:
            opened = Terminal(pytester.path, *arguments)
            stack.callback(opened.close)
            return opened

        yield start


def test_failing_frame(pytester: pytest.Pytester, at_terminal: Run) -> None:
    """--pdb stops in the failing frame of the machine, with the host's terminal; the run goes on after it.

    Ctrl-C there interrupts what the debugger does, in the machine; `q` ends the run; the terminal is as it was.
    """
    pytester.makepyfile(
        test_it="""
        import os, pytest
        pytestmark = pytest.mark.machine

        def test_fails():
            local = 17 * 3
            print("captured before")
            assert not local
        def test_after(): pass
        def test_fails_again(): assert False
        def test_never(): pass
        """
    )
    run = at_terminal("--pdb")
    before = termios.tcgetattr(run.master)
    run.expect("captured before")
    run.expect("assert not local")
    run.expect("entering PDB")
    run.expect("(Pdb) ")
    run.type("p local + 1")
    run.expect("52")
    run.expect("(Pdb) ")
    run.type("import os; print('release', os.uname().release, os.get_terminal_size())")
    said = run.expect("(Pdb) ")
    assert "release 6.12." in said
    assert "os.terminal_size(columns=101, lines=33)" in said
    run.type("c")
    run.expect("entering PDB")
    run.expect("(Pdb) ")
    assert termios.tcgetattr(run.master) != before
    # Not one long sleep: a signal that comes just before the kernel is asked for it would be seen at its end only.
    run.type("import time; print('be' + 'gins'); exec('while True: time.sleep(0.1)')")
    run.expect("begins")
    os.write(run.master, b"\x03")
    run.expect("^C")
    # What the debugger says to it can be lost: a terminal drops what is under way. termios(3), NOFLSH.
    run.type("p 'inter' + 'rupted'")
    run.expect("interrupted")
    run.expect("(Pdb) ")
    run.type("q")
    run.expect("Exit: Quitting debugger")
    run.expect("1 failed, 1 passed")
    assert run.end() == 2
    assert termios.tcgetattr(run.master) == before
    assert run.seen.count("assert not local") == 2, "pytest shows once what the debugger showed: source and (E) line"


def test_trace(pytester: pytest.Pytester, at_terminal: Run) -> None:
    """--trace stops at the first line of each test."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.machine
        def test_steps():
            first = 1
            assert first
        """
    )
    run = at_terminal("--trace")
    run.expect("first = 1")
    run.expect("(Pdb) ")
    run.type("n")
    run.expect("assert first")
    run.expect("(Pdb) ")
    run.type("p first + 41")
    run.expect("42")
    run.type("c")
    run.expect("1 passed")
    assert run.end() == 0


def test_breakpoint(pytester: pytest.Pytester, at_terminal: Run) -> None:
    """breakpoint() in a machine in virtual time has the test run anew, in one with a terminal; others keep theirs."""
    pytester.makepyfile(
        test_it="""
        import pytest
        pytestmark = pytest.mark.machine

        def test_before(): pass
        def test_stops():
            local = 17 * 3
            breakpoint()
            assert local == 52
        def test_after(): pass
        """
    )
    run = at_terminal("-v")
    run.expect("PDB set_trace (IO-capturing turned off)")
    run.expect("(Pdb) ")
    run.type("local += 1")
    run.expect("(Pdb) ")
    run.type("c")
    run.expect("PDB continue (IO-capturing resumed)")
    run.expect("3 passed")
    assert run.end() == 0
