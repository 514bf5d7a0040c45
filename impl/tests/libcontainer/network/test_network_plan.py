"""From networks of a configuration to operations, without touching anything."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer.config.own import Network, Route
from kernelproof.impl.libcontainer.config.records import Config, Linux, Namespace, NetDevice
from kernelproof.impl.libcontainer.facts import Host
from kernelproof.impl.libcontainer.network.addressing import addresses_after, prefix_of, to_number, to_text
from kernelproof.impl.libcontainer.network.ends import AddRoutes, JoinNetwork, MakeEnd, MoveDevice, OpenNetwork
from kernelproof.impl.libcontainer.network.loopback import RaiseLoopback
from kernelproof.impl.libcontainer.network.planning import plan_network

OWN = Linux((Namespace("network"),))


def config(*networks: Network, linux: Linux = OWN, routes: tuple[Route, ...] = ()) -> Config:
    """A configuration with some networks."""
    return Config("1.3.0", linux=linux, networks=networks, routes=routes)


def test_new_namespace_gets_its_loopback() -> None:
    """A new network namespace has lo up; a joined or inherited one is left as it is."""
    joined = Linux((Namespace("network", "/proc/1/ns/net"),))
    plans = [plan_network(config(linux=linux), Host()) for linux in (OWN, joined, Linux())]
    assert plans == [(RaiseLoopback(0),), (), ()]


def test_bridge_in_one_line() -> None:
    """The strategy bridge alone gives an interface with the next free address of a bridge that is made."""
    end, loopback = plan_network(config(Network("bridge")), Host())
    assert isinstance(end, MakeEnd)
    assert (end.name, end.bridge, end.makes, end.subnet) == ("eth0", "kernelproof0", True, "10.177.0.1/16")
    assert loopback == RaiseLoopback(0)
    assert end.describe() == (
        "make eth0 with a free address of 10.177.0.1/16, the other end on the bridge kernelproof0"
    )


def test_strategies_of_2014() -> None:
    """loopback sets lo's MTU, veth makes a pair on a bridge that is there, netns joins a namespace."""
    veth = Network(
        "veth", bridge="docker0", veth_prefix="veth", address="172.17.42.2/16", gateway="172.17.42.1", mtu=1400
    )
    plan = plan_network(config(Network("loopback", mtu=1500), veth), Host())
    end = MakeEnd(("172.17.42.2/16",), "docker0", ("172.17.42.1",), "", False, 1400, "eth0", "veth", "", 0)
    assert plan == (end, RaiseLoopback(1500))
    joined = plan_network(config(Network("netns", ns_path="/proc/7/ns/net"), linux=Linux()), Host())
    assert joined == (OpenNetwork("/proc/7/ns/net"), JoinNetwork())


def test_devices_and_routes() -> None:
    """Devices move in before addresses of others are set; routes come last."""
    linux = OWN.replace(net_devices=(("dummy7", NetDevice("eth%d")), ("dummy8", NetDevice())))
    route = Route(gateway="10.0.0.1", interface_name="eth0")
    plan = plan_network(config(Network("bridge"), linux=linux, routes=(route,)), Host())
    assert [type(each).__name__ for each in plan] == [
        "MoveDevice",
        "MoveDevice",
        "MakeEnd",
        "AddRoutes",
        "RaiseLoopback",
    ]
    assert plan[:2] == (MoveDevice("dummy7", "eth%d"), MoveDevice("dummy8", ""))
    assert plan[3] == AddRoutes((route,))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (config(Network("carrier-pigeon")), "no strategy 'carrier-pigeon': loopback, veth, bridge, netns are"),
        (config(Network("veth", bridge="br0")), "veth needs bridge and vethPrefix"),
        (config(Network("netns"), linux=Linux()), "netns needs nsPath"),
        (config(Network("netns", ns_path="/n")), "one is joined, or one is made"),
        (config(Network("bridge"), linux=Linux()), "no network namespace to put them in"),
        (config(Network("bridge", address="10.0.0.2")), "no prefix length"),
        (config(Network("bridge", address="10.0.0.300/24")), "no IP address"),
        (config(Network("bridge", bridge="br0")), "needs an address too"),
        (config(Network("veth", bridge="b", veth_prefix="eightlet", address="10.0.0.2/8")), "longer than 7"),
        (config(Network("bridge", name="x" * 16)), "x" * 16),
    ],
    ids=["strategy", "prefix", "path", "two", "none", "length", "address", "half", "long", "name"],
)
def test_what_can_not_be_is_refused(made: Config, told: str) -> None:
    """A network that can't be made is an error of the plan."""
    with pytest.raises(ValueError, match=told):
        plan_network(made, Host())


def test_without_rights_over_the_host() -> None:
    """A runtime without CAP_SYS_ADMIN is told that it can't make pairs."""
    with pytest.raises(ValueError, match="CAP_NET_ADMIN over the host"):
        plan_network(config(Network("bridge")), Host(capabilities=0))


def test_addresses_of_a_subnet() -> None:
    """Every address but the network's, the gateway's and the broadcast one is given, each with a name of its own."""
    assert [address for address, _ in addresses_after("10.0.0.1/29", "kp")] == [f"10.0.0.{n}/29" for n in range(2, 7)]
    names = [name for _, name in addresses_after("10.0.0.1/24", "kp")]
    assert len(set(names)) == len(names) == 253
    assert max(map(len, names)) <= 15


def test_numbers_of_addresses() -> None:
    """An address is a number and back; what is none is refused; a gateway has the prefix of its family."""
    assert to_text(to_number("10.1.2.3")) == "10.1.2.3"
    for text in ("10.1.2", "10.1.2.256", "10.1.2.x", "::1"):
        with pytest.raises(ValueError, match="no IPv4 address"):
            to_number(text)
    assert prefix_of("10.0.0.1", ("fd00::2/64", "10.0.0.2/24")) == "24"
    with pytest.raises(ValueError, match="no address of its family"):
        prefix_of("fd00::1", ("10.0.0.2/24",))
