"""What a process under Landlock may do with files, ports, and processes beyond its border."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import termios
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls import landlock as calls
from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl._syscalls.pidfd import pidfd_getfd
from kernelproof.impl._syscalls.surroundings import chroot
from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath
from kernelproof.impl.libcontainer.security.landlock import confine, plan_policy, read_abi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

WRITE_FILE, READ_FILE = 1 << 1, 1 << 2
REMOVE_FILE, MAKE_REG, REFER, TRUNCATE, IOCTL_DEV = 1 << 5, 1 << 8, 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2


def restrict(fs: int = 0, net: int = 0, scoped: int = 0, *, paths: dict[Path, int] | None = None) -> None:
    """Be under a ruleset that handles some rights and allows some of them below paths."""
    ruleset = calls.create_ruleset(fs, net, scoped)
    for path, allowed in (paths or {}).items():
        calls.add_path(ruleset, os.open(path, os.O_PATH), allowed)
    calls.restrict_self(ruleset)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, each with a file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("words")
    return tmp_path / "one", tmp_path / "two"


@behaviour("landlock.fs.denied-open")
def test_outside_what_is_allowed(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """A file outside every allowed folder can't be opened: EACCES; one inside can; a typed policy does the same."""
    one, two = folders

    def ask(by: Callable[[], None]) -> list[str]:
        by()
        return [seen.errno_of(os.open, each / "file", os.O_RDONLY) for each in (one, two)]

    def typed() -> None:
        policy = Landlock(1, handled=("read_file",), paths=(LandlockPath(str(one), ("read_file",)),))
        confine(plan_policy(policy, read_abi()))

    plain = in_child(lambda: ask(lambda: restrict(READ_FILE, paths={one: READ_FILE})))
    assert in_child(lambda: ask(typed)) == plain
    assert seen(plain) == ["no error", "EACCES"]


