"""Terminals where a real kernel, other namespaces, other users and a real shell are needed."""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.mount import MountFlag, UnmountFlag, mount, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.term import (
    LEAVE,
    ConsoleSocketError,
    PseudoterminalPair,
    WindowSize,
    copy_terminal,
    give_console,
    raw,
    read_foreground_group,
    receive_master,
    restore,
    save,
    send_master,
    set_controlling_terminal,
)

pytestmark = pytest.mark.machine

SIZE = WindowSize(24, 80)


def fork(function: Callable[[], object]) -> int:
    """Run a function in a child, which ends with 0 if it returns."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    return pid


@pytest.fixture
def pair() -> Iterator[PseudoterminalPair]:
    """A pair of a known size."""
    with PseudoterminalPair.open(SIZE) as opened:
        yield opened


def read_until(fd: int, text: bytes, seconds: float = 30) -> bytes:
    """Return what can be read up to a text and with it, and what came with it."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    seen = b""
    while text not in seen:
        assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"no {text!r} in {seen!r}"
        seen += os.read(fd, 4096)
    return seen


def test_watcher_after_a_kill(pair: PseudoterminalPair) -> None:
    """A guarded program is killed by SIGKILL: the terminal is as before within 200 ms of the machine's clock."""
    before = save(pair.master)
    peer = pair.peer()
    said, saying = os.pipe()

    def guarded() -> None:
        os.setsid()
        set_controlling_terminal(peer)
        with raw(peer, guard=True, leave=LEAVE):
            os.set_blocking(peer, False)
            os.write(saying, b"!")
            signal.pause()

    pid = fork(guarded)
    os.read(said, 1)
    assert save(pair.master) != before
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert LEAVE in read_until(pair.master, LEAVE[-6:])
    # What is written last is written after the attributes; whether reads wait comes after that.
    assert save(pair.master) == before
    assert time.monotonic() - killed < 0.2
    deadline = time.monotonic() + 10
    while not os.get_blocking(peer) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    assert os.get_blocking(peer)
    for fd in (peer, said, saying):
        os.close(fd)


def test_peer_across_mount_namespaces(tmp_path: Path) -> None:
    """A master of a container's devpts gives its peer in a namespace without that devpts, and a program runs on it."""
    said, saying = os.pipe()
    ours, theirs = socket.socketpair()

    def container() -> None:
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        mount("devpts", tmp_path, "devpts", MountFlag(0), "newinstance,ptmxmode=0666")
        with PseudoterminalPair.open(SIZE, devpts=tmp_path) as inner:
            send_master(theirs, inner.master, inner.name)

    pid = fork(container)
    assert os.waitpid(pid, 0)[1] == 0
    master, name = receive_master(ours)
    assert name == "/dev/pts/0"
    with PseudoterminalPair(master) as pair, pair.spawn(["sh", "-c", "stty size; tty; echo end"]) as process:
        out = read_until(master, b"end")
        assert process.wait(30) == 0
    assert b"24 80" in out
    for fd in (said, saying):
        os.close(fd)
    for connection in (ours, theirs):
        connection.close()


def test_fake_peer_is_not_taken(pair: PseudoterminalPair) -> None:
    """A file at the peer's path in another mount namespace is not opened; where that hides the devpts, it is ENODEV."""

    def fake() -> None:
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        umount2("/dev/pts", UnmountFlag.DETACH)
        mount("tmpfs", "/dev/pts", "tmpfs")
        Path(pair.name).write_text("fake")
        peer = pair.peer()
        os.write(pair.master, b"line\n")
        assert os.read(peer, 100) == b"line\n"
        assert Path(pair.name).read_text() == "fake"

    def fake_under_ones_own_feet() -> None:
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        with PseudoterminalPair.open(SIZE) as own:
            umount2("/dev/pts", UnmountFlag.DETACH)
            mount("tmpfs", "/dev/pts", "tmpfs")
            Path(own.name).write_text("fake")
            with pytest.raises(OSError, match="No such device"):
                own.peer()

    for function in (fake, fake_under_ones_own_feet):
        assert os.waitpid(fork(function), 0)[1] == 0


def test_console_socket_between_users(pair: PseudoterminalPair) -> None:
    """A master goes over a socket to another user, who uses it; a file in its place is refused and closed."""
    ours, theirs = socket.socketpair()
    peer = pair.peer()

    def receive() -> None:
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        count = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConsoleSocketError, match="no master"):
            receive_master(theirs)
        assert len(os.listdir("/proc/self/fd")) == count
        master, name = receive_master(theirs)
        os.write(master, name.encode() + b"\n")

    pid = fork(receive)
    null = os.open("/dev/null", os.O_RDWR)
    send_master(ours, null, "/dev/pts/0")
    send_master(ours, pair.master, pair.name)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(peer, 100) == pair.name.encode() + b"\n"
    for fd in (peer, null):
        os.close(fd)
    for connection in (ours, theirs):
        connection.close()


