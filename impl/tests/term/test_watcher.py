"""Modes that are back also after the end of the program: the watcher."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kernelproof.impl.term import (
    LEAVE,
    PseudoterminalPair,
    TermState,
    cbreak,
    make_raw_state,
    raw,
    restore,
    save,
)
from kernelproof.impl.term.watcher import put_back, wait_until_gone
from kernelproof.impl.tests.term.programs import Program, script_argv
from kernelproof.impl.tests.term.scripts import IMPORTS, READY, SLEEP, Run, wait_until

# T5, T+1: the watcher.

GUARDED = "raw(0, guard=True, leave=term.LEAVE)"
NOT_GUARDED = "raw(0)"


def kill_in_raw_mode(
    run_script: Run, block: str, before_kill: str = "", is_ripe: Callable[[int], bool] = lambda _: True
) -> tuple[Program, TermState]:
    """Run a program that sets raw mode and lets reads not wait, kill it, and return it with the state before.

    `is_ripe` is asked with the program's process ID whether the time to kill it has come.
    """
    program = run_script(
        f"{IMPORTS}with {block}:\n    os.set_blocking(0, False)\n    {before_kill}\n    {READY}\n    {SLEEP}"
    )
    before = program.before
    program.read_until(b"ready")
    assert save(program.pair.master) != before
    wait_until(lambda: is_ripe(program.process.pid))
    program.process.send_signal(signal.SIGKILL)
    program.process.wait(30)
    return program, before


def children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def fields(pid: str) -> list[str]:
    """The fields of a process's status, from its state on: proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def have_sleeping_children(pid: int) -> bool:
    """Whether a process has its two children, the watcher and its own, and both wait for something."""
    states = [fields(child)[0] for child in children(pid)]
    return states == ["S", "S"]


@pytest.mark.rule("T5", ours=GUARDED, wrong=NOT_GUARDED)
@pytest.mark.rule("T+1")
def test_terminal_comes_back_after_a_kill(run_script: Run, subject: str) -> None:
    """After SIGKILL the attributes are back; machine/test_kernel.py says within which time."""
    program, before = kill_in_raw_mode(run_script, subject)
    if subject == NOT_GUARDED:
        assert save(program.pair.master) == before, "nobody is there to put it back"
    wait_until(lambda: save(program.pair.master) == before)
    assert save(program.pair.master) == before


@pytest.mark.rule("T+1")
def test_watcher_waits_for_the_pipe_and_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the end of its standard input, which is the pipe, or of the program, not for the terminal."""
    waited: list[int] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            waited.append(fd)

        def poll(self) -> None:
            waited.append(-1)

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(os, "pidfd_open", lambda pid: 1000 + pid)
    wait_until_gone(os.getppid())
    assert waited == [0, 1000 + os.getppid(), -1]


def test_watcher_leaves_modes_and_lets_reads_wait_again() -> None:
    """The watcher writes what leaves the modes of full-screen programs, and the shell's reads wait again."""
    script = (
        f"{IMPORTS}with raw(0, guard=True, leave=term.LEAVE):\n"
        "    os.set_blocking(0, False); os.write(1, b'ready'); os.kill(os.getpid(), 9)\n"
    )
    with PseudoterminalPair.open() as pair:
        shell = pair.peer()  # as a shell holds it, the same open file as the program's
        pid = os.posix_spawn(
            sys.executable,
            script_argv(script),
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, shell, fd) for fd in (0, 1)],
        )
        os.waitpid(pid, 0)
        out = b""
        while not out.endswith(LEAVE):
            out += os.read(pair.master, 4096)
        assert out == b"ready" + LEAVE
        wait_until(lambda: os.get_blocking(shell))
        os.close(shell)


@pytest.mark.rule("T+1")
def test_watcher_sees_a_death_that_the_pipe_does_not_tell(run_script: Run) -> None:
    """A forked child that holds the pipe open does not keep the terminal raw."""
    # It would die with the session otherwise.
    child = "signal.signal(signal.SIGHUP, signal.SIG_IGN); os.fork() or (time.sleep(60), os._exit(0))"
    # A watcher that only begins to run would find the death at once.
    program, before = kill_in_raw_mode(run_script, "raw(0, guard=True)", child, is_ripe=have_sleeping_children)
    wait_until(lambda: save(program.pair.master) == before)
    assert save(program.pair.master) == before
    os.killpg(program.process.pid, signal.SIGKILL)


@pytest.mark.rule("T+1")
def test_watcher_sees_an_exec(run_script: Run) -> None:
    """A program that replaces itself by another one leaves the terminal as it was."""
    program = run_script(
        f"{IMPORTS}block = raw(0, guard=True); block.__enter__()\n"
        "print('canonical', save(0).is_canonical, flush=True)\n"
        "os.execvp('sleep', ['sleep', '60'])"
    )
    program.read_until(b"canonical False")
    wait_until(lambda: save(program.pair.master) == program.before)
    with open(f"/proc/{program.process.pid}/comm") as file:
        assert file.read() == "sleep\n"
    assert save(program.pair.master) == program.before


