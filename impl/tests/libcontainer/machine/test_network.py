"""Networks of a process in a network namespace of its own, seen by pyroute2 and by packets."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute, NetNS

from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare
from kernelproof.impl.libcontainer.config.own import Network, Route
from kernelproof.impl.libcontainer.config.records import Config, Linux, Namespace, NetDevice
from kernelproof.impl.libcontainer.ending import UNDO
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.network.planning import plan_network
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.netlink.errors import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.machine


@pytest.fixture
def inside() -> Iterator[int]:
    """The pid of a process that lives in a network namespace of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        unshare(CloneFlag.NEWNET)
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


def plan(*networks: Network, routes: tuple[Route, ...] = (), **linux: object) -> tuple[Operation, ...]:
    """The operations of some networks."""
    own = Linux((Namespace("network"),), **linux)  # type: ignore[arg-type]
    return plan_network(Config("1.3.0", linux=own, networks=networks, routes=routes), read_host())


def do(pid: int, operations: tuple[Operation, ...]) -> Site:
    """Does the host's operations for a process, and the others in it."""
    site = Site()
    site.found["pid"] = pid
    for operation in operations:
        if operation.stage == "host":
            operation.do(site)
        else:
            assert called_in(pid, partial(do_in_child, operation)) == ""
    return site


def do_in_child(operation: Operation) -> str:
    """Does it, and says nothing."""
    operation.do(Site())
    return ""


def called_in(pid: int, function: Callable[[], object]) -> str:
    """What a function returns, as text, in a child that joined a process's network namespace."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            setns(fd, CloneFlag.NEWNET)
            os.write(writer, str(function()).encode())
        except OSError as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def seen(pid: int) -> dict[str, tuple[str, int, tuple[str, ...]]]:
    """State, MTU and IPv4 addresses of the links in a process's network namespace, by pyroute2."""
    with NetNS(f"/proc/{pid}/ns/net") as there:
        addresses = [
            (each["index"], f"{each.get_attr('IFA_ADDRESS')}/{each['prefixlen']}") for each in there.get_addr(2)
        ]
        return {
            link.get_attr("IFLA_IFNAME"): (
                "up" if link["flags"] & 1 else "down",
                link.get_attr("IFLA_MTU"),
                tuple(address for index, address in addresses if index == link["index"]),
            )
            for link in there.get_links()
        }


def names() -> set[str]:
    """Names of the host's links."""
    return set(os.listdir("/sys/class/net"))


def take_back(site: Site) -> None:
    """Takes back what is noted, as deleting a container does."""
    noted = site.found.get("undo", [])
    assert isinstance(noted, list)
    for kind, value in reversed(noted):
        UNDO[kind](value)


def test_loopback(inside: int) -> None:
    """lo of a new namespace is set up, and its MTU is as asked."""
    do(inside, plan())
    assert seen(inside)["lo"][0] == "up"
    do(inside, plan(Network("loopback", mtu=1500)))
    assert seen(inside)["lo"][:2] == ("up", 1500)


