"""The console socket: one master and its name, and nothing else."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from kernelproof.impl.term import ConsoleSocketError, PseudoterminalPair, WindowSize, receive_master, send_master


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with one, two:
        two.settimeout(30)
        yield one, two


def test_master_arrives_with_its_name(sockets: tuple[socket.socket, socket.socket]) -> None:
    """The descriptor that arrives is the same master, close-on-exec, and the name is the one sent."""
    with PseudoterminalPair.open(WindowSize(7, 9)) as pair:
        send_master(sockets[0], pair.master, "/dev/pts/0")
        master, name = receive_master(sockets[1])
        assert name == "/dev/pts/0"
        assert master != pair.master
        assert os.path.sameopenfile(master, pair.master)
        assert not os.get_inheritable(master)
        peer = pair.peer()
        os.write(peer, b"x")
        assert os.read(master, 10) == b"x"
        os.close(peer)
        os.close(master)


def test_longest_name(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A name of 4096 bytes arrives, one of more is not sent."""
    with PseudoterminalPair.open() as pair:
        send_master(sockets[0], pair.master, "x" * 4096)
        master, name = receive_master(sockets[1])
        os.close(master)
        assert name == "x" * 4096
        for bad in ("x" * 4097, "", "a\0b"):
            with pytest.raises(ConsoleSocketError, match="1 to 4096 bytes"):
                send_master(sockets[0], pair.master, bad)


def test_what_is_refused(sockets: tuple[socket.socket, socket.socket]) -> None:
    """No descriptor, several, one that is no master, and a bad name are refused, and all that came is closed."""
    one, two = sockets
    with PseudoterminalPair.open() as pair:
        peer = pair.peer()
        cases = [
            (b"/dev/pts/0", [], "no descriptor came"),
            (b"/dev/pts/0", [pair.master, pair.master], "one descriptor, not several"),
            (b"/dev/pts/0", [pair.master] * 40, "one descriptor, not several"),
            (b"/dev/pts/0", [peer], "is no master"),
            (b"/dev/pts/0", [0], "is no master"),
            (b"a\0b", [pair.master], "1 to 4096 bytes"),
            (b"x" * 4097, [pair.master], "1 to 4096 bytes"),
        ]
        before = os.listdir("/dev/fd")
        for data, descriptors, reason in cases:
            one.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
            with pytest.raises(ConsoleSocketError, match=reason):
                receive_master(two)
            assert os.listdir("/dev/fd") == before
        os.close(peer)


def test_closed_by_the_other_side(sockets: tuple[socket.socket, socket.socket]) -> None:
    """A connection that ends without a message is an error that says so."""
    sockets[0].close()
    with pytest.raises(ConsoleSocketError, match="the other side closed it"):
        receive_master(sockets[1])
