"""From networks, routes and devices of a configuration to operations, each checked."""

from __future__ import annotations

from kernelproof.impl.libcontainer.network.ends import AddRoutes, JoinNetwork, MakeEnd, MoveDevice, OpenNetwork
from kernelproof.impl.libcontainer.network.loopback import RaiseLoopback
from kernelproof.impl.libcontainer.network.planning import (
    BRIDGE,
    DEFAULT_BRIDGE,
    DEFAULT_SUBNET,
    LOOPBACK,
    NETNS,
    STRATEGIES,
    VETH,
)
from kernelproof.impl.netlink.values import check_name, encode_prefix

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.own import Network
    from kernelproof.impl.libcontainer.config.records import Config
    from kernelproof.impl.libcontainer.facts import Host
    from kernelproof.impl.libcontainer.operations import Operation


def plan_networks(config: Config, host: Host, *, own: bool) -> tuple[Operation, ...]:
    """Return the operations; see planning.plan_network.

    Raises:
        ValueError: an unknown strategy, one without what it needs, or an address that is none.
    """
    linux = config.linux
    if (linux.net_devices or any(each.type in (VETH, BRIDGE) for each in config.networks)) and host.is_rootless:
        raise ValueError("networks: veth pairs and moved devices need CAP_NET_ADMIN over the host")
    ends = [each for each in config.networks if each.type in (VETH, BRIDGE)]
    joined = [each for each in config.networks if each.type == NETNS]
    for place, each in enumerate(config.networks):
        if each.type not in STRATEGIES:
            raise ValueError(f"networks[{place}].type: there is no strategy {each.type!r}: {', '.join(STRATEGIES)} are")
    if len(joined) > 1 or (joined and own):
        raise ValueError("networks: a process is in one network namespace: one is joined, or one is made")
    mtu = next((each.mtu or 0 for each in config.networks if each.type == LOOPBACK), 0)
    return (
        *(operation for each in joined for operation in (OpenNetwork(_path(each)), JoinNetwork())),
        *(MoveDevice(name, device.name or "") for name, device in linux.net_devices),
        *(plan_end(each, f"eth{place}") for place, each in enumerate(ends)),
        *((AddRoutes(config.routes),) if config.routes else ()),
        *((RaiseLoopback(mtu),) if own or mtu else ()),
    )


def _path(network: Network) -> str:
    if not network.ns_path:
        raise ValueError("networks: the strategy netns needs nsPath")
    return network.ns_path


def plan_end(network: Network, default_name: str) -> MakeEnd:
    """Return the operation for a veth pair; raises as `plan_networks`."""
    name = check_name(network.name or default_name)
    if network.type == VETH and not (network.bridge and network.veth_prefix):
        raise ValueError("networks: the strategy veth needs bridge and vethPrefix")
    prefix = network.veth_prefix or "kp"
    if len(prefix) > 7:
        raise ValueError(f"networks: vethPrefix {prefix!r} is longer than 7: a name has 15 characters, 8 are chosen")
    for address in (network.address, network.ipv6_address):
        if address:
            encode_prefix(address, host=False)
    makes = network.type == BRIDGE
    subnet = ""
    if makes and not network.address:
        if network.bridge or network.gateway:
            raise ValueError("networks: a bridge or gateway of one's own needs an address too")
        subnet = DEFAULT_SUBNET
    return MakeEnd(
        tuple(each for each in (network.address, network.ipv6_address) if each),
        network.bridge or DEFAULT_BRIDGE,
        tuple(each for each in (network.gateway, network.ipv6_gateway) if each),
        network.mac_address or "",
        makes,
        network.mtu or 0,
        name,
        prefix,
        subnet,
        network.tx_queue_length or 0,
    )