def test_bridge_in_one_line_reaches_the_host(inside: int) -> None:
    """With the strategy bridge alone a TCP connection from inside reaches the host, and back; then all is gone."""
    before = names()
    site = do(inside, plan(Network("bridge")))
    assert seen(inside)["eth0"] == ("up", 1500, ("10.177.0.2/16",))
    with socket.create_server(("10.177.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]

        def call() -> str:
            with socket.create_connection(("10.177.0.1", port), timeout=10) as peer:
                return peer.recv(10).decode()

        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, called_in(inside, call).encode())
            os._exit(0)
        connection, address = server.accept()
        with connection:
            connection.sendall(b"hello")
        assert (os.read(reader, 100), address[0]) == (b"hello", "10.177.0.2")
        os.waitpid(child, 0)
    assert names() > before
    take_back(site)
    assert names() == before


def test_second_container_gets_the_next_address(inside: int) -> None:
    """Two containers on the bridge have two addresses, and the bridge goes with the second one."""
    before = names()
    first = do(inside, plan(Network("bridge")))
    other = os.fork()
    if other == 0:
        unshare(CloneFlag.NEWNET)
        signal.pause()
        os._exit(0)
    try:
        while os.readlink(f"/proc/{other}/ns/net") == os.readlink("/proc/self/ns/net"):
            os.sched_yield()
        second = do(other, plan(Network("bridge")))
        assert seen(other)["eth0"][2] == ("10.177.0.3/16",)
        take_back(first)
        assert "kernelproof0" in names()
        take_back(second)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    assert names() == before


def test_veth_of_2014(inside: int) -> None:
    """A pair on a bridge that was there, with prefix, address, gateway and MTU; the bridge stays when it is deleted."""
    with IPRoute() as net:
        net.link("add", ifname="br7", kind="bridge")
    before = names()
    wanted = Network(
        "veth", bridge="br7", veth_prefix="dock", address="172.17.0.100/16", gateway="172.17.42.1", mtu=1400
    )
    site = do(inside, plan(wanted))
    assert seen(inside)["eth0"] == ("up", 1400, ("172.17.0.100/16",))
    with NetNS(f"/proc/{inside}/ns/net") as there:
        assert [route.get_attr("RTA_GATEWAY") for route in there.get_default_routes()] == ["172.17.42.1"]
    (outside,) = names() - before
    assert outside.startswith("dock")
    assert os.readlink(f"/sys/class/net/{outside}/master").endswith("/br7")
    take_back(site)
    assert names() == before


def test_missing_bridge_of_2014_is_an_error(inside: int) -> None:
    """A bridge that is not there is an error, and nothing is left."""
    before = names()
    with pytest.raises(LookupError, match="no bridge 'absent0'"):
        do(inside, plan(Network("veth", bridge="absent0", veth_prefix="v", address="10.0.0.2/24")))
    assert names() == before


def test_failing_end_leaves_nothing(inside: int) -> None:
    """An address that the kernel refuses leaves neither a pair nor the bridge that was made for it."""
    before = names()
    wanted = Network(
        "bridge", bridge="br8", address="10.9.0.2/24", gateway="10.10.0.1", mac_address="01:00:00:00:00:01"
    )
    with pytest.raises(NetlinkError):
        do(inside, plan(wanted))
    assert (names(), set(seen(inside))) == (before, {"lo"})


def test_routes(inside: int) -> None:
    """Routes by gateway and by interface, as configured."""
    routes = (Route("192.168.0.0/24", interface_name="eth0"), Route("10.50.0.0/16", gateway="10.177.0.1"))
    site = do(inside, plan(Network("bridge"), routes=routes))
    with NetNS(f"/proc/{inside}/ns/net") as there:
        found = {
            (each.get_attr("RTA_DST"), each.get_attr("RTA_GATEWAY")) for each in there.get_routes(family=2, table=254)
        }
    assert {("192.168.0.0", None), ("10.50.0.0", "10.177.0.1"), (None, "10.177.0.1")} <= found
    take_back(site)


def test_network_device_moves_with_its_addresses(inside: int) -> None:
    """A device moves in, is renamed by a template, keeps its permanent global addresses, and is up."""
    with IPRoute() as net:
        net.link("add", ifname="dum7", kind="dummy")
        index = net.link_lookup(ifname="dum7")[0]
        net.addr("add", index=index, address="10.3.0.1", prefixlen=24)
    do(inside, plan(net_devices=(("dum7", NetDevice("eth%d")),)))
    assert seen(inside)["eth0"] == ("up", 1500, ("10.3.0.1/24",))
    assert "dum7" not in names()


def test_network_device_whose_name_is_taken(inside: int) -> None:
    """A name that is taken inside is refused before the device moves."""
    with IPRoute() as net:
        net.link("add", ifname="dum8", kind="dummy")
    with pytest.raises(FileExistsError, match="lo"):
        do(inside, plan(net_devices=(("dum8", NetDevice("lo")),)))
    assert "dum8" in names()
    with IPRoute() as net:
        net.link("del", ifname="dum8")


def test_network_device_comes_back_when_the_start_fails(inside: int) -> None:
    """Undone, the device is on the host again, with its name, its addresses and its state."""
    with IPRoute() as net:
        net.link("add", ifname="dum9", kind="dummy")
        index = net.link_lookup(ifname="dum9")[0]
        net.addr("add", index=index, address="10.4.0.1", prefixlen=24)
        net.link("set", index=index, state="up")
        operations = plan(net_devices=(("dum9", NetDevice("inner")),))
        site = do(inside, operations)
        assert "inner" in seen(inside)
        operations[0].undo(site)
        link = net.get_links(ifname="dum9")[0]
        addresses = [each.get_attr("IFA_ADDRESS") for each in net.get_addr(2, index=link["index"])]
        net.link("del", index=link["index"])
    assert (link["flags"] & 1, addresses, set(seen(inside))) == (1, ["10.4.0.1"], {"lo"})


def test_joined_namespace(inside: int) -> None:
    """The strategy netns has the process in the namespace of a path."""
    config = Config("1.3.0", networks=(Network("netns", ns_path=f"/proc/{inside}/ns/net"),))
    opening, joining = plan_network(config, read_host())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        site = Site()
        opening.do(site)
        joining.do(site)
        os.write(writer, os.readlink("/proc/self/ns/net").encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100).decode() == os.readlink(f"/proc/{inside}/ns/net") != os.readlink("/proc/self/ns/net")
    assert Path(f"/proc/{inside}").exists()
