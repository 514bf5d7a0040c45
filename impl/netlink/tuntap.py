"""TUN and TAP links, whose other end is a descriptor that programs read and write packets through.

    with open_tun("tun%d") as tun:
        packet = tun.read()

The link goes when its last descriptor is closed, unless it is persistent. TUN carries IP packets, TAP frames of
Ethernet. The kernel takes an ioctl here; what the link is told afterwards goes by `Rtnl`.

Source: Documentation/networking/tuntap.rst; include/uapi/linux/if_tun.h.
"""

import fcntl
import os
from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final

from kernelproof.impl.netlink.netns import call_in
from kernelproof.impl.netlink.values import check_name

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where

DEVICE: Final = "/dev/net/tun"
_SETIFF, _SETPERSIST, _SETOWNER, _SETGROUP, _GETIFF, _SETQUEUE = (
    *(0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE),
    *(0x800454D2, 0x400454D9),
)
_REQUEST: Final = Struct("=16sH22x")


class TunFlag(IntFlag):
    """IFF_ flags of TUNSETIFF."""

    TUN = 0x0001
    TAP = 0x0002
    NAPI = 0x0010
    NAPI_FRAGS = 0x0020
    NO_CARRIER = 0x0040
    MULTI_QUEUE = 0x0100
    ATTACH_QUEUE = 0x0200
    DETACH_QUEUE = 0x0400
    PERSIST = 0x0800
    NO_PI = 0x1000
    VNET_HDR = 0x4000
    TUN_EXCL = 0x8000


class Tun:
    """An attached TUN or TAP descriptor, close-on-exec; `name` is the link's, as the kernel chose it."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, which the object owns; -1 once it is closed."""
        return self._fd

    def close(self) -> None:
        """Give the descriptor back; a link that is not persistent goes with its last one. Twice is nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, largest_bytes: int = 65535 + 14) -> bytes:
        """Return the next packet, with its header of packet information if that was asked for.

        Raises:
            OSError: EBADF (closed, or the queue is detached), EAGAIN (a descriptor that does not block), EINTR never.
        """
        return os.read(self._fd, largest_bytes)

    def write(self, packet: bytes) -> int:
        """Send a packet into the kernel, and return how many bytes it took.

        Raises:
            OSError: EINVAL (too short, or neither IPv4 nor IPv6), EIO (the link is down), EBADF.
        """
        return os.write(self._fd, packet)

    @property
    def flags(self) -> TunFlag:
        """What the link was made with (TUNGETIFF); OSError: EBADFD if it is attached to none."""
        data = _REQUEST.unpack(fcntl.ioctl(self._fd, _GETIFF, _REQUEST.pack(b"", 0)))
        return TunFlag(data[1])

    def set_persistent(self, persistent: bool) -> None:
        """Have the link stay when its last descriptor is closed, or not; OSError: EBADFD."""
        fcntl.ioctl(self._fd, _SETPERSIST, int(persistent))

    def set_owner(self, uid: int) -> None:
        """Let a user attach to the link without CAP_NET_ADMIN; OSError: EINVAL (no such id here), EBADFD."""
        fcntl.ioctl(self._fd, _SETOWNER, uid)

    def set_group(self, gid: int) -> None:
        """Let a group attach to the link without CAP_NET_ADMIN; errors as for set_owner."""
        fcntl.ioctl(self._fd, _SETGROUP, gid)

    def attach_queue(self) -> None:
        """Use this descriptor as a queue again; OSError: EINVAL unless MULTI_QUEUE, EPERM."""
        fcntl.ioctl(self._fd, _SETQUEUE, _REQUEST.pack(b"", TunFlag.ATTACH_QUEUE))

    def detach_queue(self) -> None:
        """Use this descriptor as a queue no longer; errors as for attach_queue."""
        fcntl.ioctl(self._fd, _SETQUEUE, _REQUEST.pack(b"", TunFlag.DETACH_QUEUE))


def open_tun(
    name: str = "",
    *,
    tap: bool = False,
    packet_information: bool = False,
    flags: int = 0,
    netns: "Where | None" = None,
    nonblocking: bool = False,
    device: str = DEVICE,
) -> Tun:
    """Make a TUN or TAP link, or attach to one that is there.

    Args:
        name: "" or one with `%d` lets the kernel choose.
        tap: frames of Ethernet in the place of IP packets.
        packet_information: have 4 bytes of flags and EtherType before each packet.
        flags: further ones, such as MULTI_QUEUE, VNET_HDR, TUN_EXCL.
        netns: where; None for the caller's.
        nonblocking: let reads fail with EAGAIN where nothing waits.
        device: the file that is opened.

    Raises:
        OSError: ENOENT or ENODEV (a kernel without TUN), EPERM (no CAP_NET_ADMIN, and not its owner), EBUSY (attached
            already, or TUN_EXCL and there), EINVAL (another kind of link). Nothing is left open then.
        ValueError: no name.
    """
    if name:
        check_name(name.replace("%d", "0"))
    kind = TunFlag.TAP if tap else TunFlag.TUN
    wanted = kind | flags | (0 if packet_information else TunFlag.NO_PI)
    arguments = device, name, int(wanted), nonblocking
    return _attach(*arguments) if netns is None else call_in(netns, _attach, *arguments)


def _attach(device: str, name: str, flags: int, nonblocking: bool) -> Tun:
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | (os.O_NONBLOCK if nonblocking else 0))
    try:
        answer = fcntl.ioctl(fd, _SETIFF, _REQUEST.pack(name.encode("utf-8", "surrogateescape"), flags))
    except OSError as error:
        os.close(fd)
        error.add_note(f"ioctl TUNSETIFF of {device}: {name or 'any name'}, {TunFlag(flags)!r}")
        raise
    return Tun(fd, _REQUEST.unpack(answer)[0].rstrip(b"\0").decode("utf-8", "surrogateescape"))
