"""Small pieces that the commands share: words, lines, rows of processes, the lock, the sealed copy."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.nsinit.tables import is_terminal
from kernelproof.impl.libcontainer.nsinit.texts import wrap
from kernelproof.impl.libcontainer.nsinit.values import near_signals
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import host_socket
from kernelproof.impl.libcontainer.nsinit.verbs.processes import read_row
from kernelproof.impl.libcontainer.process.sealing import Shared, copy_sealed, interpreter


def test_lines_are_as_wide_as_they_may_be() -> None:
    """A line that is filled exactly is not broken; a longer one is, between words."""
    assert wrap("ab cd ef", 5) == ["ab cd", "ef"]
    assert wrap("ab cd ef", 4) == ["ab", "cd", "ef"]


def test_signals_that_are_alike() -> None:
    """Signals are proposed, and nothing else that the module's names begin with."""
    assert near_signals("TER") == ["TERM"]
    assert near_signals("") == ["HUP", "INT", "KILL", "TERM", "USR1"]
    assert not [name for name in near_signals("_B") if "_" in name]


@pytest.mark.parametrize(("term", "draws"), [("xterm", True), ("dumb", False), (None, False)])
def test_terminal_that_can_draw(monkeypatch: pytest.MonkeyPatch, term: str | None, draws: bool) -> None:
    """A terminal counts if TERM names one that is not dumb; a file never does."""
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    master, slave = os.openpty()
    try:
        assert is_terminal(slave) == draws
    finally:
        os.close(master)
        os.close(slave)
    with open(os.devnull) as file:
        assert not is_terminal(file.fileno())


def test_service_that_tells_when_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is the variable's; without it there is none."""
    monkeypatch.setenv("NOTIFY_SOCKET", "@ready")
    assert host_socket() == "@ready"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert host_socket() == ""


def test_row_of_a_process(tmp_path: Path) -> None:
    """Owner, pid, parent, state and at most 4096 bytes of the words; a name in brackets without words."""
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_text("7 (a) b) S 3 7 7 0\n")
    (folder / "cmdline").write_bytes(b"sleep\0" + b"x" * 5000 + b"\0")
    words = "sleep " + "x" * (4096 - 6)
    assert read_row(7, str(tmp_path)) == (str(os.getuid()), "7", "3", "S", words)
    (folder / "cmdline").write_bytes(b"")
    assert read_row(7, str(tmp_path))[4] == "[a) b]"
    assert read_row(8, str(tmp_path)) == ()


def test_lock_is_given_up(tmp_path: Path) -> None:
    """While one holds it another gets EAGAIN; after its end anyone gets it; giving it up is once."""
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with StateLock(directory) as held:
            with pytest.raises(BlockingIOError):
                StateLock(directory, wait=False)
            held.release()
            held.release()
            StateLock(directory, wait=False).release()
        with StateLock(directory, wait=False):
            pass
    finally:
        os.close(directory)


def test_sealed_copy_is_all_that_stays_open(tmp_path: Path) -> None:
    """The copy has the content and can't be written; the file itself is closed again."""
    (tmp_path / "program").write_bytes(b"#!x")
    before = set(os.listdir("/proc/self/fd"))
    copy = copy_sealed(str(tmp_path / "program"))
    after = {name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}
    assert len(after - before) == 1
    assert os.pread(copy, 10, 0) == b"#!x"
    with pytest.raises(PermissionError):
        os.pwrite(copy, b"y", 0)
    os.close(copy)


def test_one_copy_in_a_program() -> None:
    """All users at a time have the same one, which is closed after the last and made anew for the next."""
    before = set(os.listdir("/proc/self/fd"))
    shared = Shared()
    first, second = shared.take(), shared.take()
    assert first == second
    assert not os.get_inheritable(first)
    shared.give_back()
    made = os.fstat(first).st_ino
    shared.give_back()
    assert set(os.listdir("/proc/self/fd")) == before
    again = shared.take()
    assert os.fstat(again).st_ino != made
    shared.give_back()


def test_the_copy_of_a_child() -> None:
    """A child of fork has its parent's, though a thread that it has not was about to take one."""
    copy = interpreter.take()
    with interpreter._lock:
        child = os.fork()
        if not child:
            signal.alarm(10)  # ends it if it waits for the lock
            os._exit(0 if interpreter.take() == copy else 1)
    interpreter.give_back()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
