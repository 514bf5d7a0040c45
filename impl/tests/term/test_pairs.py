"""Pairs, their peers, and programs on them."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.term import (
    NotPseudoterminalError,
    PseudoterminalPair,
    WindowSize,
    give_console,
    linux,
    read_foreground_group,
    read_window_size,
    save,
    set_controlling_terminal,
    set_foreground_group,
    set_window_size,
)
from kernelproof.impl.tests.term.conftest import SIZE, Program, script_argv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has is tested here too")
Peer = Callable[[PseudoterminalPair], int]


def read_all(fd: int) -> bytes:
    """Read a master to its end."""
    data = b""
    try:
        while piece := os.read(fd, 4096):
            data += piece
    except OSError:
        pass
    return data


def test_pair_talks() -> None:
    """What one end writes the other reads, lines with their translation; the name is the peer's path."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        os.write(fd, b"out\n")
        assert os.read(pair.master, 100) == b"out\r\n"
        os.write(pair.master, b"in\n")
        assert os.read(fd, 100) == b"in\n"
        assert pair.name == os.ttyname(fd)
        os.close(fd)


def test_both_ends_are_close_on_exec_and_proved() -> None:
    """Master and peer are close-on-exec; their device numbers are those of a multiplexer and of its terminal."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        assert not os.get_inheritable(fd)
        assert not os.get_inheritable(pair.master)
        number = linux.pseudoterminal_number(pair.master)
        assert os.fstat(pair.master).st_rdev == os.makedev(5, 2)
        assert os.fstat(fd).st_rdev == os.makedev(136 + number // 256, number % 256)
        assert not linux.is_locked(pair.master)
        assert not linux.is_exclusive(fd)
        linux.check_peer(fd, number)
        for wrong in (number + 1, number + 256):
            with pytest.raises(NotPseudoterminalError):
                linux.check_peer(fd, wrong)
        with pytest.raises(NotPseudoterminalError):
            linux.check_multiplexer(fd)
        os.close(fd)


# T4.


def ours_peer(pair: PseudoterminalPair) -> int:
    return pair.peer()


def peer_by_path(pair: PseudoterminalPair) -> int:
    """Open the path that the name says, as most do."""
    return os.open(pair.name, os.O_RDWR)


@pytest.mark.rule("T4", ours=ours_peer, wrong=peer_by_path)
def test_peer_does_not_depend_on_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, subject: Peer) -> None:
    """Whatever lies at the path of the peer, what is opened is the pair's own terminal."""
    fake = tmp_path / "0"
    fake.touch()
    with PseudoterminalPair.open() as pair:
        # As seen from a mount namespace where somebody put something else there.
        monkeypatch.setattr(PseudoterminalPair, "name", property(lambda _: str(fake)))
        fd = subject(pair)
        os.write(fd, b"x")
        os.set_blocking(pair.master, False)
        try:
            got = os.read(pair.master, 10)
        except BlockingIOError:
            got = b""
        os.close(fd)
        assert got == b"x"


OURS_KEEPS = "fd = pair.peer()"
PEER_STEALS = "fd = os.open(pair.name, os.O_RDWR)"


