"""Listeners of a test: impl.listenbuffer acts; clients of the standard library, /proc/net and sock_diag observe."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from pyroute2.netlink.diag import UDIAG_SHOW_RQLEN, DiagSocket

from kernelproof.impl.listenbuffer import Gate, GatedListener, listen
from kernelproof.impl.listenbuffer.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSCTL = Path("/proc/sys/net")
PATIENCE_SECONDS = 30.0
EOPNOTSUPP = "ENOTSUP"  # Python's first name for the number, which has two on Linux (errno(3))
# include/net/tcp_states.h
ESTABLISHED, SYN_SENT, SYN_RECV, TIME_WAIT, CLOSE_WAIT, LISTEN = "01", "02", "03", "06", "08", "0A"
# struct tcp_info (linux/tcp.h): 8 bytes, then 32-bit words; a listener's queue and its limit are the fifth and sixth.
_QUEUE = struct.Struct("=8x16xII")


class Listen(Protocol):
    def __call__(self, address: str | Address, *, is_open: bool = True, **choices: Any) -> GatedListener: ...


class Client(Protocol):
    def __call__(self, listener: socket.socket, *, timeout_seconds: float = PATIENCE_SECONDS) -> socket.socket: ...


@pytest.fixture
def listening() -> Iterator[Listen]:
    """Listen through impl, with the gate open unless told; closed after the test."""
    made: list[GatedListener] = []

    def one(address: str | Address, *, is_open: bool = True, **choices: Any) -> GatedListener:
        made.append(listen(address, gate=Gate(is_open=is_open), **choices))
        made[-1].settimeout(PATIENCE_SECONDS)
        return made[-1]

    yield one
    for listener in made:
        listener.close()


@pytest.fixture
def tcp(listening: Listen) -> GatedListener:
    """A TCP listener on the loopback address, its gate open."""
    return listening("tcp://127.0.0.1:0")


@pytest.fixture
def client() -> Iterator[Client]:
    """Connect plain sockets to a listener."""
    made: list[socket.socket] = []

    def one(listener: socket.socket, *, timeout_seconds: float = PATIENCE_SECONDS) -> socket.socket:
        made.append(socket.socket(listener.family, listener.type))
        made[-1].settimeout(timeout_seconds)
        made[-1].connect(listener.getsockname())
        return made[-1]

    yield one
    for connected in made:
        connected.close()


def port_of(bound: socket.socket) -> int:
    """The port that a socket is bound to."""
    return int(bound.getsockname()[1])


def states_of_port(port: int, *tables: str) -> list[str]:
    """The states of the sockets that have the port at one of their two ends, by /proc/net."""
    states = []
    for table in tables or ("tcp",):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if port in (int(local.rsplit(":", 1)[1], 16), int(remote.rsplit(":", 1)[1], 16)):
                states.append(state)
    return sorted(states)


def queue_by_tcp_info(listener: socket.socket) -> tuple[int, int]:
    """How many wait at a TCP listener and how many may, by TCP_INFO."""
    length, limit = _QUEUE.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size))
    return length, limit


def queue_by_sock_diag(inode: int) -> tuple[int, int]:
    """How many wait at a unix listener and how many may, by sock_diag as pyroute2 asks it."""
    with DiagSocket() as diag:
        diag.bind()
        (found,) = [
            one for one in diag.get_sock_stats(family=socket.AF_UNIX, show=UDIAG_SHOW_RQLEN)
            if one["udiag_ino"] == inode
        ]  # fmt: skip
    queue = found.get_attr("UNIX_DIAG_RQLEN")
    return int(queue["udiag_rqueue"]), int(queue["udiag_wqueue"])


def unix_rows(name: str) -> list[tuple[str, bool]]:
    """Type and whether it listens, of each unix socket of a name ("@" for the NUL of an abstract one), by /proc."""
    rows = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == name:
            rows.append((fields[4], fields[3] == "00010000"))
    return sorted(rows)
