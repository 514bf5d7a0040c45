"""Landlock's newer ABIs: sockets with names, UDP, flags of the restriction, and what older kernels say to them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls import landlock as calls
from kernelproof.impl._syscalls import landlock_newer as newer
from kernelproof.impl._syscalls.landlock_newer import NetAccess, RestrictFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild, Unprivileged
    from kernelproof.conformance.seen import Seen

READ_FILE, MAKE_REG = 1 << 2, 1 << 8
# The table of landlock(7), VERSIONS; the last row from Documentation/userspace-api/landlock.rst.
ABI_OF_RELEASE = {(5, 13): 1, (5, 19): 2, (6, 2): 3, (6, 7): 4, (6, 10): 5, (6, 12): 6, (6, 15): 7, (7, 0): 8}
ABI_OF_RELEASE |= {(7, 1): 9, (7, 2): 10, (7, 3): 11}


def no_new_privs() -> str:
    """What /proc says of the calling thread."""
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("NoNewPrivs:"))


@behaviour("landlock.ruleset.abi-of-release")
def test_version_of_the_release(seen: Seen) -> None:
    """The ABI is the one that the table has for the running release."""
    major, minor = (int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    listed = max(abi for release, abi in ABI_OF_RELEASE.items() if release <= (major, minor))
    assert seen(calls.abi_version() - listed) == 0


@behaviour("landlock.ruleset.errata")
def test_errata(seen: Seen) -> None:
    """Erratum 1, of TCP, is fixed wherever there are rights of TCP; a size beside the flag gives EINVAL."""
    assert newer.read_errata() & 1
    assert seen.errno_of(newer.read_errata, size=8) == "EINVAL"


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    """A stream socket with a name, made outside every domain."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "outside"))
        server.listen()
        yield tmp_path / "outside"


def connect(path: Path) -> None:
    """Connect to a socket's name."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@behaviour("landlock.fs.resolve-unix")
def test_socket_of_outside(in_child: InChild, listening: Path, seen: Seen) -> None:
    """A named socket of outside the domain gives EACCES without a rule, and is reached where one grants the right."""

    def ask(*allowed: Path) -> str:
        ruleset = calls.create_ruleset(newer.ACCESS_FS_RESOLVE_UNIX)
        for path in allowed:
            calls.add_path(ruleset, os.open(path, os.O_PATH), newer.ACCESS_FS_RESOLVE_UNIX)
        calls.restrict_self(ruleset)
        return seen.errno_of(connect, listening)

    assert seen([in_child(ask), in_child(lambda: ask(listening.parent))]) == ["EACCES", "no error"]


@behaviour("landlock.fs.resolve-unix-inside")
def test_socket_of_inside(in_child: InChild, listening: Path, seen: Seen) -> None:
    """A named socket that was made inside the domain is reached without a rule."""

    def ask() -> list[str]:
        calls.restrict_self(calls.create_ruleset(newer.ACCESS_FS_RESOLVE_UNIX))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(listening.with_name("inside")))
            server.listen()
            return [seen.errno_of(connect, listening.with_name(name)) for name in ("inside", "outside")]

    assert seen(in_child(ask)) == ["no error", "EACCES"]


def restrict_net(handled: int, rules: dict[int, int]) -> None:
    """Be under a ruleset of ports: the rights that rules give to them."""
    ruleset = calls.create_ruleset(0, handled)
    for port, allowed in rules.items():
        calls.add_port(ruleset, port, allowed)
    calls.restrict_self(ruleset)


def bind_udp(port: int) -> None:
    """Bind a UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", port))


def send_udp(port: int) -> None:
    """Send a datagram from a socket that has no port yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"words", ("127.0.0.1", port))


def connect_udp(port: int) -> None:
    """Set the peer of a UDP socket that has no port yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", port))


@behaviour("landlock.net.bind-udp")
def test_port_of_datagrams(in_child: InChild, seen: Seen) -> None:
    """With BIND_UDP handled a UDP socket is bound to the port of a rule, and to another one not: EACCES."""

    def ask() -> list[str]:
        restrict_net(NetAccess.BIND_UDP, {4001: NetAccess.BIND_UDP})
        return [seen.errno_of(bind_udp, port) for port in (4001, 4002)]

    assert seen(in_child(ask)) == ["no error", "EACCES"]


@behaviour("landlock.net.send-udp")
def test_destination_of_datagrams(in_child: InChild, seen: Seen) -> None:
    """With CONNECT_SEND_UDP handled sendto and connect reach the port of a rule, and another one not: EACCES."""

    def ask() -> list[str]:
        restrict_net(NetAccess.CONNECT_SEND_UDP, {4001: NetAccess.CONNECT_SEND_UDP})
        return [seen.errno_of(call, port) for call in (send_udp, connect_udp) for port in (4001, 4002)]

    assert seen(in_child(ask)) == ["no error", "EACCES", "no error", "EACCES"]


@behaviour("landlock.net.udp-autobind")
def test_port_that_the_kernel_picks(in_child: InChild, seen: Seen) -> None:
    """A first datagram without BIND_UDP on port 0 is denied, as the kernel would have to pick a port."""
    send = NetAccess.CONNECT_SEND_UDP

    def ask(rules: dict[int, int]) -> list[str]:
        restrict_net(send | NetAccess.BIND_UDP, rules)
        return [seen.errno_of(call, 4001) for call in (send_udp, connect_udp)]

    answers = [in_child(lambda: ask({4001: send})), in_child(lambda: ask({4001: send, 0: NetAccess.BIND_UDP}))]
    assert seen(answers) == [["EACCES"] * 2, ["no error"] * 2]