@pytest.mark.rule("T+1")
def test_watcher_ends_with_the_block(peer: int) -> None:
    """After the block no watcher is left, no descriptor, and no child to wait for."""
    before = os.listdir("/dev/fd")
    for _ in range(3):
        with raw(peer, guard=True):
            pass
    assert os.listdir("/dev/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


NESTED = "raw(0, guard=True), cbreak(os.open('/dev/tty', os.O_RDWR), guard=True, leave=term.LEAVE)"
HALF_NESTED = "raw(0), cbreak(0, guard=True, leave=term.LEAVE)"


@pytest.mark.rule("T+1", ours=NESTED, wrong=HALF_NESTED)
def test_nested_blocks_have_one_watcher(run_script: Run, subject: str) -> None:
    """A guarded block within another of the same terminal starts none: after SIGKILL the outer's state is back."""
    program = run_script(f"{IMPORTS}with {subject}:\n    {READY}\n    {SLEEP}")
    program.read_until(b"ready")
    assert len(children(program.process.pid)) == 1
    program.process.send_signal(signal.SIGKILL)
    program.process.wait(30)
    program.read_until(LEAVE)  # the inner block's; the attributes come before it
    assert save(program.pair.master) == program.before


@pytest.mark.rule("T+1")
def test_watcher_serves_until_the_outermost_block_ends(peer: int) -> None:
    """The end of an inner block leaves the watcher on duty, and two terminals have two."""
    own = os.getpid()
    with raw(peer, guard=True):
        (first,) = children(own)
        with cbreak(peer, guard=True):
            assert children(own) == [first]
        assert children(own) == [first]
        with PseudoterminalPair.open() as pair, raw(pair.master, guard=True), PseudoterminalPair.open() as other:
            assert len(children(own)) == 2
            with raw(other.master, guard=True):
                assert len(children(own)) == 3
        assert children(own) == [first]
    assert children(own) == []


@pytest.mark.rule("T+1")
def test_watcher_uses_no_processor_and_no_terminal(run_script: Run) -> None:
    """The watcher is in a session of its own, and sleeps."""
    program = run_script(f"{IMPORTS}with raw(0, guard=True):\n    {READY}\n    {SLEEP}")
    program.read_until(b"ready")
    (watcher,) = children(program.process.pid)
    assert fields(watcher)[3] == watcher  # its session

    def rests() -> bool:
        used = fields(watcher)[11:13]
        threading.Event().wait(0.2)
        return fields(watcher)[0] == "S" and fields(watcher)[11:13] == used

    wait_until(rests)  # it may still begin to run
    assert fields(watcher)[0] == "S"


def test_guard_needs_an_interpreter(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an interpreter to run the watcher there is an error, and the terminal is as before."""
    monkeypatch.setattr(sys, "executable", "")
    before = save(peer)
    with pytest.raises(RuntimeError, match="needs a Python interpreter"), raw(peer, guard=True):
        pass
    assert save(peer) == before


# What the watcher does, in this process.


@contextmanager
def output(fd: int) -> Iterator[None]:
    """Another file as descriptor 1."""
    kept = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def wish_for(state: TermState, leave: bytes, *, blocking: bool) -> dict[str, object]:
    """What the program tells the watcher."""
    return {"attributes": [*state[:6], list(state.characters)], "leave": leave.hex(), "blocking": blocking}


@pytest.mark.rule("T+1")
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "not blocking"])
@pytest.mark.parametrize("leave", [LEAVE, b""], ids=["leave", "nothing to leave"])
def test_what_the_watcher_puts_back(leave: bytes, blocking: bool) -> None:
    """Attributes and blocking are as before, and what was asked for is written, which may be nothing."""
    with PseudoterminalPair.open() as pair:
        peer = pair.peer()
        before = save(peer)
        restore(peer, make_raw_state(before))
        os.set_blocking(peer, not blocking)
        with output(peer):
            put_back(wish_for(before, leave, blocking=blocking))
        assert save(peer) == before
        assert os.get_blocking(peer) == blocking
        os.set_blocking(pair.master, False)
        if leave:
            assert select.select([pair.master], [], [], 30)[0]
            assert os.read(pair.master, 1000) == leave
        with pytest.raises(BlockingIOError):
            os.read(pair.master, 1)
        os.close(peer)


@pytest.mark.rule("T+1")
def test_terminal_that_nobody_reads() -> None:
    """A terminal that takes nothing more does not hold the watcher."""
    with PseudoterminalPair.open() as pair:
        peer = pair.peer()
        os.set_blocking(peer, False)
        with suppress(BlockingIOError):
            while os.write(peer, b"x" * 4096):
                pass
        with output(peer):
            put_back(wish_for(save(peer), LEAVE, blocking=True))
        assert os.get_blocking(peer)
        os.close(peer)
