"""What the kernel holds for a listener: how many wait, how many may, how many were dropped.

- TCP: TCP_INFO of a listening socket has the length of the accept queue where other sockets have unacknowledged
  segments, and its limit where they have selective acknowledgements.
- unix: sock_diag's UNIX_DIAG_RQLEN; asked through a netlink socket of the standard library.
- datagrams: SO_MEMINFO has the bytes in the receive buffer, its size, and the number dropped.

Sources: tcp(7), TCP_INFO; sock_diag(7), UNIX_DIAG_RQLEN; listen(2), NOTES (somaxconn); linux/sock_diag.h, SK_MEMINFO.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct(
    "9I"
)  # RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF, FWD_ALLOC, WMEM_QUEUED, OPTMEM, BACKLOG, DROPS
_TCP_QUEUE: Final = struct.Struct("24xII")  # 8 bytes, 4 words, then tcpi_unacked and tcpi_sacked

NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_HEADER: Final = struct.Struct("=IHHII")
_UNIX_REQUEST: Final = struct.Struct("=BBHIIIII")
_UNIX_ANSWER: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4

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
    if listener.family == socket.AF_UNIX:
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
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _UDIAG_SHOW_RQLEN, 0xFFFFFFFF, 0xFFFFFFFF)
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG) as connection:
        connection.send(header + request)
        answer = connection.recv(8192)
    return parse_unix_answer(answer)


def parse_unix_answer(answer: bytes) -> Queue | None:
    """Read the queue in sock_diag's answer for one unix socket; None if it holds none."""
    if len(answer) < _HEADER.size:
        return None
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR or length > len(answer):
        return None
    position = _HEADER.size + _UNIX_ANSWER.size
    while position + _ATTRIBUTE.size <= length:
        size, attribute = _ATTRIBUTE.unpack_from(answer, position)
        if size < _ATTRIBUTE.size or position + size > length:
            return None
        if attribute == _UNIX_DIAG_RQLEN and size >= _ATTRIBUTE.size + 8:
            return Queue(*struct.unpack_from("=II", answer, position + _ATTRIBUTE.size))
        position += (size + 3) & ~3
    return None