@behaviour("landlock.enforce.tsync")
def test_all_threads_at_once(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """With TSYNC a thread that was there before is under the ruleset, and has no_new_privs as the caller has."""
    file = tmp_path / "file"
    file.write_text("words")

    def ask(flags: int) -> list[str]:
        go = threading.Event()
        answers: list[str] = []

        def wait() -> None:
            go.wait(30)
            answers.append(seen.errno_of(os.open, file, os.O_RDONLY))

        thread = threading.Thread(target=wait)
        thread.start()
        calls.restrict_self(calls.create_ruleset(READ_FILE), flags)
        go.set()
        thread.join()
        return answers

    assert seen([in_child(lambda: ask(0)), in_child(lambda: ask(RestrictFlag.TSYNC))]) == [["no error"], ["EACCES"]]


@behaviour("landlock.enforce.log-subdomains-off-alone")
def test_mute_without_a_ruleset(in_child: InChild, seen: Seen) -> None:
    """LOG_SUBDOMAINS_OFF is taken with -1 in the place of a ruleset; another logging flag is not: EBADF."""

    def ask() -> list[str]:
        flags = (RestrictFlag.LOG_SUBDOMAINS_OFF, RestrictFlag.LOG_NEW_EXEC_ON)
        return [seen.errno_of(calls.restrict_self, -1, each) for each in flags]

    assert seen(in_child(ask)) == ["no error", "EBADF"]


@behaviour("landlock.enforce.no-new-privs")
def test_privileges_go_with_the_restriction(unprivileged: Unprivileged, seen: Seen) -> None:
    """A user without CAP_SYS_ADMIN is restricted by a call with NO_NEW_PRIVS, which sets no_new_privs."""

    def ask() -> list[str]:
        before = no_new_privs()
        answer = seen.errno_of(calls.restrict_self, calls.create_ruleset(MAKE_REG), RestrictFlag.NO_NEW_PRIVS)
        return [before, answer, no_new_privs()]

    assert seen(unprivileged(ask)) == ["0", "no error", "1"]


@behaviour("landlock.enforce.no-new-privs-if-successful")
def test_privileges_stay_after_a_refusal(in_child: InChild, seen: Seen) -> None:
    """A call with NO_NEW_PRIVS that fails leaves no_new_privs unset."""

    def ask() -> list[str]:
        no_ruleset = os.open("/dev/null", os.O_RDONLY)
        return [seen.errno_of(calls.restrict_self, no_ruleset, RestrictFlag.NO_NEW_PRIVS), no_new_privs()]

    assert seen(in_child(ask)) == ["EBADFD", "0"]


@behaviour("landlock.ruleset.quiet-not-handled")
def test_quiet_right_that_is_not_handled(seen: Seen) -> None:
    """Rights in quiet_access_fs that handled_access_fs lacks give EINVAL; a part of the handled ones is taken."""

    def make(quiet: int) -> None:
        os.close(calls.create_ruleset(0, attributes=struct.pack("=6Q", READ_FILE | 1, 0, 0, quiet, 0, 0)))

    assert seen([seen.errno_of(make, quiet) for quiet in (READ_FILE | 2, READ_FILE)]) == ["EINVAL", "no error"]


@behaviour("landlock.rule.quiet-grants-nothing")
def test_quiet_rule_is_a_rule(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """A quiet rule allows what it names, and nothing is let through because it is quiet."""
    for name in ("read", "listed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("words")

    def ask() -> list[str]:
        ruleset = calls.create_ruleset(0, attributes=struct.pack("=6Q", READ_FILE | 8, 0, 0, READ_FILE, 0, 0))
        newer.add_quiet_path(ruleset, os.open(tmp_path / "read", os.O_PATH), READ_FILE)
        newer.add_quiet_path(ruleset, os.open(tmp_path / "listed", os.O_PATH), 8)
        calls.restrict_self(ruleset)
        return [seen.errno_of(os.open, tmp_path / name / "file", os.O_RDONLY) for name in ("read", "listed")]

    assert seen(in_child(ask)) == ["no error", "EACCES"]


def quiet_rule() -> None:
    """Add a rule with the flag QUIET."""
    newer.add_quiet_path(calls.create_ruleset(READ_FILE), os.open("/", os.O_PATH), READ_FILE)


def restrict_with(flags: int) -> Callable[[], None]:
    """A restriction with flags."""
    return lambda: calls.restrict_self(calls.create_ruleset(READ_FILE), flags)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, marks=behaviour(name), id=name.split(".")[2])
        for name, call in (
            ("landlock.fs.resolve-unix-before-abi-9", lambda: calls.create_ruleset(newer.ACCESS_FS_RESOLVE_UNIX)),
            ("landlock.net.bind-udp-before-abi-10", lambda: calls.create_ruleset(0, NetAccess.BIND_UDP)),
            ("landlock.net.send-udp-before-abi-10", lambda: calls.create_ruleset(0, NetAccess.CONNECT_SEND_UDP)),
            ("landlock.rule.quiet-before-abi-10", quiet_rule),
            ("landlock.enforce.log-flags-before-abi-7", restrict_with(RestrictFlag.LOG_SAME_EXEC_OFF)),
            ("landlock.enforce.tsync-before-abi-8", restrict_with(RestrictFlag.TSYNC)),
            ("landlock.enforce.no-new-privs-before-abi-11", restrict_with(RestrictFlag.NO_NEW_PRIVS)),
        )
    ],
)
def test_unknown_to_an_older_abi(in_child: InChild, call: Callable[[], None], seen: Seen) -> None:
    """What an ABI does not have yet gives EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(call))) == errno.errorcode[errno.EINVAL]
