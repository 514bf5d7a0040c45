"""How a pair is made: locks, names, peers without a path, limits, exclusive mode, and what grantpt does."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.mount import MountFlag, UnmountFlag, mount, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.terminals import grantpt, openpty, ptsname, unlockpt
from kernelproof.impl.term import (
    PseudoterminalPair,
    give_console,
    input_waiting,
    output_waiting,
    push_input,
    restore,
    save,
)
from kernelproof.impl.term.calls import control
from kernelproof.impl.term.linux import (
    TIOCGPTPEER,
    is_exclusive,
    is_locked,
    open_peer,
    pseudoterminal_number,
    set_exclusive,
    unlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Pair, ReadNow

USER = 1000
SYSCTL = Path("/proc/sys/kernel/pty")
LEGACY_TIOCSTI = Path("/proc/sys/dev/tty/legacy_tiocsti")
PEER = os.O_RDWR | os.O_NOCTTY


@pytest.fixture
def master() -> Iterator[int]:
    """A master as the multiplexer gives it: its peer is locked."""
    fd = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@behaviour("term.pty.slave-locked-until-unlockpt")
def test_peer_is_locked_at_first(master: int, seen: Seen) -> None:
    """Opening the slave before the lock is removed gives EIO, by path and by the master; after it, it opens."""
    path = f"/dev/pts/{pseudoterminal_number(master)}"
    assert seen.errno_of(os.open, path, PEER) == "EIO"
    assert seen.errno_of(open_peer, master, PEER) == "EIO"
    unlock(master)
    fds = [os.open(path, PEER), open_peer(master, PEER)]
    assert [os.ttyname(fd) for fd in fds] == [path, path]
    for fd in fds:
        os.close(fd)


@behaviour("term.pty.lock-state")
def test_lock_can_be_seen(master: int, seen: Seen) -> None:
    """TIOCGPTLCK says 1 of a new master, and 0 after TIOCSPTLCK with 0."""
    before = is_locked(master)
    unlock(master)
    assert seen([before, is_locked(master)]) == [True, False]
    os.close(os.open(f"/dev/pts/{pseudoterminal_number(master)}", PEER))


@behaviour("term.pty.unlockpt-wrong-end")
@pytest.mark.parametrize("end", ["slave", "pipe"])
def test_only_a_master_is_unlocked(pair: Pair, end: str, seen: Seen) -> None:
    """unlockpt and grantpt on a slave or a pipe give EINVAL; the ioctl of the typed layer gives ENOTTY."""
    ends = os.pipe()
    fd = pair.slave if end == "slave" else ends[0]
    typed = seen.errno_of(unlock, fd)
    assert seen([seen.errno_of(unlockpt, fd), seen.errno_of(grantpt, fd)]) == ["EINVAL", "EINVAL"]
    assert typed in ("ENOTTY", "EIO")
    for each in ends:
        os.close(each)


@behaviour("term.pty.grantpt-closed")
def test_grant_needs_a_descriptor(pair: Pair, seen: Seen) -> None:
    """grantpt on a closed descriptor gives EBADF, and so does the typed layer."""
    closed = os.dup(pair.master)
    os.close(closed)
    assert seen.errno_of(unlock, closed) == "EBADF"
    assert seen.errno_of(grantpt, closed) == "EBADF"


@behaviour("term.pty.ptsname-errors")
def test_name_of_what_is_no_master(pair: Pair, seen: Seen) -> None:
    """ptsname_r gives ENOTTY for a pipe and for /dev/null, and the path for a master."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    assert ptsname(pair.master) == pair.path
    for fd in (reader, null):
        assert seen.errno_of(pseudoterminal_number, fd) == "ENOTTY"
        assert seen.errno_of(ptsname, fd) == "ENOTTY"
    for fd in (reader, writer, null):
        os.close(fd)


@behaviour("term.pty.ptsname-small-buffer")
def test_name_needs_room(pair: Pair, seen: Seen) -> None:
    """ptsname_r gives ERANGE for a buffer without room for the path, and the path with it."""
    assert ptsname(pair.master, size=len(pair.path) + 1) == pair.path
    assert seen.errno_of(ptsname, pair.master, size=len(pair.path)) == "ERANGE"


@behaviour("term.pty.slave-path-vanishes")
def test_path_is_there_as_long_as_the_master(seen: Seen) -> None:
    """The slave's path is there while the master is open, and gone after its last close."""
    opened = PseudoterminalPair.open()
    path, copy = Path(opened.name), os.dup(opened.master)
    views = [path.is_char_device()]
    opened.close()
    views.append(path.is_char_device())
    os.close(copy)
    views.append(path.exists())
    assert seen(views) == [True, True, False]


