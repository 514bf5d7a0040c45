"""Pairs and their peers; consoles and whom they are given to."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.term import (
    NotPseudoterminalError,
    PseudoterminalPair,
    WindowSize,
    give_console,
    linux,
    pairs,
    read_window_size,
    save,
    set_window_size,
)
from kernelproof.impl.term.calls import control
from kernelproof.impl.tests.term.programs import SIZE, script_argv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has is tested here too")
Peer = Callable[[PseudoterminalPair], int]


def test_pair_talks() -> None:
    """What one end writes the other reads, lines with their translation; the name is the peer's path."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        os.write(fd, b"out\n")
        said = b""
        while len(said) < 5:  # the end of the line may come as a piece of its own
            said += os.read(pair.master, 100)
        assert said == b"out\r\n"
        os.write(pair.master, b"in\n")
        assert os.read(fd, 100) == b"in\n"
        assert pair.name == os.ttyname(fd)
        os.close(fd)


def test_a_closed_pair_has_no_peer_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the peer is opened with the pair, whoever asks for it after the end is told that there is none."""
    monkeypatch.setattr(pairs, "IS_LINUX", False)
    pair = PseudoterminalPair.open()
    pair.close()
    with pytest.raises(ValueError, match="the pair is closed"):
        pair.peer()


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
        is_terminal = os.isatty(fd)
        os.write(fd, b"x")
        got = os.read(pair.master, 10) if is_terminal else b""
        os.close(fd)
        assert got == b"x"


@pytest.mark.rule("T4")
def test_refused_peer_is_not_looked_for_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel can open a peer and will not, its errno comes out: no path is opened instead."""

    def refuse(fd: int, name: str, *rest: Any) -> object:
        if name == "TIOCGPTPEER":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return control(fd, name, *rest)

    with PseudoterminalPair.open() as pair:
        monkeypatch.setattr(linux, "control", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            linux.open_peer(pair.master, os.O_RDWR | os.O_NOCTTY)


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
    before = os.listdir("/proc/self/fd")

    def recorded(path: str, flags: int, *arguments: int, **keywords: int) -> int:
        opened.append(flags & (os.O_RDWR | os.O_PATH))
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", recorded)
    with pytest.raises(expected):
        PseudoterminalPair.open(devpts=tmp_path)
    assert set(opened) == {os.O_PATH}
    assert len(os.listdir("/proc/self/fd")) == len(before)


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
