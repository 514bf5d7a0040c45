"""Addresses of listeners: parsed without touching the network, written back as they were.

    tcp://127.0.0.1:80    tcp4, tcp6, udp, udp4, udp6 likewise; an empty host is all addresses; [::1]:80 for IPv6
    unix:/run/x.sock      a stream; unixgram:, unixpacket: for the other kinds; unix:@name is an abstract name
    vsock://2:1024        CID and port; `any` for the CID

Host names are not looked up here: `listen` does that, once, and takes the first answer.

Sources: ip(7), ipv6(7), unix(7) (address format), vsock(7); Go's net.Listen for the 2014 names of protocols.
"""

from __future__ import annotations

import os
import socket
from typing import Final, NamedTuple

from kernelproof.impl.listenbuffer.errors import InvalidAddress

UNIX_PATH_MAX: Final = 107
"""Bytes of a path that fit into sun_path with its terminating NUL; of an abstract name, which has one before it."""

VSOCK_CID_ANY: Final = 0xFFFFFFFF

STREAMS: Final = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)


class Protocol(NamedTuple):
    """A word for a protocol: its family (None: by the host) and its type of socket."""

    family: int | None
    type: int


PROTOCOLS: Final[dict[str, Protocol]] = {
    "tcp": Protocol(None, socket.SOCK_STREAM),
    "tcp4": Protocol(socket.AF_INET, socket.SOCK_STREAM),
    "tcp6": Protocol(socket.AF_INET6, socket.SOCK_STREAM),
    "udp": Protocol(None, socket.SOCK_DGRAM),
    "udp4": Protocol(socket.AF_INET, socket.SOCK_DGRAM),
    "udp6": Protocol(socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": Protocol(socket.AF_UNIX, socket.SOCK_STREAM),
    "unixgram": Protocol(socket.AF_UNIX, socket.SOCK_DGRAM),
    "unixpacket": Protocol(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "vsock": Protocol(getattr(socket, "AF_VSOCK", None), socket.SOCK_STREAM),
}


class Address(NamedTuple):
    """Where to listen.

    Attributes:
        protocol: One of `PROTOCOLS`.
        host: For IP the host, empty for all addresses; for vsock the CID as text, empty for any.
        port: For IP and vsock the port, 0 for a free one; else 0.
        path: For unix sockets the path; an abstract name begins with a NUL; empty else.
    """

    protocol: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def type(self) -> int:
        """The type of socket, such as `SOCK_STREAM`."""
        return PROTOCOLS[self.protocol].type

    @property
    def is_stream(self) -> bool:
        """Whether connections are accepted, as against datagrams received."""
        return self.type in STREAMS

    @property
    def is_abstract(self) -> bool:
        """Whether it is a unix socket's name that is in no file system."""
        return self.path.startswith("\0")

    def __str__(self) -> str:
        if self.protocol.startswith("unix"):
            return f"{self.protocol}:{'@' + self.path[1:] if self.is_abstract else self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse an address in its one-text form.

    Raises:
        InvalidAddress: There is no protocol, or the rest does not fit it.
    """
    protocol, separator, rest = text.partition(":")
    if not separator:
        raise InvalidAddress(f"{text!r} begins with no protocol: write tcp://HOST:PORT, unix:/PATH, …")
    return make_address(protocol, rest.removeprefix("//") if not protocol.startswith("unix") else rest)


def make_address(protocol: str, rest: str) -> Address:
    """Make an address of a protocol and what 2014 called `addr`: `host:port`, or a path.

    Raises:
        InvalidAddress: The protocol is unknown, or the rest does not fit it.
    """
    if protocol not in PROTOCOLS:
        raise InvalidAddress(f"unknown protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    if protocol.startswith("unix"):
        return Address(protocol, path=_check_path(rest))
    host, port = _split_host(rest)
    if protocol == "vsock":
        if host not in ("", "any") and not (host.isascii() and host.isdigit()):
            raise InvalidAddress(f"{host!r} is no CID: write a number or any")
        return Address(protocol, "" if host == "any" else host, _check_port(port, 0xFFFFFFFF))
    return Address(protocol, host, _check_port(port, 65535))


def _check_path(path: str) -> str:
    name = "\0" + path[1:] if path.startswith("@") else path
    if len(name) < 2 and name in ("", "\0"):
        raise InvalidAddress("a unix socket needs a path, or @ and a name")
    if "\0" in name[1:]:
        raise InvalidAddress(f"{path!r} holds a NUL")
    if len(os.fsencode(name.removeprefix("\0"))) > UNIX_PATH_MAX:
        raise InvalidAddress(
            f"{path!r} is longer than the {UNIX_PATH_MAX} bytes of a unix socket's address: use a shorter "
            "directory or name, or a relative path"
        )
    return name


def _split_host(rest: str) -> tuple[str, str]:
    if rest in ("", ":"):
        return "", "0"
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise InvalidAddress(f"{rest!r}: write [IPV6]:PORT")
        return host, tail[1:] or "0"
    host, separator, port = rest.rpartition(":")
    if not separator:
        raise InvalidAddress(f"{rest!r} has no port: write HOST:PORT, with 0 for a free one")
    if ":" in host:
        raise InvalidAddress(f"{rest!r}: an IPv6 address stands in brackets, [{host}]:{port}")
    return host, port


def _check_port(text: str, highest: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= highest):
        raise InvalidAddress(f"{text!r} is no port: a number from 0 to {highest}")
    return int(text)


class Resolved(NamedTuple):
    """An address as the kernel takes it."""

    family: int
    sockaddr: tuple[object, ...] | str


def resolve(address: Address) -> Resolved:
    """Look a host up, if it is a name, and make what `bind` takes; the first answer counts.

    Raises:
        socket.gaierror: The name has no address of that family.
        InvalidAddress: This system has no such family.
    """
    protocol = PROTOCOLS[address.protocol]
    if address.path:
        return Resolved(socket.AF_UNIX, address.path)
    if address.protocol == "vsock":
        if protocol.family is None:
            raise InvalidAddress("this system has no vsock")
        return Resolved(protocol.family, (int(address.host or VSOCK_CID_ANY), address.port))
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    family = protocol.family or (0 if address.host else socket.AF_UNSPEC)
    answers = socket.getaddrinfo(address.host or None, address.port, family, protocol.type, 0, flags)
    if not address.host and protocol.family is None:
        # All addresses: one socket for both families, where the system has IPv6.
        answers.sort(key=lambda answer: answer[0] != socket.AF_INET6)
    return Resolved(answers[0][0], answers[0][4])


def describe(bound: socket.socket, protocol: str) -> Address:
    """Write down where a bound socket is, by the protocol's word."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return Address(protocol, path=path)
    return Address(protocol, str(name[0]), int(name[1]))


def protocol_of(bound: socket.socket) -> str | None:
    """The word for a socket's protocol; None for a family that is not ours."""
    if bound.family == socket.AF_UNIX:
        words = {socket.SOCK_STREAM: "unix", socket.SOCK_DGRAM: "unixgram", socket.SOCK_SEQPACKET: "unixpacket"}
        return words.get(socket.SocketKind(bound.type))
    if bound.family in (socket.AF_INET, socket.AF_INET6):
        return {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}.get(socket.SocketKind(bound.type))
    return "vsock" if bound.family == getattr(socket, "AF_VSOCK", None) else None