@behaviour("term.pty.peer-without-path")
def test_peer_needs_no_path(in_child: InChild, seen: Seen) -> None:
    """TIOCGPTPEER opens the slave though devpts was detached from the mount namespace."""

    def open_without() -> list[Any]:
        with PseudoterminalPair.open() as opened:
            name = opened.name
            unshare(CloneFlag.NEWNS)
            mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
            umount2("/dev/pts", UnmountFlag.DETACH)
            by_path = seen.errno_of(os.open, name, PEER)
            peer = opened.peer()
            os.write(opened.master, b"line\n")
            return [by_path, os.read(peer, 100).decode(), os.major(os.fstat(peer).st_rdev)]

    assert seen(in_child(open_without)) == ["ENOENT", "line\n", 136]


@behaviour("term.pty.ttyname-lost-path")
def test_name_of_a_lost_path(in_child: InChild, seen: Seen) -> None:
    """ttyname of a slave whose devpts is not in the mount namespace gives ENODEV."""

    def name_without() -> list[str]:
        with PseudoterminalPair.open() as opened:
            peer = opened.peer()
            before = os.ttyname(peer)
            unshare(CloneFlag.NEWNS)
            mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
            umount2("/dev/pts", UnmountFlag.DETACH)
            return [str(before == opened.name), seen.errno_of(os.ttyname, peer)]

    assert seen(in_child(name_without)) == ["True", "ENODEV"]


@behaviour("term.pty.peer-flags")
def test_peer_is_opened_as_asked(pair: Pair, seen: Seen) -> None:
    """TIOCGPTPEER honours open flags: close-on-exec, access, and whether reads wait."""
    plain = fcntl.ioctl(pair.master, TIOCGPTPEER, PEER)
    fds = [open_peer(pair.master, PEER), open_peer(pair.master, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)]
    found = [bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC) for fd in (plain, *fds)]
    flags = fcntl.fcntl(fds[1], fcntl.F_GETFL)
    assert seen(found) == [False, True, True]
    assert [flags & os.O_ACCMODE, bool(flags & os.O_NONBLOCK)] == [os.O_RDONLY, True]
    for fd in (plain, *fds):
        os.close(fd)


@behaviour("term.pty.peer-on-slave")
def test_slave_has_no_peer(pair: Pair, seen: Seen) -> None:
    """TIOCGPTPEER on a slave gives ENOTTY."""
    assert seen.errno_of(open_peer, pair.slave, PEER) in ("ENOTTY", "EIO")
    assert seen.errno_of(control, pair.slave, "TIOCGPTPEER", TIOCGPTPEER, PEER) == "ENOTTY"


@behaviour("term.pty.max-enospc")
def test_pairs_run_out(pair: Pair, seen: Seen) -> None:
    """When kernel.pty.nr has reached kernel.pty.max, opening the multiplexer gives ENOSPC, and a pair as well."""
    (SYSCTL / "max").write_text((SYSCTL / "nr").read_text())
    assert seen.errno_of(os.open, "/dev/ptmx", PEER) == "ENOSPC"
    assert seen.errno_of(PseudoterminalPair.open) == "ENOSPC"
    (SYSCTL / "max").write_text("4096")
    with PseudoterminalPair.open() as opened:
        assert opened.name != pair.path


@behaviour("term.pty.openpty-out-of-terminals")
def test_openpty_without_terminals(pair: Pair, seen: Seen) -> None:
    """openpty gives ENOENT when no pseudoterminal is left."""
    master, slave = openpty()
    assert os.ttyname(slave) != pair.path
    os.close(slave)
    os.close(master)
    (SYSCTL / "max").write_text((SYSCTL / "nr").read_text())
    assert seen.errno_of(PseudoterminalPair.open) == "ENOSPC"
    assert seen.errno_of(openpty) == "ENOENT"


@behaviour("term.pty.nr-counts")
def test_pairs_are_counted(seen: Seen) -> None:
    """kernel.pty.nr counts open masters, and cannot be written."""

    def count() -> int:
        return int((SYSCTL / "nr").read_text())

    before = count()
    with PseudoterminalPair.open() as first:
        one = count() - before
        with PseudoterminalPair.open() as second:
            two = count() - before
            assert first.name != second.name
    assert seen([one, two, count() - before]) == [1, 2, 0]
    assert stat.S_IMODE((SYSCTL / "nr").stat().st_mode) == 0o444
    assert seen.errno_of((SYSCTL / "nr").write_text, "7") in ("EACCES", "EPERM")


