"""Dumps that are read in part: streams, and what else their connection does meanwhile; against the real kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from kernelproof.impl.netlink import addresses
from kernelproof.impl.netlink.connection import Connection, Dump
from kernelproof.impl.netlink.endpoint import KernelSocket
from kernelproof.impl.netlink.errors import ClosedError
from kernelproof.impl.netlink.links import get_link
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.sock_diag import unix_request

MANY = 2000  # addresses of lo: a dump of several datagrams


@pytest.fixture
def net(namespace: int) -> Iterator[Rtnl]:
    """A namespace with so many addresses and routes that no datagram has them all."""
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        net.batch([addresses.add_address(1, f"10.{each >> 8}.{each & 255}.1/24") for each in range(MANY)])
        yield net


def done_in_time(work: Callable[[], object]) -> bool:
    """Whether a function returns; a thread that hangs is left behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


ELSE = {
    "request": lambda net: net.link(1),
    "batch": lambda net: net.batch([get_link(1)]),
    "dump": lambda net: net.links(),
    "stream": lambda net: next(net.routes_stream()),
}


@pytest.mark.parametrize("other", ELSE)
def test_a_stream_refuses_what_else_is_asked(net: Rtnl, other: str) -> None:
    """Whoever asks something else of a connection while a stream is read is told what to do, and does not wait."""
    stream = net.routes_stream()
    first = next(stream)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            ELSE[other](net)
        except RuntimeError as error:
            errors.append(error)

    assert done_in_time(ask)
    assert "list routes" in str(errors[0])
    assert "close() it first" in str(errors[0])
    assert len([first, *stream]) >= MANY  # the refusal took nothing from it
    ELSE[other](net)


def test_a_stream_that_was_left_is_over(net: Rtnl) -> None:
    """A connection whose stream was closed before its end lists everything to whoever asks next."""
    for _ in range(3):
        stream = net.routes_stream()
        next(stream)
        stream.close()
        assert len(net.addresses()) >= MANY


@pytest.mark.rule("N7")
def test_a_connection_is_closed_under_a_stream(net: Rtnl) -> None:
    """Closing does not wait for the reader of a stream, who is told so when he reads on."""
    stream = net.routes_stream()
    next(stream)
    assert done_in_time(net.close)
    with pytest.raises(ClosedError):
        list(stream)
    with pytest.raises(ClosedError):
        net.links()


@pytest.mark.rule("N7")
def test_a_block_ends_with_a_stream_in_it(namespace: int) -> None:
    """The end of a with statement closes the connection though a stream in it is not at its end."""

    def work() -> None:
        with Rtnl(namespace) as net:
            net.link_set("lo", up=True)
            stream = net.routes_stream()
            next(stream)

    assert done_in_time(work)


def test_a_record_that_cannot_be_made_ends_the_dump(net: Rtnl) -> None:
    """A function that raises is heard, and the next dump is not EBUSY."""

    def refuse(message: object) -> None:
        raise ZeroDivisionError

    request = addresses.list_addresses()
    with pytest.raises(ZeroDivisionError):
        net.connection.dump(request, refuse)
    assert len(net.addresses()) >= MANY
    with pytest.raises(ZeroDivisionError):
        list(net.connection.stream(request, refuse))
    assert len(net.addresses()) >= MANY


class Interrupted(KernelSocket):
    """A socket over which Ctrl-C comes between two datagrams of a dump."""

    reads = 0

    def receive(self) -> tuple[bytes, int]:
        self.reads += 1
        if self.reads == 2:
            raise KeyboardInterrupt
        return super().receive()


def test_a_dump_that_ctrl_c_ends_is_over(net: Rtnl, namespace: int) -> None:
    """After a KeyboardInterrupt in the middle of a dump the connection lists as before."""
    with Connection(socket=Interrupted(netns=namespace)) as connection, Rtnl(connection=connection) as other:
        with pytest.raises(KeyboardInterrupt):
            other.addresses()
        assert other.addresses() == net.addresses()


@pytest.mark.rule("N+4")
def test_lists_that_are_sorted_out_say_whether_they_are_consistent(namespace: int) -> None:
    """Disciplines of one link, and VLANs by ifindex, tell of their dump as other lists do."""
    with Rtnl(namespace) as net:
        for found in (net.qdiscs(), net.qdiscs("lo"), net.vlans()):
            assert (found.consistent, found.retries) == (True, 0)
            assert found.filtered in {True, False}
        assert len(net.qdiscs("lo", invisible=True)) <= len(net.qdiscs(invisible=True))
    some = Dump.of(range(5), consistent=True, retries=2, filtered=True).where(lambda number: number > 2)
    assert (some, some.consistent, some.retries, some.filtered) == ((3, 4), True, 2, True)


def test_a_dump_of_sockets_is_no_request() -> None:
    """Where types are not those of rtnetlink, the flags alone say that a request is a dump; it is refused at once."""
    with Connection(4, strict=False, timeout_seconds=20) as connection, pytest.raises(ValueError, match=r"by dump\(\)"):
        connection.request(unix_request()._replace(flags=0x300))
