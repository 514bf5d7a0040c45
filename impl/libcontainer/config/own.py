"""Records of what config.json of the specification does not have: networks and routes as in 2014, Landlock.

Source: landlock(7).
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.record import Record

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.record import uint16, uint32


class Network(Record):
    """An end of a network, as in 2014: loopback, veth (bridge, prefix of the names, address, gateway), netns (path).

    Addresses are texts such as "172.17.0.2/16"; `name` is the interface inside, eth0 and so on when not said.
    """

    type: str
    bridge: str | None = None
    veth_prefix: str | None = None
    ns_path: str | None = None
    address: str | None = None
    gateway: str | None = None
    mtu: uint32 | None = None
    name: str | None = None
    mac_address: str | None = None
    ipv6_address: str | None = None
    ipv6_gateway: str | None = None
    tx_queue_length: uint32 | None = None


class Route(Record):
    """A route inside the container, as in 2014; without destination the default route."""

    destination: str | None = None
    source: str | None = None
    gateway: str | None = None
    interface_name: str | None = None


class LandlockPath(Record):
    """What is allowed below a path of the container, by names of rights such as "read_file"."""

    path: str
    rights: tuple[str, ...]


class Landlock(Record):
    """A Landlock policy, written for one version of the interface (`abi`).

    `strict` refuses to start where the kernel can't do all of it; else what can be done is done and told. What is
    `handled` is denied unless a path or port allows it; empty: all that the version knows.
    """

    abi: uint32
    strict: bool = True
    handled: tuple[str, ...] = ()
    paths: tuple[LandlockPath, ...] = ()
    bind_tcp: tuple[uint16, ...] = ()
    connect_tcp: tuple[uint16, ...] = ()
    handle_tcp: bool = False
    scopes: tuple[str, ...] = ()