@pytest.mark.rule("T4", ours=OURS_KEEPS, wrong=PEER_STEALS)
def test_peer_is_not_taken_as_controlling_terminal(subject: str) -> None:
    """A session leader without terminal that opens a peer still has none."""
    script = (
        "import os; from kernelproof.impl.term import PseudoterminalPair\n"
        f"pair = PseudoterminalPair.open()\n{subject}\n"
        "try: os.open('/dev/tty', os.O_RDWR); print('taken')\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        script_argv(script), start_new_session=True, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == f"{errno.ENXIO}\n", done.stderr


@pytest.mark.rule("T4")
def test_old_kernel_proves_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TIOCGPTPEER the path is opened, and proved to be this terminal."""
    real = fcntl.ioctl

    def ioctl(fd: int, request: int, argument: int | bytes = 0) -> int | bytes:
        if request == linux.TIOCGPTPEER:
            raise OSError(errno.ENOTTY, "")
        return real(fd, request, argument)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        assert os.ttyname(fd) == pair.name
        os.close(fd)
        monkeypatch.setattr(linux, "pseudoterminal_number", lambda _: 4000)
        with pytest.raises((NotPseudoterminalError, FileNotFoundError)):
            pair.peer()


@pytest.mark.rule("T+3")
@pytest.mark.parametrize("kind", ["file", "null", "link", "missing", "other filesystem"])
def test_multiplexer_that_is_none(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A devpts directory whose ptmx is something else is refused before that is opened."""
    ptmx = tmp_path / "ptmx"
    expected: type[Exception] = NotPseudoterminalError
    if kind == "file":
        ptmx.touch()
    elif kind == "null":
        expected = NotPseudoterminalError
        ptmx.symlink_to("/dev/null")
    elif kind == "link":
        ptmx.symlink_to("/dev/ptmx")
    elif kind == "other filesystem":
        tmp_path = Path("/dev")  # its ptmx is a device node or a link, and not on devpts
    else:
        expected = FileNotFoundError
    opened: list[int] = []
    real = os.open

    def recorded(path: str, flags: int, *arguments: int, **keywords: int) -> int:
        opened.append(flags & (os.O_RDWR | os.O_PATH))
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", recorded)
    with pytest.raises(expected):
        PseudoterminalPair.open(devpts=tmp_path)
    assert set(opened) == {os.O_PATH}


@pytest.mark.rule("T+3")
@pytest.mark.parametrize("by", ["path", "descriptor"])
def test_pair_in_another_devpts(by: str) -> None:
    """A pair is made in a devpts of its own, whose first terminal has the number 0 and its own name inside."""
    script = f"""
import os, sys
from kernelproof.impl._syscalls.mount import MountFlag, mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.term import PseudoterminalPair, WindowSize
try:
    unshare(CloneFlag.NEWNS)
    mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
    mount("tmpfs", "/mnt", "tmpfs")
    os.mkdir("/mnt/pts")
    mount("devpts", "/mnt/pts", "devpts", data="newinstance,ptmxmode=0666")
except PermissionError:
    print("denied")
    sys.exit()
devpts = "/mnt/pts" if {by!r} == "path" else os.open("/mnt/pts", os.O_PATH | os.O_DIRECTORY)
with PseudoterminalPair.open(WindowSize(7, 9), devpts=devpts) as pair:
    fd = pair.peer()
    print(pair.name, sorted(os.listdir("/mnt/pts")), os.fstat(fd).st_dev == os.stat("/mnt/pts/0").st_dev, pair.size[:2])
"""
    done = subprocess.run(script_argv(script), capture_output=True, text=True, check=False, timeout=60)
    if done.stdout == "denied\n":
        pytest.skip("this host lets us mount nothing")
    assert done.stdout == "/dev/pts/0 ['0', 'ptmx'] True (7, 9)\n", done.stderr


def test_machine_with_other_numbers() -> None:
    """A machine with another table of ioctls is an error."""
    for machine in ("mips64", "ppc64le", "sparc64", "alpha", "parisc64"):
        with pytest.raises(NotImplementedError, match=machine):
            linux.check_machine(machine)
    for machine in ("x86_64", "aarch64", "riscv64", "s390x"):
        linux.check_machine(machine)


# T8.


class PlainPair:
    """A pair that keeps a number and nothing else."""

    def __init__(self, size: WindowSize) -> None:
        self.master, self._peer = pty.openpty()
        set_window_size(self.master, size)

    def resize(self, size: WindowSize) -> object:
        set_window_size(self.master, size)
        return True

    def close(self) -> None:
        os.close(self.master)
        os.close(self._peer)


@pytest.mark.rule("T8", ours=PseudoterminalPair.open, wrong=PlainPair)
def test_resize_after_close_touches_nothing(subject: Callable[[WindowSize], PlainPair | PseudoterminalPair]) -> None:
    """A pair that was closed does not resize another terminal that has its number now."""
    first = subject(SIZE)
    number = first.master
    first.close()
    second = subject(SIZE)
    assert second.master == number
    first.resize(WindowSize(1, 2))
    size = read_window_size(second.master)
    second.close()
    assert size == SIZE


@pytest.mark.rule("T8")
def test_closed_pair() -> None:
    """Closing twice is closing once; a closed pair takes no size, and says that it is closed."""
    pair = PseudoterminalPair.open(SIZE)
    assert pair.resize(WindowSize(5, 6))
    assert pair.size == WindowSize(5, 6)
    pair.close()
    pair.close()
    assert not pair.resize(SIZE)
    for use in (lambda: pair.master, lambda: pair.name, pair.peer):
        with pytest.raises(ValueError, match="closed"):
            use()
    with PseudoterminalPair.open() as other, pytest.raises(ValueError, match="rows"):
        other.resize(WindowSize(70000, 1))


@pytest.mark.rule("T8")
@pytest.mark.long
def test_resize_and_close_race(full_number: Callable[[int], int]) -> None:
    """Threads that resize while the pair is closed and its number taken again change no other terminal."""
    for _ in range(full_number(5_000)):
        pair = PseudoterminalPair.open(SIZE)
        start = threading.Barrier(2)

        def resize(pair: PseudoterminalPair = pair, start: threading.Barrier = start) -> None:
            start.wait()
            for _ in range(5):
                pair.resize(WindowSize(1, 1))

        thread = threading.Thread(target=resize)
        thread.start()
        start.wait()
        pair.close()
        with PseudoterminalPair.open(SIZE) as other:
            thread.join()
            assert other.size == SIZE


def test_bad_size_leaves_no_descriptor() -> None:
    """A pair that cannot be made leaves nothing open."""
    before = os.listdir("/dev/fd")
    with pytest.raises(ValueError, match="columns"):
        PseudoterminalPair.open(WindowSize(1, 65536))
    assert os.listdir("/dev/fd") == before


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


# T9: consoles.


def give_ours(fd: int, uid: int) -> None:
    give_console(fd, uid)


def give_with_group(fd: int, uid: int) -> None:
    """Set the group too, to the one that consoles have."""
    os.fchown(fd, uid, 5)


@pytest.mark.rule("T9", ours=give_ours, wrong=give_with_group, raises=OSError)
def test_group_of_a_console_stays(monkeypatch: pytest.MonkeyPatch, subject: Callable[[int, int], None]) -> None:
    """A console is given to a user although its group is not mapped in the user namespace."""
    given = []

    def fchown(fd: int, uid: int, gid: int) -> None:
        if gid != -1:
            raise OSError(errno.EINVAL, "not mapped")
        given.append(uid)

    monkeypatch.setattr(os, "fchown", fchown)
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        subject(fd, 4242)
        subject(fd, os.fstat(fd).st_uid)
        os.close(fd)
    assert given == [4242]


def test_console_with_a_group_and_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A group that is asked for is set; a file is no console."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: calls.append((uid, gid)))
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        gid = os.fstat(fd).st_gid
        give_console(fd, 4242, gid + 1)
        give_console(fd, 4242, gid)
        os.close(fd)
    assert calls == [(4242, gid + 1), (4242, -1)]
    with (tmp_path / "file").open("w") as file, pytest.raises(ValueError, match="no terminal"):
        give_console(file.fileno(), 0)


def test_state_through_the_master() -> None:
    """On Linux the master reads the peer's attributes."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        assert save(pair.master) == save(fd)
        os.close(fd)
