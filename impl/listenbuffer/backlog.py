"""What the kernel holds for a listener: how many wait, how many may, how many were dropped.

- TCP: TCP_INFO of a listening socket has the length of the accept queue where other sockets have unacknowledged
  segments, and its limit where they have selective acknowledgements.
- unix: sock_diag's UNIX_DIAG_RQLEN, asked through impl.netlink.
- datagrams: SO_MEMINFO has the bytes in the receive buffer, its size, and the number dropped.

Sources: tcp(7), TCP_INFO; sock_diag(7), UNIX_DIAG_RQLEN; listen(2), NOTES (somaxconn); linux/sock_diag.h, SK_MEMINFO.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Final, NamedTuple

SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct(
    "9I"
)  # RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF, FWD_ALLOC, WMEM_QUEUED, OPTMEM, BACKLOG, DROPS
_TCP_QUEUE: Final = struct.Struct("24xII")  # 8 bytes, 4 words, then tcpi_unacked and tcpi_sacked

SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"


class Queue(NamedTuple):
    """The queue of a listener.

    Attributes:
        length: Connections that wait; for datagrams the bytes in the receive buffer.
        limit: How many may wait; for datagrams the size of the buffer in bytes.
    """

    length: int
    limit: int


def read_somaxconn(path: str | os.PathLike[str] = SOMAXCONN) -> int | None:
    """Read the kernel's bound on backlogs; None where there is none such.

    Raises:
        ValueError: The file holds no number.
    """
    try:
        return int(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def effective_backlog(asked: int, somaxconn: int | None) -> int:
    """Tell what is left of a backlog: the kernel cuts it to its bound without a word."""
    return asked if somaxconn is None else min(asked, somaxconn)


def read_queue(listener: socket.socket) -> Queue | None:
    """Ask the kernel for the queue of a listener; None where it cannot tell.

    Raises:
        OSError: The socket is closed (EBADF).
    """
    if listener.type == socket.SOCK_DGRAM:
        memory = _read_memory(listener)
        return None if memory is None else Queue(memory[0], memory[1])
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_QUEUE.size)
        return Queue(*_TCP_QUEUE.unpack(information)) if len(information) == _TCP_QUEUE.size else None
    if listener.family == socket.AF_UNIX and sys.platform == "linux":
        return _read_unix_queue(os.fstat(socket.socket.fileno(listener)).st_ino)
    return None


def read_dropped(listener: socket.socket) -> int | None:
    """Ask the kernel how many connections or datagrams it has dropped at a socket; None where it cannot tell.

    Raises:
        OSError: The socket is closed (EBADF).
    """
    memory = _read_memory(listener)
    return None if memory is None else memory[8]


def _read_memory(listener: socket.socket) -> tuple[int, ...] | None:
    try:
        answer = listener.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
    except OSError:
        if socket.socket.fileno(listener) < 0:
            raise
        return None  # before Linux 4.12, or not Linux
    return _MEMINFO.unpack(answer) if len(answer) == _MEMINFO.size else None


def _read_unix_queue(inode: int) -> Queue | None:
    # Netlink is loaded when such a queue is first asked: it takes longer to load than all of this package.
    from kernelproof.impl.netlink.sock_diag import read_unix_socket

    try:
        found = read_unix_socket(inode)
    except OSError:
        return None  # a kernel without unix_diag, or without netlink
    return None if found.queue is None else Queue(*found.queue)
