"""From a configuration to the operations of its network. Pure: nothing is read or touched.

The runtime makes the ends on the host and puts the others into the container's network namespace, which needs its
process; addresses and routes of those are set from outside too, so that the container's process loads nothing for it.

Source: docker/libcontainer v1.0.0, network/; OCI runtime specification 1.3, config-linux.md, "Network Devices".
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.network.loopback import RaiseLoopback

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Config
    from kernelproof.impl.libcontainer.facts import Host
    from kernelproof.impl.libcontainer.operations import Operation

LOOPBACK, VETH, BRIDGE, NETNS = "loopback", "veth", "bridge", "netns"
STRATEGIES = (LOOPBACK, VETH, BRIDGE, NETNS)
DEFAULT_BRIDGE, DEFAULT_SUBNET = "kernelproof0", "10.177.0.1/16"


def plan_network(config: Config, host: Host) -> tuple[Operation, ...]:
    """Return the operations for `networks`, `routes` and `linux.netDevices`, and lo of a new network namespace.

    Raises:
        ValueError: an unknown strategy, one without what it needs, or a network without a new network namespace.
    """
    network = next((each for each in config.linux.namespaces if each.type == "network"), None)
    own = network is not None and not network.path
    asked = bool(config.networks or config.routes or config.linux.net_devices)
    if not asked:
        return (RaiseLoopback(0),) if own else ()
    if network is None and any(each.type != NETNS for each in config.networks):
        raise ValueError("networks: there is no network namespace to put them in")
    # Measured: what speaks netlink loads 40 modules, and most containers come without a network of ours.
    from kernelproof.impl.libcontainer.network.strategies import plan_networks

    return plan_networks(config, host, own=own)