@behaviour("landlock.fs.open-before-sandboxing")
def test_open_already(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """What was opened before can still be read."""

    def ask() -> list[str]:
        fd = os.open(folders[0] / "file", os.O_RDONLY)
        restrict(READ_FILE)
        return [os.read(fd, 10).decode(), seen.errno_of(os.open, folders[0] / "file", os.O_RDONLY)]

    assert seen(in_child(ask)) == ["words", "EACCES"]


@behaviour("landlock.fs.refer-denied-by-default")
def test_no_move_between_folders(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """A file can't be renamed into another folder: EXDEV; within its folder it can."""
    one, two = folders

    def ask() -> list[str]:
        restrict(READ_FILE)
        return [
            seen.errno_of(os.rename, one / "file", two / "moved"),
            seen.errno_of(os.rename, one / "file", one / "moved"),
        ]

    assert seen(in_child(ask)) == ["EXDEV", "no error"]
    assert sorted(each.name for each in two.iterdir()) == ["file"]


@behaviour("landlock.fs.eacces-before-exdev")
def test_denied_before_crossing(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """A move that lacks both the right to make and the right to refer gives EACCES; one that lacks the latter EXDEV."""
    one, two = folders

    def ask(allowed: int) -> str:
        handled = MAKE_REG | REMOVE_FILE | REFER
        restrict(handled, paths={one: REMOVE_FILE, two: allowed} if allowed else {one: REMOVE_FILE})
        return seen.errno_of(os.rename, one / "file", two / "moved")

    assert seen([in_child(lambda: ask(0)), in_child(lambda: ask(MAKE_REG))]) == ["EACCES", "EXDEV"]


@behaviour("landlock.fs.stat-unrestricted")
def test_looking_is_free(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """stat, chmod and access work on a file that can't be opened."""
    file = folders[0] / "file"

    def ask() -> list[object]:
        restrict(READ_FILE | WRITE_FILE)
        answers = [seen.errno_of(os.open, file, flags) for flags in (os.O_RDONLY, os.O_WRONLY)]
        file.chmod(0o640)
        return [*answers, file.stat().st_size, os.access(file, os.R_OK | os.W_OK)]

    assert seen(in_child(ask)) == ["EACCES", "EACCES", 5, True]
    assert file.stat().st_mode & 0o777 == 0o640


@behaviour("landlock.fs.truncate-abi2")
def test_truncating_is_free(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """A file that can't be opened can be truncated, as these versions have no right for it."""
    file = folders[0] / "file"

    def ask() -> list[str]:
        restrict((1 << 14) - 1)
        return [seen.errno_of(os.open, file, os.O_WRONLY), seen.errno_of(os.truncate, file, 2)]

    assert seen(in_child(ask)) == ["EACCES", "no error"]
    assert file.read_text() == "wo"


@behaviour("landlock.fs.truncate-right-sticks-to-fd")
def test_right_of_a_descriptor(companion: Companion, folders: tuple[Path, Path], seen: Seen) -> None:
    """A descriptor that was opened without the right can't be truncated, also by a process under no ruleset."""
    one, two = folders

    def live(talk: Talk) -> None:
        restrict(TRUNCATE, paths={one: TRUNCATE})
        fds = [os.open(each / "file", os.O_WRONLY) for each in (one, two)]
        talk.ask(fds)
        talk.say([seen.errno_of(os.ftruncate, fd, 1) for fd in fds])

    talk = companion(live)
    numbers = talk.hear()
    pidfd = os.pidfd_open(talk.pid)
    taken = [pidfd_getfd(pidfd, number) for number in numbers]
    outside = [seen.errno_of(os.ftruncate, fd, 2) for fd in taken]
    assert seen([*outside, *talk.ask()]) == ["no error", "EACCES"] * 2
    assert [(each / "file").read_text() for each in folders] == ["w", "words"]


@behaviour("landlock.fs.mount-refused")
def test_no_mount(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """Root under a ruleset for files can't mount: EPERM."""

    def ask() -> str:
        restrict(READ_FILE)
        return seen.errno_of(mount, "none", tmp_path, "tmpfs")

    assert seen(in_child(ask)) == "EPERM"
    assert not os.path.ismount(tmp_path)


@behaviour("landlock.fs.chroot-allowed")
def test_chroot(in_child: InChild, folders: tuple[Path, Path], seen: Seen) -> None:
    """Root under a ruleset for files can change its root."""

    def ask() -> list[object]:
        restrict(READ_FILE)
        answer = seen.errno_of(chroot, folders[0])
        return [answer, os.listdir("/"), seen.errno_of(os.open, "/file", os.O_RDONLY)]

    assert seen(in_child(ask)) == ["no error", ["file"], "EACCES"]


@behaviour("landlock.fs.ioctl-dev-common-commands")
def test_ioctls_of_devices(in_child: InChild, seen: Seen) -> None:
    """Without the right for ioctls FIONBIO and FIOCLEX work on a device; a driver's own gives EACCES."""

    def ask() -> list[str]:
        restrict(IOCTL_DEV)
        fd = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        answers = [
            seen.errno_of(fcntl.ioctl, fd, 0x5421, array.array("i", [1])),  # FIONBIO
            seen.errno_of(fcntl.ioctl, fd, 0x5451),  # FIOCLEX
            seen.errno_of(fcntl.ioctl, fd, termios.TIOCGWINSZ, bytes(8)),
        ]
        return [*answers, str(os.get_blocking(fd))]

    assert seen(in_child(ask)) == ["no error", "no error", "EACCES", "False"]


def tried(seen: Seen, kind: int, call: str, address: tuple[str, int]) -> str:
    """What binding or connecting a socket gives."""
    with socket.socket(type=kind) as end:
        return seen.errno_of(getattr(end, call), address)


@behaviour("landlock.net.bind-and-connect")
def test_ports_without_a_rule(in_child: InChild, seen: Seen) -> None:
    """Binding and connecting TCP sockets to a port without a rule gives EACCES; UDP is free; with a rule it works."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def ask() -> list[str]:
            ruleset = calls.create_ruleset(0, BIND_TCP | CONNECT_TCP)
            calls.add_port(ruleset, port, CONNECT_TCP)
            calls.restrict_self(ruleset)
            address, other = ("127.0.0.1", port), ("127.0.0.1", 7001)
            return [
                tried(seen, socket.SOCK_STREAM, "bind", other),
                tried(seen, socket.SOCK_STREAM, "connect", other),
                tried(seen, socket.SOCK_STREAM, "connect", address),
                tried(seen, socket.SOCK_DGRAM, "bind", other),
                tried(seen, socket.SOCK_DGRAM, "connect", other),
            ]

        answers = in_child(ask)
    assert seen(answers) == ["EACCES", "EACCES", "no error", "no error", "no error"]


@behaviour("landlock.net.port-zero")
def test_any_port(in_child: InChild, seen: Seen) -> None:
    """Binding to port 0 is denied unless a rule allows port 0."""

    def ask(allowed: int) -> str:
        ruleset = calls.create_ruleset(0, BIND_TCP)
        calls.add_port(ruleset, allowed, BIND_TCP)
        calls.restrict_self(ruleset)
        return tried(seen, socket.SOCK_STREAM, "bind", ("127.0.0.1", 0))

    assert seen([in_child(lambda: ask(7001)), in_child(lambda: ask(0))]) == ["EACCES", "no error"]


@behaviour("landlock.scope.signal")
def test_signals_stay_inside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A process scoped for signals can't signal one outside: EPERM; one inside it can."""
    outside = companion(lambda talk: talk.hear())

    def ask() -> list[str]:
        restrict(scoped=2)
        inside = os.fork()
        if inside == 0:
            signal.pause()
        return [seen.errno_of(os.kill, pid, signal.SIGKILL) for pid in (outside.pid, inside)]

    assert seen(in_child(ask)) == ["EPERM", "no error"]
    outside.say()
    assert os.waitpid(outside.pid, 0)[1] == 0


@behaviour("landlock.scope.abstract-unix-socket")
def test_abstract_sockets_stay_inside(in_child: InChild, seen: Seen) -> None:
    """A process scoped for abstract sockets can't connect to one made outside: EPERM; to one made inside it can."""

    def listen(name: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"\0{name}")
        server.listen()
        return server

    def ask() -> list[str]:
        restrict(scoped=1)
        with listen("kp-inside"):
            names = ("\0kp-outside", "\0kp-inside")
            return [connected(name) for name in names]

    def connected(name: str) -> str:
        with socket.socket(socket.AF_UNIX) as end:
            return seen.errno_of(end.connect, name)

    with listen("kp-outside"):
        assert seen(in_child(ask)) == ["EPERM", "no error"]