def open_as_user(in_child: InChild, path: str) -> str:
    """Open a terminal as an ordinary user, and return what that gives."""

    def open_it() -> str:
        os.setresuid(USER, USER, USER)
        try:
            os.open(path, PEER)
        except OSError as error:
            return os.strerror(error.errno or 0)
        return "no error"

    return str(in_child(open_it))


@behaviour("term.pty.exclusive-mode")
def test_exclusive_mode_keeps_users_out(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """After TIOCEXCL a further open of the slave without CAP_SYS_ADMIN gives EBUSY."""
    give_console(pair.slave, USER)
    assert os.stat(pair.path).st_uid == USER
    before = open_as_user(in_child, pair.path)
    set_exclusive(pair.slave, True)
    assert seen([before, open_as_user(in_child, pair.path)]) == ["no error", "Device or resource busy"]


@behaviour("term.pty.exclusive-mode-privileged")
def test_exclusive_mode_keeps_root_not_out(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """CAP_SYS_ADMIN opens the slave in spite of TIOCEXCL, which keeps an ordinary user out."""
    give_console(pair.slave, USER)
    set_exclusive(pair.slave, True)
    assert open_as_user(in_child, pair.path) == "Device or resource busy"
    assert seen.errno_of(os.open, pair.path, PEER) == "no error"


@behaviour("term.pty.exclusive-mode-ends")
def test_exclusive_mode_ends(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """After TIOCNXCL an ordinary user opens the slave again."""
    give_console(pair.slave, USER)
    set_exclusive(pair.slave, True)
    during = open_as_user(in_child, pair.path)
    set_exclusive(pair.slave, False)
    assert seen([during, open_as_user(in_child, pair.path)]) == ["Device or resource busy", "no error"]


@behaviour("term.pty.getexcl")
def test_exclusive_mode_can_be_seen(pair: Pair, seen: Seen) -> None:
    """TIOCGEXCL says whether a terminal is in exclusive mode."""
    views = [is_exclusive(pair.slave)]
    for on in (True, False):
        fcntl.ioctl(pair.slave, termios.TIOCEXCL if on else termios.TIOCNXCL)
        views.append(is_exclusive(pair.slave))
    assert seen(views) == [False, True, False]


@behaviour("term.pty.fionread-canonical")
def test_input_that_counts(pair: Pair, arrived: Callable[[int], None], read_now: ReadNow, seen: Seen) -> None:
    """FIONREAD in canonical mode is 0 for an unfinished line and its length with the newline once it is finished."""
    restore(pair.slave, save(pair.slave).changed("-ECHO"))
    os.write(pair.master, b"abc")
    assert read_now(pair.slave) is None
    unfinished = input_waiting(pair.slave)
    os.write(pair.master, b"d\n")
    arrived(pair.slave)
    assert seen([unfinished, input_waiting(pair.slave)]) == [0, 5]
    assert struct.unpack("i", fcntl.ioctl(pair.slave, termios.FIONREAD, bytes(4))) == (len(os.read(pair.slave, 100)),)


@behaviour("term.pty.outq-empty-on-pty")
def test_output_is_out_at_once(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """TIOCOUTQ on a slave is 0 though the master has not read the 1000 bytes that were written."""
    os.write(pair.slave, b"x" * 1000)
    waiting = output_waiting(pair.slave)
    assert seen([waiting, len(read_now(pair.master) or b"")]) == [0, 1000]


@behaviour("term.pty.sti-legacy-switch")
def test_typing_for_others_is_off(pair: Pair, in_session: InSession, read_now: ReadNow, seen: Seen) -> None:
    """With dev.tty.legacy_tiocsti 0, TIOCSTI without CAP_SYS_ADMIN is refused and nothing is typed."""
    LEGACY_TIOCSTI.write_text("0")
    answer, uid = in_session(lambda: push_as_user(pair, seen))
    assert uid == USER
    assert seen(answer != "no error")
    assert read_now(pair.slave) is None


def push_as_user(pair: Pair, seen: Seen) -> list[Any]:
    os.setresuid(USER, USER, USER)
    return [seen.errno_of(push_input, pair.slave, ord("\n")), os.getuid()]


@behaviour("term.pty.sti-legacy-allowed")
def test_typing_may_be_allowed(pair: Pair, in_session: InSession, read_now: ReadNow, seen: Seen) -> None:
    """With dev.tty.legacy_tiocsti 1 a process without CAP_SYS_ADMIN types into its own controlling terminal."""
    LEGACY_TIOCSTI.write_text("1")
    assert in_session(lambda: push_as_user(pair, seen)) == ["no error", USER]
    assert seen(read_now(pair.slave)) == b"\n"
