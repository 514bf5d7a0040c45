"""Devices that impl.netlink made, asked and changed by ioctl(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from errno import EOPNOTSUPP, errorcode
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import ifreq
from kernelproof.conformance.netlink.ifreq import ask
from kernelproof.conformance.netlink.shown import NO_ERROR, names, number_of, outcome
from kernelproof.impl.netlink import Rtnl

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen

NOT_SUPPORTED = errorcode[EOPNOTSUPP]  # ENOTSUP is the same number
_IFREQ_BYTES = 40
_BEYOND = 8  # an address that no process has

_libc = ctypes.CDLL(None, use_errno=True)


@behaviour("link.ioctl.metric-get", subject="impl")
def test_metric_is_nothing(net: Rtnl, seen: Seen) -> None:
    """SIOCGIFMETRIC stores 0, whatever stood there."""
    net.link_add("port0", "dummy")
    stored = ask(ifreq.SIOCGIFMETRIC, "port0", struct.pack("=i", 77))
    assert seen(struct.unpack_from("=i", stored)[0]) == 0


@behaviour("link.ioctl.metric-set", subject="impl")
def test_metric_cant_be_set(net: Rtnl, seen: Seen) -> None:
    """SIOCSIFMETRIC is not supported."""
    net.link_add("port0", "dummy")
    assert outcome(ask, ifreq.SIOCGIFMETRIC, "port0") == NO_ERROR
    assert seen.errno_of(ask, ifreq.SIOCSIFMETRIC, "port0", struct.pack("=i", 1)) == NOT_SUPPORTED


@behaviour("link.ioctl.ifname-by-index", subject="impl")
def test_name_of_an_index(net: Rtnl) -> None:
    """SIOCGIFNAME stores the name of the device with the index."""
    index = net.link_add("port0", "dummy", index=4242).ifindex
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        found = fcntl.ioctl(control, ifreq.SIOCGIFNAME, ifreq.ifreq("", struct.pack("=i", index)))
    assert found[:16].rstrip(b"\0") == b"port0"


def configured(buffer: int | None, length: int) -> int:
    """SIOCGIFCONF with a buffer at an address; return the length that the kernel stores.

    Raises:
        OSError: As the kernel has it.
    """
    asked = struct.pack("@iP", length, buffer or 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        return int(struct.unpack_from("=i", fcntl.ioctl(control, ifreq.SIOCGIFCONF, asked))[0])


@behaviour("link.ioctl.ifconf-size-query", subject="impl")
def test_size_of_all_addresses(net: Rtnl) -> None:
    """SIOCGIFCONF without a buffer stores the size that all IPv4 addresses need."""
    before = configured(None, 0)
    net.link_add("port0", "dummy", up=True)
    for address in ("10.9.0.1/24", "10.8.0.1/24"):
        net.address_add("port0", address)
    assert configured(None, 0) == before + 2 * _IFREQ_BYTES


@behaviour("link.ioctl.ifconf-short-buffer", subject="impl")
def test_addresses_that_do_not_fit_are_left_out(net: Rtnl) -> None:
    """SIOCGIFCONF with room for one of two addresses stores one, without an error."""
    before = configured(None, 0)
    net.link_add("port0", "dummy", up=True)
    for address in ("10.9.0.1/24", "10.8.0.1/24"):
        net.address_add("port0", address)
    room = ctypes.create_string_buffer(before + 2 * _IFREQ_BYTES)
    size = before + _IFREQ_BYTES
    assert configured(ctypes.addressof(room), size + 3) == size
    last = room.raw[before:size]
    assert last[:16].rstrip(b"\0") == b"port0"
    assert socket.inet_ntoa(last[20:24]) == "10.9.0.1"
    assert room.raw[size:] == bytes(len(room) - size)


@behaviour("link.ioctl.bad-pointer", subject="impl")
def test_structure_outside_the_process(net: Rtnl, seen: Seen) -> None:
    """SIOCGIFCONF and SIOCGIFFLAGS with an address outside the process are refused with EFAULT."""
    net.link_add("port0", "dummy", up=True)
    net.address_add("port0", "10.9.0.1/24")

    def fault(request: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            if _libc.ioctl(control.fileno(), request, ctypes.c_void_p(_BEYOND)):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    answers = [outcome(fault, ifreq.SIOCGIFCONF), outcome(fault, ifreq.SIOCGIFFLAGS)]
    answers.append(outcome(configured, _BEYOND, _IFREQ_BYTES))
    assert outcome(ask, ifreq.SIOCGIFFLAGS, "port0") == NO_ERROR
    assert seen(answers) == ["EFAULT"] * 3


def change(name: str, *rest: object) -> object:
    """A request that changes a device, with its data, the one that reads, and what impl.netlink would set."""
    topic = name if "." in name else f"link.ioctl.{name}-unprivileged"
    return pytest.param(*rest, id=name, marks=behaviour(topic, subject="impl"))


@pytest.mark.parametrize(
    ("write", "data", "read", "setting"),
    [
        change("set-mtu", ifreq.SIOCSIFMTU, struct.pack("=i", 1400), ifreq.SIOCGIFMTU, {"mtu": 1400}),
        change(
            "set-hwaddr",
            *(ifreq.SIOCSIFHWADDR, b"\1\0\2\0\0\0\0\1", ifreq.SIOCGIFHWADDR, {"mac": "02:00:00:00:00:01"}),
        ),
        change("set-txqlen", ifreq.SIOCSIFTXQLEN, struct.pack("=i", 77), ifreq.SIOCGIFTXQLEN, {"txqueuelen": 77}),
        change("link.flags.set-is-privileged", ifreq.SIOCSIFFLAGS, b"\1\0", ifreq.SIOCGIFFLAGS, {"up": True}),
    ],
)
def test_change_needs_privilege(
    net: Rtnl,
    unprivileged: Callable[[Callable[[], Any]], Any],
    seen: Seen,
    write: int,
    data: bytes,
    read: int,
    setting: dict[str, object],
) -> None:
    """A process without CAP_NET_ADMIN reads and can't change, by ioctl(2) or by netlink; one with it can do both."""
    net.link_add("port0", "dummy")
    before = ask(read, "port0")

    def try_it() -> list[str]:
        with Rtnl() as own:
            by_netlink = outcome(own.link_set, "port0", **setting)
            return [outcome(ask, write, "port0", data), by_netlink, outcome(ask, read, "port0")]

    by_ioctl, by_netlink, reading = unprivileged(try_it)
    assert ask(read, "port0") == before
    net.link_set("port0", **setting)
    changed = ask(read, "port0")
    assert changed != before
    assert all(new & asked == asked for new, asked in zip(changed, data, strict=False))  # the kernel adds flags
    assert outcome(ask, write, "port0", data) == NO_ERROR
    assert (by_netlink, reading) == ("EPERM", NO_ERROR)
    assert seen(by_ioctl) == "EPERM"


@behaviour("link.ioctl.rename-unprivileged", subject="impl")
def test_renaming_needs_privilege(net: Rtnl, unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen) -> None:
    """A process without CAP_NET_ADMIN can't rename a device, by ioctl(2) or by netlink."""
    net.link_add("port0", "dummy")
    before = names()

    def try_it() -> list[str]:
        with Rtnl() as own:
            by_netlink = outcome(own.link_set, "port0", new_name="port1")
            return [outcome(ask, ifreq.SIOCSIFNAME, "port0", b"port1\0"), by_netlink]

    by_ioctl, by_netlink = unprivileged(try_it)
    assert names() == before
    assert try_it() == ["ENODEV", NO_ERROR]
    assert number_of("port1/ifindex") > 1
    assert by_netlink == "EPERM"
    assert seen(by_ioctl) == "EPERM"