def test_console_belongs_to_the_user_inside(pair: PseudoterminalPair) -> None:
    """A console is given to a user with its group left alone, and that user opens it."""
    peer = pair.peer()
    before = os.fstat(peer)
    give_console(peer, 1000)
    after = os.stat(pair.name)
    assert (after.st_uid, after.st_gid) == (1000, before.st_gid)

    def open_it() -> None:
        os.setresuid(1000, 1000, 1000)
        os.close(os.open(pair.name, os.O_RDWR | os.O_NOCTTY))

    assert os.waitpid(fork(open_it), 0)[1] == 0
    os.close(peer)


def test_background_process_is_not_stopped(pair: PseudoterminalPair) -> None:
    """In the background, raw mode and restore work without a stop, where a plain tcsetattr is stopped by SIGTTOU."""
    peer = pair.peer()

    def plain() -> None:
        termios.tcsetattr(peer, termios.TCSANOW, termios.tcgetattr(peer))

    def ours() -> None:
        with raw(peer):
            pass
        restore(peer, save(peer))

    def lead() -> None:
        os.setsid()
        set_controlling_terminal(peer)
        outcomes = []
        for function in (plain, ours):
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                signal.signal(signal.SIGTTOU, signal.SIG_DFL)
                function()
                os._exit(0)
            _, status = os.waitpid(pid, os.WUNTRACED)
            outcomes.append(os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))
            if os.WIFSTOPPED(status):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        assert outcomes == [signal.SIGTTOU, 0]

    assert os.waitpid(fork(lead), 0)[1] == 0
    os.close(peer)


def test_job_control_of_a_real_shell(pair: PseudoterminalPair) -> None:
    """An interactive shell on a pair stops a job by ctrl-z, puts it on by fg, and ends it by ctrl-c."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PS1": "$ ", "HOME": "/"}
    with pair.spawn(["sh", "-i"], env=environment) as process:
        master = pair.master
        read_until(master, b"$ ")
        shell = read_foreground_group(master)
        assert shell == process.pid
        os.write(master, b"cat\n")
        read_until(master, b"cat\r\n")
        os.write(master, b"hello\n")
        read_until(master, b"hello\r\nhello\r\n")
        job = read_foreground_group(master)
        assert job != shell
        os.write(master, b"\x1a")
        read_until(master, b"$ ")
        assert read_foreground_group(master) == shell
        assert Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        os.write(master, b"fg\n")
        read_until(master, b"cat\r\n")
        os.write(master, b"again\n")
        read_until(master, b"again\r\nagain\r\n")
        assert read_foreground_group(master) == job
        os.write(master, b"\x03")
        read_until(master, b"$ ")
        assert not Path(f"/proc/{job}").exists()
        os.write(master, b"exit 7\n")
        assert process.wait(30) == 7


def test_resize_reaches_a_program_through_the_copy(pair: PseudoterminalPair) -> None:
    """A local terminal that changes its size changes the pair's, and the program on it prints the new one."""
    with PseudoterminalPair.open(WindowSize(10, 20)) as local:
        terminal = local.peer()
        # A trap waits for the end of a `read`, and a `wait` ends for it. The size of before comes first.
        seen = 'size=$(stty size); echo "$size"; [ "$size" != "33 44" ] || exit 0'
        script = f"trap '{seen}' WINCH; echo ready; while :; do sleep 1000 & wait; done"
        with pair.spawn(["sh", "-c", script]) as process:

            def relay() -> None:
                os.setsid()
                set_controlling_terminal(terminal)
                with raw(terminal):
                    copy_terminal(pair.master, terminal, terminal, resize=True, pidfd=process.pidfd)

            pid = fork(relay)
            read_until(local.master, b"ready")
            local.resize(WindowSize(33, 44))
            assert b"33 44" in read_until(local.master, b"33 44")
            assert process.wait(30) == 0
            _, status = os.waitpid(pid, 0)
            assert status == 0
        os.close(terminal)


def pairs_left() -> int:
    """How many pairs are open on this machine."""
    return int(Path("/proc/sys/kernel/pty/nr").read_text())


def test_nothing_is_left() -> None:
    """Twenty pairs, programs and copies leave no pair, no descriptor and no child."""
    before = pairs_left(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with PseudoterminalPair.open(SIZE) as pair, pair.spawn(["true"]) as process:
            reader, writer = os.pipe()
            sink = os.open("/dev/null", os.O_WRONLY)
            copy_terminal(pair.master, reader, sink, pidfd=process.pidfd)
            assert process.wait(30) == 0
            for fd in (reader, writer, sink):
                os.close(fd)
    assert (pairs_left(), len(os.listdir("/proc/self/fd"))) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
