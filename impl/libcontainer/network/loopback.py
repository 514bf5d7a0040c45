"""The loopback interface of a new network namespace: down when it is made.

By ioctl, as each start of a container comes here: the packages that speak netlink would be most of what it loads.

Source: netdevice(7), SIOCSIFFLAGS and SIOCSIFMTU.
"""

from __future__ import annotations

import _socket  # socket makes enums of its constants when it is imported: 5 ms
import fcntl
import struct

from kernelproof.impl.libcontainer.operations import Operation, Site

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU = 0x8913, 0x8914, 0x8922
_IFF_UP = 1
_NAME = b"lo"
_REQUEST = "=16sh22x"  # struct ifreq, 40 bytes
_REQUEST_MTU = "=16si20x"


class RaiseLoopback(Operation):
    """Sets lo up, and its MTU where one is given."""

    __slots__ = ("mtu",)
    stage = "init"
    mtu: int

    def describe(self) -> str:
        """What will happen."""
        return "set lo up" + (f", MTU {self.mtu}" if self.mtu else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: the network namespace belongs to another user namespace.
        """
        end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            if self.mtu:
                fcntl.ioctl(end.fileno(), _SIOCSIFMTU, struct.pack(_REQUEST_MTU, _NAME, self.mtu))
            answer = fcntl.ioctl(end.fileno(), _SIOCGIFFLAGS, struct.pack(_REQUEST, _NAME, 0))
            (flags,) = struct.unpack_from("=h", answer, 16)
            fcntl.ioctl(end.fileno(), _SIOCSIFFLAGS, struct.pack(_REQUEST, _NAME, flags | _IFF_UP))
        finally:
            end.close()
