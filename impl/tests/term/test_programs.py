"""Programs on pairs: how they start, what they have, how they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.term import (
    PseudoterminalPair,
    WindowSize,
    read_foreground_group,
    set_controlling_terminal,
    set_foreground_group,
    set_window_size,
)
from kernelproof.impl.tests.term.masters import read_all
from kernelproof.impl.tests.term.programs import Program, script_argv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has is tested here too")


# T3, T11: programs.

Start = Callable[[list[str], WindowSize], bytes]


def start_ours(argv: list[str], size: WindowSize) -> bytes:
    with PseudoterminalPair.open(size) as pair, pair.spawn(argv) as process:
        output = read_all(pair.master)
        process.wait(30)
        return output


def start_then_resize(argv: list[str], size: WindowSize) -> bytes:
    """Start the program, then set the size."""
    with PseudoterminalPair.open() as pair, pair.spawn(argv) as process:
        output = read_all(pair.master)
        process.wait(30)
        set_window_size(pair.master, size)
        return output


@pytest.mark.rule("T3", ours=start_ours, wrong=start_then_resize)
def test_program_starts_at_its_size(subject: Start) -> None:
    """The first thing a program can ask has the right answer."""
    assert subject(["stty", "size"], WindowSize(33, 99)) == b"33 99\r\n"


SPAWN_OURS = "with PseudoterminalPair.open() as pair: pair.spawn(['true']).wait()"
SPAWN_BY_FORK = """
pid, master = pty.fork()
if pid == 0: os.execvp('true', ['true'])
os.waitpid(pid, 0)
"""


@pytest.mark.rule("T11", ours=SPAWN_OURS, wrong=SPAWN_BY_FORK)
def test_no_python_is_forked(subject: str) -> None:
    """Starting a program copies no Python, so no lock of another thread is copied as it happens to be."""
    script = (
        "import os, pty, warnings; from kernelproof.impl.term import PseudoterminalPair\n"
        "warnings.simplefilter('ignore')\n"
        "forks = []; os.register_at_fork(before=lambda: forks.append(1))\n"
        f"{subject}\nprint(len(forks))\n"
    )
    done = subprocess.run(script_argv(script), capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.rule("T11")
@pytest.mark.parametrize("cwd", [None, "/usr"])
def test_program_leads_a_session_on_its_terminal(cwd: str | None) -> None:
    """The program leads a session and the foreground group of its controlling terminal, also where threads run."""
    script = (
        "import os; print(os.getsid(0) == os.getpid() == os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(1), os.getcwd())"
    )
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with PseudoterminalPair.open() as pair, pair.spawn([sys.executable, "-c", script], cwd=cwd) as process:
            assert read_all(pair.master).decode().split() == ["True", pair.name, cwd or os.getcwd()]
            assert process.wait(30) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.rule("T11")
@pytest.mark.parametrize("cwd", [None, "/"])
def test_program_starts_with_clean_signals_and_descriptors(cwd: str | None) -> None:
    """No signal is blocked or ignored in the program, and it has the terminal and what it is given."""
    argv = ["sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd"]
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    given, kept = (os.open("/dev/null", os.O_RDONLY) for _ in range(2))
    os.set_inheritable(given, True)
    os.set_inheritable(kept, True)
    try:
        with PseudoterminalPair.open() as pair, pair.spawn(argv, cwd=cwd, pass_fds=[given]) as process:
            lines = read_all(pair.master).decode().split()
            process.wait(30)
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(given)
        os.close(kept)
    assert lines[:4] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    directory = "3" if given != 3 else "4"  # what ls reads it by
    assert sorted(lines[4:]) == sorted(["0", "1", "2", directory, str(given)])


@pytest.mark.parametrize("cwd", [None, "/"])
def test_environment_and_errors_of_a_program(cwd: str | None) -> None:
    """The program has the environment that it is given, and its errors go where they are sent."""
    reading, writing = os.pipe()
    argv = ["sh", "-c", "echo $WORD; echo bad >&2"]
    env = {"WORD": "good", "PATH": os.environ["PATH"]}
    with PseudoterminalPair.open() as pair, pair.spawn(argv, env=env, cwd=cwd, stderr=writing) as process:
        os.close(writing)
        assert read_all(pair.master) == b"good\r\n"
        assert os.read(reading, 100) == b"bad\n"
        assert process.wait(30) == 0
    os.close(reading)


@pytest.mark.parametrize("cwd", [None, "/"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_errors_go_to_a_standard_descriptor(cwd: str | None, number: int) -> None:
    """A program's errors go to the caller's own input, output or errors, when told so, and not to the terminal."""
    script = (
        "from kernelproof.impl.term import PseudoterminalPair\n"
        "with PseudoterminalPair.open() as pair, pair.spawn(['sh', '-c', 'echo bad >&2; echo good'],"
        f" stderr={number}, cwd={cwd!r}) as process:\n"
        "    print(os.read(pair.master, 100), file=open(other, 'w')); process.wait()\n"
    )
    reading, writing = os.pipe()
    told, other = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, number)]
    argv = script_argv(f"import os; other = os.dup({other}); os.set_inheritable({other}, False)\n{script}")
    os.set_inheritable(other, True)
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    os.close(writing)
    os.close(other)
    with open(reading, "rb") as errors, open(told, "rb") as terminal:
        assert terminal.read() == b"b'good\\r\\n'\n"
        assert errors.read() == b"bad\n"
    os.waitpid(pid, 0)


@pytest.mark.parametrize("cwd", [None, "/"])
@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_program_starts_where_standard_descriptors_are_closed(cwd: str | None, closed: tuple[int, ...]) -> None:
    """A caller without standard input, as a daemon may be, starts a program on a terminal all the same."""
    script = (
        "import os; from kernelproof.impl.term import PseudoterminalPair, WindowSize\n"
        "pair = PseudoterminalPair.open()\n"
        f"for fd in {closed}: os.close(fd)\n"
        f"os._exit(pair.spawn(['sh', '-c', 'test -t 0 && test -t 1 && test -t 2 && exit 7'], cwd={cwd!r}).wait(30))\n"
    )
    done = subprocess.run(script_argv(script), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 7, done.stderr


def test_program_that_cannot_start(tmp_path: Path) -> None:
    """An unknown program, a file without permission, a missing directory, and none at all are errors with names."""
    (tmp_path / "plain").touch(mode=0o644)
    with PseudoterminalPair.open() as pair:
        before = os.listdir("/dev/fd")
        with pytest.raises(FileNotFoundError) as caught:
            pair.spawn(["no-such-program"])
        assert caught.value.filename == "no-such-program"
        with pytest.raises(FileNotFoundError):
            pair.spawn([str(tmp_path / "plain")])
        with pytest.raises(FileNotFoundError):
            pair.spawn(["true"], cwd=tmp_path / "missing")
        with pytest.raises(ValueError, match="no program"):
            pair.spawn([])
        with pytest.raises(ValueError, match="NUL"):
            pair.spawn(["true", "a\0b"], cwd="/")
        assert os.listdir("/dev/fd") == before


def test_how_a_program_ends() -> None:
    """The status is the program's, or 128 and the number of its signal; waiting has a limit."""
    with PseudoterminalPair.open() as pair:
        with pair.spawn(["sh", "-c", "exit 7"]) as process:
            assert process.wait(30) == 7
            assert process.wait() == process.returncode == 7
            process.send_signal(signal.SIGKILL)  # nobody is there any more
        with pair.spawn(["sleep", "60"]) as process:
            with pytest.raises(TimeoutError, match="did not end in time"):
                process.wait(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM


def test_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is neither pidfd nor kqueue, a wait without limit works, and one with a limit says so."""
    monkeypatch.delattr(os, "pidfd_open")
    with PseudoterminalPair.open() as pair, pair.spawn(["true"]) as process:
        assert process.pidfd is None
        with pytest.raises(NotImplementedError):
            process.wait(1)
        assert process.wait() == 0
    with PseudoterminalPair.open() as pair, pair.spawn(["sleep", "60"]) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == 128 + signal.SIGKILL
        process.close()


# Job control.


def test_foreground_group(run_script: Callable[[str], Program]) -> None:
    """A shell of job control gives its terminal to a group in the background, and takes it back from there."""
    program = run_script(
        "import os, signal\n"
        "from kernelproof.impl.term import read_foreground_group, set_foreground_group\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setpgid(0, 0); signal.pause()\n"
        "os.setpgid(child, child)\n"
        "set_foreground_group(0, child)\n"
        "print(read_foreground_group(0) == child, flush=True)\n"
        "set_foreground_group(0, os.getpgrp())\n"
        "print(read_foreground_group(0) == os.getpgrp(), flush=True)\n"
        "try: set_foreground_group(0, -5)\n"
        "except OSError as error: print(error.errno, error.__notes__[0], flush=True)\n"
        "os.kill(child, 9)\n"
    )
    out = program.read_to_end().decode().split("\r\n")
    assert out[:3] == ["True", "True", f"{errno.EINVAL} tcsetpgrp(-5) on descriptor 0"]


def test_controlling_terminal(run_script: Callable[[str], Program]) -> None:
    """A terminal becomes the controlling one of a leader that has none; taken from another session it does not."""
    program = run_script(
        "import os\n"
        "from kernelproof.impl.term import PseudoterminalPair, set_controlling_terminal\n"
        "pair = PseudoterminalPair.open(); fd = pair.peer()\n"
        "try: set_controlling_terminal(fd)\n"
        "except OSError as error: print(error.errno, error.__notes__[0], flush=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); set_controlling_terminal(fd)\n"
        "    print(os.ttyname(os.open('/dev/tty', os.O_RDWR)), os.tcgetpgrp(fd) == os.getpgrp(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    out = program.read_to_end().decode().split("\r\n")
    assert out[0].startswith(f"{errno.EPERM} ioctl(TIOCSCTTY)")
    assert out[1] == "/dev/tty True"
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        set_controlling_terminal(0 if not os.isatty(0) else os.open("/dev/null", os.O_RDWR))


def test_foreground_of_what_is_not_ours() -> None:
    """The group of a terminal that is not the controlling one is ENOTTY, with the call named."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        for call in (lambda: read_foreground_group(fd), lambda: set_foreground_group(fd, os.getpgrp())):
            with pytest.raises(OSError, match="Inappropriate ioctl") as caught:
                call()
            assert "pgrp" in caught.value.__notes__[0]
        os.close(fd)
