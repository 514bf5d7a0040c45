"""Messages between processes of one machine, by name: unix sockets in the abstract namespace (unix(7))."""

import socket

SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h; Python has no name for it


def parse_name(name: str) -> bytes:
    """The abstract address of a name.

    Raises:
        ValueError: it is empty, or longer than an address has room for.
    """
    address = b"\0" + name.encode()
    if not 1 < len(address) <= 108:
        raise ValueError(f"{name!r}: from 1 to 107 bytes, please")
    return address


def open_hole(name: str) -> socket.socket:
    """A hole that messages are put into; the caller closes it.

    Raises:
        OSError: EADDRINUSE, somebody has that name.
    """
    hole = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        hole.bind(parse_name(name))
    except OSError:
        hole.close()
        raise
    return hole


def put(name: str, message: bytes) -> None:
    """Put a message into a hole.

    Raises:
        OSError: ECONNREFUSED, nobody has that name.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, parse_name(name))


def widen(hole: socket.socket, size_bytes: int, *, force: bool = False) -> None:
    """Let a hole keep more; with `force` also more than the system's limit, which takes CAP_NET_ADMIN.

    Raises:
        OSError: EPERM, `force` without the capability.
    """
    hole.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE if force else socket.SO_RCVBUF, size_bytes)


def cry(stream: socket.socket, byte: bytes) -> None:
    """Send a byte past those that wait in a stream.

    Raises:
        OSError: EOPNOTSUPP, the kernel's unix sockets can't.
    """
    stream.send(byte, socket.MSG_OOB)
