"""Unix sockets: their files, their abstract names, and what one end does to the other."""

from __future__ import annotations

import os
import signal
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import PATIENCE_SECONDS, SYSCTL, unix_rows
from kernelproof.impl.listenbuffer import Address, Gate, GatedListener, InvalidAddress, listen, parse_address
from kernelproof.impl.listenbuffer.listening import Choices, bind, who_listens_at
from kernelproof.impl.listenbuffer.probes import make_probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the test's socket lies; its directory is open to all."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    return str(tmp_path / "socket")


def connect_to(address: str) -> None:
    """Connect a plain stream socket, and no more."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(address)


def leave_behind(path: str) -> None:
    """Listen at a path, and go without removing its file."""
    with listen(f"unix:{path}") as listener:
        connect_to(path)
        listener.release()


@behaviour("socket.unix.umask-mode")
def test_the_file_has_what_the_umask_leaves(path: str, in_child: InChild, seen: Seen) -> None:
    """Under umask 0027 the socket's file has mode 0750; `mode` gives it another one."""

    def listen_under_umask() -> list[str]:
        os.umask(0o027)
        modes = []
        for mode in (None, 0o600):
            with listen(f"unix:{path}", mode=mode):
                modes.append(stat.filemode(os.stat(path).st_mode))
        return modes

    assert seen(in_child(listen_under_umask)) == ["srwxr-x---", "srw-------"]


