"""The console socket: a container's runtime hands the master of its terminal to whoever shows it.

One message on a unix stream socket: the name of the terminal as bytes, and with it exactly one descriptor, the master.

    send_master(connection, pair.master, "/dev/pts/0")
    master, name = receive_master(connection)

What comes is not trusted: it must be one descriptor, of a master, with a short name. Everything else is closed.

Source: runc, docs/terminals.md, Detached; the message of libcontainer's utils.SendFile.
"""

from __future__ import annotations

import array
import os
import socket

from kernelproof.impl.term import linux
from kernelproof.impl.term.calls import IS_LINUX
from kernelproof.impl.term.errors import ConsoleSocketError, NotPseudoterminalError

NAME_LIMIT = 4096  # bytes


def send_master(connection: socket.socket, master: int, name: str) -> None:
    """Send a master with its name; the descriptor stays the caller's.

    Raises:
        ConsoleSocketError: the name is empty, holds a NUL byte, or has more than 4096 bytes.
        OSError: what sendmsg(2) gives.
    """
    data = os.fsencode(name)
    if not data or b"\0" in data or len(data) > NAME_LIMIT:
        raise ConsoleSocketError(f"the name of a terminal has 1 to {NAME_LIMIT} bytes and no NUL, not {data[:80]!r}")
    rights = array.array("i", [master])
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    if sent < len(data):
        connection.sendall(data[sent:])


def receive_master(connection: socket.socket) -> tuple[int, str]:
    """Receive a master and its name; the descriptor, close-on-exec, is the caller's to close.

    Raises:
        ConsoleSocketError: the message has no descriptor, several, one that is no master, or no proper name.
        OSError: what recvmsg(2) gives; TimeoutError if the socket has a timeout.
    """
    # Room for some: too many are to be seen and closed, not to be lost.
    room = socket.CMSG_SPACE(16 * array.array("i").itemsize)
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    data, ancillary, message_flags, _ = connection.recvmsg(NAME_LIMIT + 1, room, flags)
    descriptors = _descriptors(ancillary)
    try:
        _check(data, descriptors, message_flags)
        (master,) = descriptors
        os.set_inheritable(master, False)
        if IS_LINUX:
            _check_master(master)
    except BaseException:
        for fd in descriptors:
            os.close(fd)
        raise
    return master, os.fsdecode(data)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _check(data: bytes, descriptors: list[int], flags: int) -> None:
    if flags & socket.MSG_CTRUNC or len(descriptors) > 1:
        raise ConsoleSocketError("a console socket carries one descriptor, not several")
    if not descriptors:
        raise ConsoleSocketError("no descriptor came over the console socket" if data else "the other side closed it")
    if not data or b"\0" in data or len(data) > NAME_LIMIT:
        raise ConsoleSocketError(f"the name of a terminal has 1 to {NAME_LIMIT} bytes and no NUL")


def _check_master(master: int) -> None:
    try:
        linux.check_multiplexer(master)
        linux.pseudoterminal_number(master)
    except (NotPseudoterminalError, OSError) as error:
        raise ConsoleSocketError(f"what came over the console socket is no master: {error}") from error
