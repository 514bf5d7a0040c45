"""What others say: `ip`, /sys, pyroute2; and what a call ends with."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from errno import errorcode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyroute2 import IPRoute

DEVICES = Path("/sys/class/net")
PROC_IPV4, PROC_IPV6 = Path("/proc/sys/net/ipv4"), Path("/proc/sys/net/ipv6")
NO_ERROR = "no error"


def outcome(call: Callable[..., object], *arguments: Any, **settings: Any) -> str:
    """Call, and return the name of the errno that it ended with, or "no error"."""
    try:
        call(*arguments, **settings)
    except OSError as error:
        return errorcode[error.errno or 0]
    return NO_ERROR


def ip_json(*words: str, command: str = "ip") -> Any:
    """Return what `ip -j -d`, or `bridge -j -d`, prints."""
    done = subprocess.run([command, "-j", "-d", *words], check=True, stdout=subprocess.PIPE, timeout=30)
    return json.loads(done.stdout or "[]")


def names() -> set[str]:
    """Return the names of all devices."""
    return {device.name for device in DEVICES.iterdir()}


def number_of(path: str) -> int:
    """Return a number below /sys/class/net, decimal or with 0x."""
    return int((DEVICES / path).read_text(), 0)


def link_of(observer: IPRoute, name: str) -> Any:
    """Return a device's message as pyroute2 decodes it."""
    (message,) = observer.link("get", ifname=name)
    return message


def option_of(observer: IPRoute, name: str, option: str) -> Any:
    """Return an attribute of IFLA_INFO_DATA as pyroute2 decodes it."""
    return link_of(observer, name).get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", option)


def attribute_of(name: str, *path: int) -> bytes:
    """Return an attribute of a device by the numbers that lead to it, for those that nobody here has a name for.

    Raises:
        KeyError: The kernel tells no such attribute.
    """
    data = _link_message(name)[32:]
    for number in path:
        data = _attributes(data)[number]
    return data


def device_flags(name: str) -> int:
    """Return the flags of a device, those that it has by itself included, which are not in /sys."""
    return int(struct.unpack_from("=I", _link_message(name), 24)[0])


def _link_message(name: str) -> bytes:
    index = socket.if_nametoindex(name)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as asked:
        asked.bind((0, 0))
        asked.send(struct.pack("=IHHIIBxHiII", 32, 18, 1, 1, 0, 0, 0, index, 0, 0))  # RTM_GETLINK
        return asked.recv(1 << 16)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, number = struct.unpack_from("=HH", data)
        found[number & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def port_option_of(name: str, number: int) -> int:
    """Return a number of IFLA_INFO_SLAVE_DATA, in the machine's order."""
    return int.from_bytes(attribute_of(name, 18, 5, number), "little")


def addresses4(device: str) -> dict[str, Any]:
    """Return what `ip` shows of a device's IPv4 addresses, by address with prefix length."""
    (link,) = ip_json("-4", "address", "show", "dev", device) or [{"addr_info": []}]
    return {f"{entry['local']}/{entry['prefixlen']}": entry for entry in link["addr_info"] if entry}


def addresses6(device: str) -> dict[str, int]:
    """Return the flags of a device's IPv6 addresses, the lowest eight of them, from /proc/net/if_inet6."""
    lines = (line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines())
    return {_ip6(line[0]): int(line[4], 16) for line in lines if line[5] == device}


def _ip6(digits: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))


class Routed(NamedTuple):
    """A line of /proc/net/route."""

    device: str
    destination: str
    gateway: str
    metric: int


def routes4() -> list[Routed]:
    """Return the IPv4 routes of /proc/net/route, which are those of the main table."""
    lines = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    return [
        Routed(line[0], f"{_ip4(line[1])}/{int(line[7], 16).bit_count()}", _ip4(line[2]), int(line[6]))
        for line in lines
    ]


def _ip4(digits: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(digits, 16)))


def routes6() -> set[str]:
    """Return the IPv6 destinations of /proc/net/ipv6_route."""
    lines = (line.split() for line in Path("/proc/net/ipv6_route").read_text().splitlines())
    return {f"{_ip6(line[0])}/{int(line[1], 16)}" for line in lines}


def neighbours4() -> dict[str, str]:
    """Return the hardware addresses of /proc/net/arp, by IPv4 address."""
    lines = (line.split() for line in Path("/proc/net/arp").read_text().splitlines()[1:])
    return {line[0]: line[3] for line in lines}


class Forwarded(NamedTuple):
    """A forwarding entry of a bridge: the number of its port, and whether its address is the bridge's own."""

    port: int
    is_local: bool


def forwarding_of(bridge: str) -> dict[str, Forwarded]:
    """Return the forwarding entries of a bridge by address, from /sys (struct __fdb_entry)."""
    data = (DEVICES / bridge / "brforward").read_bytes()
    return {mac.hex(":"): Forwarded(port, bool(local)) for mac, port, local in struct.iter_unpack("=6sBB8x", data)}


def connect_to(address: str) -> str:
    """Connect a socket of UDP, and return what that ended with."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as own:
        return outcome(own.connect, (address, 9))


def source_of(address: str) -> str:
    """Return the source address that a socket of UDP gets for a destination.

    Raises:
        OSError: It can't be reached.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as own:
        own.connect((address, 9))
        return str(own.getsockname()[0])


def neighbour_states(observer: IPRoute, index: int) -> dict[str, int]:
    """Return the states of a device's IPv4 neighbours as pyroute2 decodes them, groups left out."""
    found = observer.get_neighbours(family=socket.AF_INET, ifindex=index)
    states = {message.get_attr("NDA_DST"): message["state"] for message in found if message["ifindex"] == index}
    return {address: state for address, state in states.items() if not address.startswith("224.")}
