"""TUN devices: made and gone with a descriptor, owned, read from."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink.conftest import NOBODY
from kernelproof.conformance.netlink.shown import NO_ERROR, names, outcome, routes4
from kernelproof.impl.netlink.tuntap import DEVICE, Tun, TunFlag, open_tun

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

FLOWS = 32


def send(number: int = 1) -> None:
    """Send packets of UDP to 10.9.0.2, each of a flow of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        for port in range(9, 9 + number):
            sender.sendto(b"x", ("10.9.0.2", port))


def set_up(net: Rtnl, tun: Tun) -> None:
    """Give a device the address 10.9.0.1/24, and set it up."""
    net.address_add(tun.name, "10.9.0.1/24")
    net.link_set(tun.name, up=True)


def packets(tun: Tun) -> int:
    """Return how many packets can be read."""
    found = 0
    while outcome(tun.read) == NO_ERROR:
        found += 1
    return found


@behaviour("tun.device.gone-on-close", subject="impl")
def test_device_goes_with_its_descriptor(net: Rtnl) -> None:
    """A device and its routes are gone when its only descriptor is closed."""
    before = names()
    with open_tun("t0") as tun:
        set_up(net, tun)
        assert names() == before | {"t0"}
        assert [route.device for route in routes4()] == ["t0"]
    assert names() == before
    assert routes4() == []


@behaviour("tun.device.name-template", subject="impl")
def test_number_is_filled_in() -> None:
    """A name with %d gets the first free number, and is told."""
    before = names()
    with open_tun("tun%d") as first, open_tun("tun%d") as second:
        assert [first.name, second.name] == ["tun0", "tun1"]
        assert names() == before | {"tun0", "tun1"}


@behaviour("tun.device.needs-net-admin", subject="impl")
def test_device_is_made_with_privilege_alone(unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen) -> None:
    """A process without CAP_NET_ADMIN opens the file and makes no device."""
    os.chmod(DEVICE, 0o666)
    before = names()

    def make() -> list[str]:
        return [outcome(os.open, DEVICE, os.O_RDWR | os.O_CLOEXEC), outcome(open_tun, "t0")]

    opening, making = unprivileged(make)
    assert names() == before
    assert opening == NO_ERROR
    assert outcome(open_tun, "t0") == NO_ERROR
    assert seen(making) == "EPERM"


@behaviour("tun.device.owner-may-attach", subject="impl")
def test_owner_attaches(unprivileged: Callable[[Callable[[], Any]], Any]) -> None:
    """A process without CAP_NET_ADMIN attaches to the device of its user, and not to that of another."""
    os.chmod(DEVICE, 0o666)
    for name, owner in (("t0", NOBODY), ("t1", NOBODY - 1)):
        with open_tun(name) as tun:
            tun.set_persistent(True)
            tun.set_owner(owner)
    assert {"t0", "t1"} <= names()
    assert unprivileged(lambda: [outcome(open_tun, name) for name in ("t0", "t1")]) == [NO_ERROR, "EPERM"]


@behaviour("tun.frame.packet-information", subject="impl")
def test_packet_information_comes_first(net: Rtnl, silent: None) -> None:
    """A packet has 4 bytes of flags and protocol before it, and none with IFF_NO_PI."""
    for information in (True, False):
        with open_tun("t0", packet_information=information, nonblocking=True) as tun:
            set_up(net, tun)
            send()
            data = tun.read()
        if information:
            assert data[:4] == b"\0\0\x08\0"
            data = data[4:]
        assert (data[0] >> 4, int.from_bytes(data[2:4], "big")) == (4, len(data))
        assert data[16:20] == socket.inet_aton("10.9.0.2")


@behaviour("tun.queue.detach", subject="impl")
def test_detached_queue_gets_nothing(net: Rtnl, silent: None) -> None:
    """A queue that is detached gets no packet, its like gets all; attached again it gets its part."""
    flags = TunFlag.MULTI_QUEUE
    with open_tun("t0", flags=flags, nonblocking=True) as one, open_tun("t0", flags=flags, nonblocking=True) as other:
        set_up(net, one)
        send(FLOWS)
        both = (packets(one), packets(other))
        assert min(both) > 0
        assert sum(both) == FLOWS
        other.detach_queue()
        send(FLOWS)
        assert packets(one) == FLOWS
        other.attach_queue()
        assert packets(other) == 0
        send(FLOWS)
        both = (packets(one), packets(other))
        assert min(both) > 0
        assert sum(both) == FLOWS
