"""A netlink socket of the kernel's: opened, sized, read whole, woken.

Nothing here knows what a message means. The descriptor is close-on-exec, and owned by the object.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Final

from kernelproof.impl.netlink.netns import call_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelproof.impl.netlink.netns import Where

ROUTE: Final = 0  # NETLINK_ROUTE
GENERIC: Final = 16  # NETLINK_GENERIC

_AF_NETLINK: Final = 16
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP, _LISTEN_ALL_NSID, _CAP_ACK, _EXT_ACK, _STRICT = 1, 8, 10, 11, 12
_SO_RCVBUFFORCE: Final = 33
_LONGEST_POLL: Final = 2**31 - 1  # poll(2) takes an int of milliseconds: 24 days


class KernelSocket:
    """A socket to the kernel.

    Args:
        protocol: NETLINK_ROUTE unless told.
        netns: the network namespace it belongs to; None for the caller's.
        strict: have the kernel check dump requests and filter by them (NETLINK_GET_STRICT_CHK).
        receive_buffer_bytes: asked by force where CAP_NET_ADMIN allows, else up to net.core.rmem_max.
        groups: multicast groups to join, by number.
        extended: have the kernel explain refusals (NETLINK_EXT_ACK) and echo no more than headers (NETLINK_CAP_ACK).

    Raises:
        OSError: EPROTONOSUPPORT (the kernel lacks the protocol), EMFILE, ENFILE, EPERM (a group, or the namespace),
            ENOENT, ESRCH, EINVAL (the namespace).
    """

    def __init__(
        self,
        protocol: int = ROUTE,
        *,
        netns: Where | None = None,
        strict: bool = True,
        receive_buffer_bytes: int = 1 << 20,
        groups: Iterable[int] = (),
        extended: bool = True,
    ) -> None:
        if sys.platform != "linux":
            raise NotImplementedError("netlink exists on Linux only")
        self._socket = _open(protocol) if netns is None else call_in(netns, _open, protocol)
        self._waker = -1
        try:
            self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._set_options(strict, extended, receive_buffer_bytes)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except BaseException:
            self.close()
            raise
        self.port = int(self._socket.getsockname()[0])
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._poll.register(self._waker, select.POLLIN)

    def _set_options(self, strict: bool, extended: bool, size: int) -> None:
        if extended:
            for option in (_EXT_ACK, _CAP_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        if strict:
            self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def fileno(self) -> int:
        """The descriptor, for an event loop to watch."""
        return self._socket.fileno()

    def send(self, data: bytes) -> int:
        """Send a datagram to the kernel.

        Raises:
            OSError: EMSGSIZE (larger than the send buffer), ENOBUFS, EINTR never.
        """
        return self._socket.send(data)

    def receive(self) -> tuple[bytes, int]:
        """Return the next datagram whole, and the port ID of its sender (0 is the kernel).

        Raises:
            BlockingIOError: there is none now.
            OSError: ENOBUFS (datagrams were lost), EMSGSIZE (one came back shorter than the kernel had said).
        """
        size, _, _, _ = self._socket.recvmsg_into([], 0, socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT)
        data, _, flags, sender = self._socket.recvmsg(size or 1, 0, socket.MSG_DONTWAIT)
        if flags & socket.MSG_TRUNC:
            raise OSError(EMSGSIZE, f"a datagram of more than {size} bytes was cut")
        return data, int(sender[0])

    def wait(self, seconds: float | None) -> bool:
        """Wait for a datagram or for `wake`; return whether there may be one before the time is over."""
        if seconds is None:
            return bool(self._poll.poll(None))
        left = max(0.0, seconds * 1000 + 0.999)  # milliseconds; infinite ones stay so
        while True:
            step = int(min(left, _LONGEST_POLL))
            if self._poll.poll(step):
                return True
            left -= step
            if left < 1:
                return False

    def wake(self) -> None:
        """End all waiting, now and from now on."""
        os.eventfd_write(self._waker, 1)

    def close(self) -> None:
        """Give the descriptors back; nobody may wait meanwhile."""
        self._socket.close()
        if self._waker >= 0:
            os.close(self._waker)


def _open(protocol: int) -> socket.socket:
    return socket.socket(_AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
