"""Requests of netdevice(7): ioctl(2) with a struct ifreq."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFNAME, SIOCGIFCONF = 0x8910, 0x8912
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCGIFADDR, SIOCSIFADDR = 0x8915, 0x8916
SIOCGIFMETRIC, SIOCSIFMETRIC = 0x891D, 0x891E
SIOCGIFMTU, SIOCSIFMTU = 0x8921, 0x8922
SIOCSIFNAME, SIOCSIFHWADDR, SIOCGIFHWADDR = 0x8923, 0x8924, 0x8927
SIOCGIFTXQLEN, SIOCSIFTXQLEN = 0x8942, 0x8943

_IFREQ_BYTES = 40


def ifreq(name: str, data: bytes = b"") -> bytes:
    """Return a struct ifreq."""
    return name.encode().ljust(16, b"\0") + data.ljust(_IFREQ_BYTES - 16, b"\0")


def ask(request: int, name: str, data: bytes = b"") -> bytes:
    """Send a request about a device, and return what stands after its name then.

    Raises:
        OSError: As the kernel has it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        return fcntl.ioctl(control, request, ifreq(name, data))[16:]


def address(ip: str) -> bytes:
    """Return a struct sockaddr_in."""
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(ip))
