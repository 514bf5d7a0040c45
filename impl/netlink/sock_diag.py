"""Sockets as the kernel lists them: unix sockets by inode, IP sockets by family and protocol, with their queues.

What `ss` shows. A unix socket is asked for by its inode, in one exchange; lists are dumps. Sockets belong to a network
namespace, and only those of the connection's are seen. This is not for ending sockets (SOCK_DESTROY).

Source: sock_diag(7); include/uapi/linux/unix_diag.h, inet_diag.h.
"""

from socket import AF_INET, AF_INET6, AF_UNIX, inet_ntop, ntohs
from struct import Struct
from typing import Any, Final, NamedTuple

from kernelproof.impl.netlink.connection import Connection, Dump
from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.wire import U32, Message, number, open_message

SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
ALL_STATES: Final = 0xFFFFFFFF
ESTABLISHED, LISTEN = 1, 10  # include/net/tcp_states.h; of unix sockets too

_BY_FAMILY: Final = 20
_NO_COOKIE: Final = 0xFFFFFFFF
_SHOW_NAME, _SHOW_PEER, _SHOW_RQLEN = 0x1, 0x4, 0x10
_NAME, _PEER, _RQLEN = 0, 2, 4
_UNIX_REQUEST: Final = Struct("=BBHIIIII")
_UNIX: Final = Struct("=BBBBIII")
_INET_REQUEST: Final = Struct("=BBBBI48x")
_INET: Final = Struct("=BBBBHH16s16sIIIIIIII")
_QUEUE: Final = Struct("=II")


class Queue(NamedTuple):
    """What waits at a socket.

    Attributes:
        length: connections that wait to be accepted, for a listener; else bytes that wait to be read.
        limit: connections that may wait, for a listener; else bytes that wait to be sent.
    """

    length: int
    limit: int


class UnixSocket(NamedTuple):
    """A unix socket.

    Attributes:
        inode: its number, as fstat(2) of its descriptor gives it.
        type: SOCK_STREAM and so on.
        state: ESTABLISHED, LISTEN, or 7 for one that is neither.
        name: its path, or b"\\0" and an abstract name; None if it is bound to neither.
        peer: the inode of the socket that it is connected to; None without.
        queue: what waits at it; None if the kernel did not tell.
    """

    inode: int
    type: int
    state: int
    name: bytes | None
    peer: int | None
    queue: Queue | None


class InetSocket(NamedTuple):
    """An IP socket.

    Attributes:
        family: AF_INET or AF_INET6.
        state: one of include/net/tcp_states.h.
        address: its own, as text.
        port: its own.
        peer_address: as text; all zeros without peer.
        peer_port: 0 without peer.
        queue: what waits at it.
        uid: whose it is, in the caller's user namespace.
        inode: its number; 0 for one that no descriptor holds any more.
    """

    family: int
    state: int
    address: str
    port: int
    peer_address: str
    peer_port: int
    queue: Queue
    uid: int
    inode: int


def unix_request(inode: int = 0, states: int = ALL_STATES) -> Request:
    """Build the question for one unix socket, or with inode 0 the dump of those in some states (a mask)."""
    show = _SHOW_NAME | _SHOW_PEER | _SHOW_RQLEN
    header = _UNIX_REQUEST.pack(AF_UNIX, 0, 0, states, inode, show, _NO_COOKIE, _NO_COOKIE)
    return Request.of(_BY_FAMILY, 0, header, (), None, f"unix socket {inode or 'list'}")


def inet_request(family: int, protocol: int, states: int = ALL_STATES) -> Request:
    """Build the dump of a family's and a protocol's sockets (IPPROTO_TCP, IPPROTO_UDP …) in some states (a mask)."""
    header = _INET_REQUEST.pack(family, protocol, 0, 0, states)
    return Request.of(_BY_FAMILY, 0, header, (), None, f"sockets of family {family}, protocol {protocol}")


def parse_unix(message: Message) -> UnixSocket:
    """Return the socket of an answer.

    Raises:
        WireError: it is of another family or too short, or an attribute lies.
    """
    (family, kind, state, _, inode, _, _), found = open_message(message, _UNIX, "unix_diag_msg")
    if family != AF_UNIX:
        raise WireError(f"unix_diag_msg of family {family}")
    waiting = found.get(_RQLEN)
    if waiting is not None and len(waiting) != _QUEUE.size:
        raise WireError(f"UNIX_DIAG_RQLEN of {len(waiting)} bytes")
    return UnixSocket(
        inode,
        kind,
        state,
        _name(found.get(_NAME)),
        number(found[_PEER], U32, "UNIX_DIAG_PEER") if _PEER in found else None,
        None if waiting is None else Queue(*_QUEUE.unpack(waiting)),
    )


def _name(data: bytes | None) -> bytes | None:
    # A path comes without its NUL or with it, an abstract name begins with one.
    return data if data is None or data.startswith(b"\0") else data.rstrip(b"\0")


def parse_inet(message: Message) -> InetSocket:
    """Return the socket of an answer.

    Raises:
        WireError: it is of another family or too short.
    """
    fields: tuple[Any, ...] = open_message(message, _INET, "inet_diag_msg")[0]  # addresses are bytes
    family, state, _, _, port, peer_port, address, peer_address = fields[:8]
    length, limit, uid, inode = fields[12:]
    if family not in (AF_INET, AF_INET6):
        raise WireError(f"inet_diag_msg of family {family}")
    size = 4 if family == AF_INET else 16
    own, other = (inet_ntop(family, one[:size]) for one in (address, peer_address))
    return InetSocket(family, state, own, ntohs(port), other, ntohs(peer_port), Queue(length, limit), uid, inode)


def read_unix_socket(inode: int) -> UnixSocket:
    """Ask for one unix socket of the caller's network namespace.

    Raises:
        NetlinkError: ENOENT: there is none of that inode, or the kernel has no unix_diag.
        OSError: no netlink socket can be had (EPROTONOSUPPORT, EMFILE).
        WireError: the answer is none.
    """
    with Connection(SOCK_DIAG, strict=False, receive_buffer_bytes=65536) as connection:
        (message,) = connection.request(unix_request(inode)).messages
    return parse_unix(message)


def read_unix_sockets(connection: Connection, states: int = ALL_STATES) -> Dump[UnixSocket]:
    """List unix sockets in some states (a mask); the connection is one to SOCK_DIAG.

    Raises:
        NetlinkError, WireError: as Connection.dump.
    """
    return connection.dump(unix_request(0, states), parse_unix)


def read_inet_sockets(connection: Connection, family: int, protocol: int, states: int = ALL_STATES) -> Dump[InetSocket]:
    """List IP sockets of a family and a protocol in some states (a mask); the connection is one to SOCK_DIAG.

    Raises:
        NetlinkError: ENOENT: the kernel has no tcp_diag, udp_diag …; others, and WireError, as Connection.dump.
    """
    return connection.dump(inet_request(family, protocol, states), parse_inet)