@behaviour("socket.unix.stale-path")
def test_a_path_outlives_its_socket(path: str, seen: Seen) -> None:
    """After the last close of a listener that gave its file away the file is there, and connect gives ECONNREFUSED."""
    leave_behind(path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert unix_rows(path) == []
    assert who_listens_at(path, socket.SOCK_STREAM) is None
    assert seen.errno_of(connect_to, path) == "ECONNREFUSED"


@behaviour("socket.unix.stale-path-bind")
def test_a_path_that_was_left_behind_is_taken(path: str, seen: Seen) -> None:
    """bind to a path that an earlier socket left gives EADDRINUSE; `listen` replaces it only if nobody answers."""
    leave_behind(path)
    with pytest.raises(OSError, match="Address already in use") as used:
        listen(f"unix:{path}", unlink_stale=False)
    assert "nobody listens there any more" in used.value.__notes__[0]
    with socket.socket(socket.AF_UNIX) as plain:
        refused = seen.errno_of(plain.bind, path)
    with listen(f"unix:{path}"):
        connect_to(path)
        assert ("0001", True) in unix_rows(f"{path}.{os.getpid()}")  # bound under that name, and renamed
    assert refused == "EADDRINUSE"


@behaviour("socket.unix.path-missing")
def test_a_path_that_is_not_there(path: str, seen: Seen) -> None:
    """connect to a path that does not exist gives ENOENT; `who_listens_at` says nobody, `listen` makes it."""
    assert who_listens_at(path, socket.SOCK_STREAM) is None
    answers = [seen.errno_of(connect_to, path)]
    with listen(f"unix:{path}"):
        answers.append(seen.errno_of(connect_to, path))
    answers.append(seen.errno_of(connect_to, path))
    assert seen(answers) == ["ENOENT", "no error", "ENOENT"]


@behaviour("socket.unix.path-not-a-socket")
def test_a_file_is_not_a_socket(path: str, seen: Seen) -> None:
    """connect to a regular file gives ECONNREFUSED, as to a dead socket; `listen` tells them apart, and leaves it."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("precious")
    with pytest.raises(OSError, match="Address already in use") as used:
        listen(f"unix:{path}")
    assert "is no socket: it is left alone" in used.value.__notes__[0]
    with open(path, encoding="utf-8") as file:
        assert file.read() == "precious"
    assert seen.errno_of(connect_to, path) == "ECONNREFUSED"


@behaviour("socket.unix.write-permission")
def test_connecting_needs_write_permission(path: str, listening: Listen, in_child: InChild, seen: Seen) -> None:
    """Without write permission on the socket's file connect gives EACCES, whatever else its mode allows."""
    answers = []
    for mode in (0o755, 0o702):
        listener = listening(f"unix:{path}", mode=mode)
        answers.append(in_child(as_nobody(lambda: seen.errno_of(connect_to, path))))
        listener.close()
    assert seen(answers) == ["EACCES", "no error"]


def as_nobody(ask: Callable[[], str]) -> Callable[[], str]:
    """What a child asks without privileges."""

    def child() -> str:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return ask()

    return child


@behaviour("socket.unix.search-permission")
def test_binding_needs_a_directory_to_write_to(path: str, in_child: InChild, seen: Seen) -> None:
    """In a directory that the caller may not write `listen` gives EACCES, and leaves nothing."""
    refused = in_child(as_nobody(lambda: seen.errno_of(lambda: listen(f"unix:{path}").close())))
    assert os.listdir(os.path.dirname(path)) == []
    assert seen(refused) == "EACCES"


@behaviour("socket.unix.path-length")
def test_a_path_fits_or_does_not(tmp_path: Path, seen: Seen) -> None:
    """107 bytes fit, and the name is whole; more is refused before the kernel is asked."""
    os.chdir(tmp_path)
    longest = "x" * 107
    with listen(f"unix:{longest}") as listener:
        assert unix_rows(longest) == [("0001", True)]
        assert listener.getsockname() == longest
        connect_to(longest)
    with pytest.raises(InvalidAddress, match="longer than the 107 bytes"):
        listen(f"unix:{longest}y")
    assert seen([len(name) for name in (longest,) if os.path.lexists(longest)]) == []


@behaviour("socket.unix.abstract-bytes")
def test_abstract_names_have_a_length(listening: Listen, seen: Seen) -> None:
    """A name and the same with a NUL behind it are two: both can be listened at, and each has its own clients."""
    short, long = listening("unix:@n"), listening(Address("unix", path="\0n\0"))
    for address in (b"\0n", b"\0n\0", b"\0n\0"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
    assert ("0001", True) in unix_rows("@n")
    assert [short.getsockname(), long.getsockname()] == [b"\0n", b"\0n\0"]
    with pytest.raises(InvalidAddress, match="holds a NUL"):
        parse_address("unix:@n\0")
    assert seen([short.pending(), long.pending()]) == [1, 2]


@behaviour("socket.unix.abstract-vanishes")
def test_an_abstract_name_goes_with_its_socket(listening: Listen, seen: Seen) -> None:
    """An abstract name is taken as long as any descriptor is open, and free with the last close."""
    first = listening("unix:@gone")
    duplicate = first.dup()
    answers = []
    first.close()
    answers.append(seen.errno_of(listening, "unix:@gone"))
    duplicate.close()
    assert unix_rows("@gone") == []
    answers.append(seen.errno_of(listening, "unix:@gone"))
    assert seen(answers) == ["EADDRINUSE", "no error"]


@behaviour("socket.unix.abstract-no-permissions")
def test_abstract_names_have_no_permissions(in_child: InChild, listening: Listen, seen: Seen) -> None:
    """Neither a umask nor a mode keeps another user from connecting to an abstract name."""
    before = os.umask(0o777)
    listener = listening("unix:@open", mode=0o000)
    os.umask(before)
    answer = in_child(as_nobody(lambda: seen.errno_of(connect_to, "\0open")))
    assert listener.pending() == 1
    assert seen(answer) == "no error"


@behaviour("socket.unix.autobind")
def test_a_name_is_found_when_none_is_given(listening: Listen, seen: Seen) -> None:
    """A probe of a unix listener gets an abstract name of five hexadecimal digits, and is seen under it."""
    listener = listening("unix:@target")
    with make_probe(listener) as probe:
        name = probe.getsockname()
        probe.connect("\0target")
        accepted, peer = listener.accept()
        accepted.close()
        assert peer == name
        assert unix_rows("@" + name[1:].decode()) == [("0001", False)]
    digits = all(digit in b"0123456789abcdef" for digit in name[1:])
    assert seen([name[:1] == b"\0", len(name), digits]) == [True, 6, True]


@behaviour("socket.unix.type-mismatch")
def test_a_stream_does_not_connect_to_datagrams(path: str, listening: Listen, seen: Seen) -> None:
    """connect of a stream socket to the path of a datagram socket gives EPROTOTYPE, which `listen` tells."""
    listening(f"unixgram:{path}")
    assert who_listens_at(path, socket.SOCK_STREAM) == "a socket of another type"
    with pytest.raises(OSError, match="Address already in use") as used:
        listen(f"unix:{path}")
    assert "in use by a socket of another type" in used.value.__notes__[0]
    assert seen.errno_of(connect_to, path) == "EPROTOTYPE"


@behaviour("socket.unix.dgram-queue-limit")
def test_a_datagram_queue_is_full(path: str, listening: Listen, seen: Seen) -> None:
    """With max_dgram_qlen 5 datagrams that nobody reads give EAGAIN once as many are queued, give or take one."""
    (SYSCTL / "unix/max_dgram_qlen").write_text("5")
    receiver = listening(f"unixgram:{path}", is_open=False)
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        while seen.errno_of(sender.sendto, b"x", path) == "no error":
            sent += 1
            assert sent < 100
        assert seen.last == "EAGAIN"
        receiver.activate()
        assert [receiver.recv(10) for _ in range(sent)] == [b"x"] * sent
        assert seen.errno_of(sender.sendto, b"x", path) == "no error"
    assert seen(sent in (5, 6))


@behaviour("socket.unix.close-with-unread-data")
def test_unread_data_make_a_reset(listening: Listen, client: Client, seen: Seen) -> None:
    """If one end closes before it has read everything, recv on the other gives ECONNRESET; else the end of file."""
    listener = listening("unix:@unread")
    answers = []
    for unread in (b"x", b""):
        connected = client(listener)
        connected.sendall(unread)
        accepted, _ = listener.accept()
        accepted.close()
        answers.append(seen.errno_of(connected.recv, 1))
    assert seen(answers) == ["ECONNRESET", "no error"]


@behaviour("socket.unix.epipe")
def test_writing_to_nobody(listening: Listen, client: Client, in_child: InChild, seen: Seen) -> None:
    """send to a closed peer gives EPIPE; it raises SIGPIPE too, but for MSG_NOSIGNAL."""
    listener = listening("unix:@pipe")
    client(listener).close()
    accepted, _ = listener.accept()

    def write() -> list[object]:
        signals: list[int] = []
        signal.signal(signal.SIGPIPE, lambda number, _: signals.append(number))
        quiet = seen.errno_of(accepted.send, b"x", socket.MSG_NOSIGNAL)
        before = len(signals)
        loud = seen.errno_of(accepted.send, b"x")
        return [quiet, before, loud, len(signals)]

    with accepted:
        assert seen(in_child(write)) == ["EPIPE", 0, "EPIPE", 1]


@behaviour("socket.shutdown.not-connected")
def test_shutdown_needs_a_connection(seen: Seen) -> None:
    """shutdown on a bound TCP socket, and on a unix one, that has no peer gives ENOTCONN."""
    answers = []
    for address in (Address("tcp4", "127.0.0.1", 0), Address("unix", path="\0unconnected")):
        bound, _ = bind(address, Choices())
        with bound:
            answers.append(seen.errno_of(bound.shutdown, socket.SHUT_RDWR))
    assert seen(answers) == ["ENOTCONN", "ENOTCONN"]


@behaviour("socket.shutdown.bad-how")
def test_there_are_three_ways_to_shut(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """shutdown of an accepted connection in a way other than 0, 1 and 2 gives EINVAL."""
    client(tcp)
    accepted, _ = tcp.accept()
    with accepted:
        answers = [seen.errno_of(accepted.shutdown, how) for how in (-1, 3, 100, 2)]
    assert seen(answers) == ["EINVAL", "EINVAL", "EINVAL", "no error"]


@behaviour("socket.shutdown.half-close")
def test_one_way_is_shut(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """After SHUT_WR of an accepted connection the peer reads the end and can still send; sending gives EPIPE."""
    connected = client(tcp)
    accepted, _ = tcp.accept()
    with accepted:
        accepted.settimeout(PATIENCE_SECONDS)
        accepted.shutdown(socket.SHUT_WR)
        assert connected.recv(1) == b""
        connected.sendall(b"still")
        assert accepted.recv(5) == b"still"
        assert seen.errno_of(accepted.send, b"x", socket.MSG_NOSIGNAL) == "EPIPE"


@behaviour("socket.shutdown.recv-not-connected")
def test_nothing_is_received_without_a_peer(tcp: GatedListener, seen: Seen) -> None:
    """recv on a listener and on a bound TCP socket gives ENOTCONN."""
    bound, _ = bind(Address("tcp4", "127.0.0.1", 0), Choices())
    with bound:
        answers = [seen.errno_of(tcp.recv, 1), seen.errno_of(bound.recv, 1)]
    assert seen(answers) == ["ENOTCONN", "ENOTCONN"]


@behaviour("socket.shutdown.getpeername-not-connected")
def test_without_a_peer_there_is_no_name(tcp: GatedListener, seen: Seen) -> None:
    """getpeername on a listener and on a bound TCP socket gives ENOTCONN."""
    bound, _ = bind(Address("tcp4", "127.0.0.1", 0), Choices())
    with bound:
        answers = [seen.errno_of(tcp.getpeername), seen.errno_of(bound.getpeername)]
    assert seen(answers) == ["ENOTCONN", "ENOTCONN"]


@behaviour("socket.shutdown.send-not-connected")
def test_nothing_is_sent_without_a_peer(tcp: GatedListener, seen: Seen) -> None:
    """send on a listener and on a bound TCP socket gives EPIPE or ENOTCONN."""
    bound, _ = bind(Address("tcp4", "127.0.0.1", 0), Choices())
    with bound, GatedListener.adopt(bound, Gate(is_open=True)) as adopted:
        answers = {seen.errno_of(one.send, b"x", socket.MSG_NOSIGNAL) for one in (tcp, adopted)}
    assert seen(answers <= {"EPIPE", "ENOTCONN"})
