"""Objects of a real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterable
from errno import ENODEV, EOPNOTSUPP
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl import netlink
from kernelproof.impl.netlink import classic, netns, routes
from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.endpoint import KernelSocket
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.neighbours import Neighbour
from kernelproof.impl.netlink.nexthops import NextHopObject
from kernelproof.impl.netlink.recorder import Recorder
from kernelproof.impl.netlink.routes import NextHop, Route, encode_nexthops, parse_nexthops
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.rules import Rule
from kernelproof.impl.netlink.wire import parse_messages

Inside = Callable[[Callable[[], object]], None]


def kind_or_skip(net: Rtnl, name: str, kind: str, **settings: Any) -> netlink.Link:
    """Make a link, or skip where the kernel has no such kind."""
    try:
        return net.link_add(name, kind, **settings)
    except NetlinkError as error:
        if error.errno == EOPNOTSUPP and "Unknown device type" in error.message:
            pytest.skip(f"this kernel has no links of kind {kind}")
        raise


@pytest.mark.skipif(shutil.which("ip") is None, reason="not applicable: there is no ip(8) here")
def test_example_of_2014(in_namespace: Inside) -> None:
    """The bridge of the article: made, addressed, set up; another program sees it so."""

    def work() -> None:
        try:
            netlink.create_bridge("mydocker0", set_mac_address=False)
        except NetlinkError as error:
            if error.errno == EOPNOTSUPP:
                pytest.skip("this kernel has no bridges")
            raise
        netlink.network_link_add_ip("mydocker0", "10.0.41.1/16")
        netlink.network_link_up("mydocker0")
        shown = subprocess.run(["ip", "a", "show", "mydocker0"], check=True, capture_output=True, text=True).stdout
        assert "mydocker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500" in shown
        assert "inet 10.0.41.1/16 scope global mydocker0\n       valid_lft forever preferred_lft forever" in shown
        with pytest.raises(classic.ErrInterfaceExists):
            netlink.create_bridge("mydocker0", set_mac_address=False)
        with pytest.raises(FileExistsError):
            netlink.network_link_add_ip("mydocker0", "10.0.41.1/16")
        netlink.delete_bridge("mydocker0")
        assert not Path("/proc/thread-self/net/dev").read_text().count("mydocker0")

    in_namespace(work)


def test_set_mtu_changes_nothing_else(in_namespace: Inside) -> None:
    """An MTU or a master sets no flag: in 2014 it set the link up and took MULTICAST away."""

    def work() -> None:
        with Rtnl() as net:
            kind_or_skip(net, "tap0", "bridge")
            before = net.link("tap0").flags
            netlink.network_set_mtu("tap0", 1400)
            after = net.link("tap0")
        assert (after.mtu, after.flags) == (1400, before)

    in_namespace(work)


def by_request(net: Rtnl, name: str) -> int:
    return net.index_of(name)


def by_dump(net: Rtnl, name: str) -> int:
    """What peers did."""
    return next(link.ifindex for link in net.links() if link.name == name or name in link.altnames)


@pytest.mark.rule("N12", ours=by_request, wrong=by_dump)
@pytest.mark.parametrize("name", ["lo", "an-alternative-name-of-the-loopback"])
def test_name_is_asked_of_the_kernel(namespace: int, subject: Callable[[Rtnl, str], int], name: str) -> None:
    """One link's ifindex costs one answer, by whatever name."""
    recorder = netlink.Recorder()
    with netlink.Connection(netns=namespace, recorder=recorder) as connection:
        net = Rtnl(connection=connection)
        net.altnames_add("lo", "an-alternative-name-of-the-loopback")
        recorder.datagrams.clear()
        assert subject(net, name) == 1
    dumps = [each for each in recorder.datagrams if each.out and each.data[6:8] == b"\1\3"]
    assert dumps == []


def weights_as_given(hops: Iterable[NextHop], family: int) -> bytes:
    """What a peer did: rtnh_hops is the weight."""
    return encode_nexthops([hop._replace(weight=hop.weight + 1) for hop in hops], family)


@pytest.mark.rule("N9", ours=encode_nexthops, wrong=weights_as_given)
def test_weights_come_back(subject: Callable[..., bytes]) -> None:
    """A next hop's weight counts from 1 here and from 0 in the message."""
    hops = (NextHop("10.0.0.2", 1, 1), NextHop("10.0.0.3", 1, 7))
    assert parse_nexthops(subject(hops, socket.AF_INET)) == hops


@pytest.mark.rule("N9")
def test_routes_come_back(namespace: int) -> None:
    """Routes of many sorts, sent to the kernel and listed, equal what was sent."""
    wanted = [
        Route("10.5.0.0/16", oif=1, scope=253, priority=7, protocol=4, metrics=((2, 1400),)),
        Route("10.6.0.0/16", gateway="10.0.0.9", oif=1, preferred_source="10.0.0.1"),
        Route("10.7.0.0/16", nexthops=(NextHop("10.0.0.2", 1, 1), NextHop("10.0.0.3", 1, 7))),
        Route("10.8.0.0/16", type=6, table=1000),
        Route("0.0.0.0/0", gateway="10.0.0.9", oif=1, tos=0),
        Route("fd05::/64", oif=1, priority=1024, preference=0, family=10),
    ]
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        net.address_add("lo", "10.0.0.1/24")
        for route in wanted:
            net.route_add(route)
        found = {route.destination: route for route in net.routes()}
        assert [found[route.destination] for route in wanted] == wanted
        assert net.route_get("10.6.1.1", fib_match=True).destination == "10.6.0.0/16"
        single = Route("10.9.0.0/16", nexthops=(NextHop("10.0.0.2", 1),))
        net.route_add(single)
        back = next(route for route in net.routes() if route.destination == "10.9.0.0/16")
        assert (back.gateway, back.oif, back.nexthops) == ("10.0.0.2", 1, ())
        for route in wanted:
            net.route_delete(route)
        assert not {route.destination for route in wanted} & {route.destination for route in net.routes()}


@pytest.mark.rule("N9")
def test_other_records_come_back(namespace: int) -> None:
    """Rules, neighbours, next hop objects and addresses equal what was sent."""
    rule = Rule(100, 200, source="10.0.0.0/8", mark=5, mask=255, iif="lo", ip_protocol=6, destination_ports=(80, 90))
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        net.rule_add(rule)
        found = next(each for each in net.rules() if each.priority == 100)
        assert found._replace(protocol=None) == rule
        net.rule_delete(rule)
        assert all(each.priority != 100 for each in net.rules())
        net.nexthop_add(NextHopObject(5, oif=1))
        net.nexthop_add(NextHopObject(6, oif=1))
        net.nexthop_add(NextHopObject(7, group=((5, 1), (6, 9))))
        assert {each.id: each.group for each in net.nexthops()} == {5: (), 6: (), 7: ((5, 1), (6, 9))}
        net.address_add("lo", "10.1.0.1/32", peer="10.1.0.2", label="lo:x", valid_seconds=500, preferred_seconds=300)
        (address,) = [each for each in net.addresses("lo") if each.address == "10.1.0.1"]
        assert (address.peer, address.label, address.prefix_length) == ("10.1.0.2", "lo:x", 32)
        assert 290 <= address.preferred_seconds <= 300 < 490 <= address.valid_seconds <= 500


@pytest.mark.rule("N9")
def test_neighbours_come_back(namespace: int) -> None:
    """A neighbour, a proxy and their absence are as they were sent."""
    with Rtnl(namespace) as net:
        link = kind_or_skip(net, "a", "veth", peer={"name": "b"}, up=True)
        net.link_set("b", up=True)
        neighbour = Neighbour(link.ifindex, "10.0.0.7", "02:00:00:00:00:07", family=2, type=1)
        net.neighbour_add(neighbour)
        with pytest.raises(FileExistsError):
            net.neighbour_add(neighbour)
        (there,) = [each for each in net.neighbours("a") if each.address == "10.0.0.7"]
        assert there._replace(rest=(), type=1) == neighbour  # the type is the kernel's to say
        net.neighbour_add(Neighbour(link.ifindex, "10.0.0.8", flags=8))
        assert [each.address for each in net.neighbours(proxies=True)] == ["10.0.0.8"]
        net.neighbour_delete(neighbour)
        assert all(each.address != "10.0.0.7" for each in net.neighbours("a"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bridge", {"ageing_time": 12300, "forward_delay": 1400, "stp_state": 0}),
        ("vxlan", {"id": 77, "port": 4789, "local": "10.0.0.1", "learning": 0}),
        ("geneve", {"id": 78, "remote": "10.0.0.2"}),
        ("ifb", {}),
    ],
)
def test_kinds_come_back(namespace: int, kind: str, options: dict[str, Any]) -> None:
    """A link of a kind has the options that it was made with."""
    with Rtnl(namespace) as net:
        link = kind_or_skip(net, "x0", kind, options=options, mtu=1400, alias="a b", group=3)
        assert (link.kind, link.mtu, link.alias, link.group) == (kind, 1400, "a b", 3)
        assert {name: link.option(name) for name in options} == options
        net.link_set("x0", new_name="y0", mtu=1300)
        assert net.link("y0").mtu == 1300
        net.link_delete("y0")
        assert net.find_link("y0") is None


def test_link_is_made_in_another_namespace(namespace: int, in_namespace: Inside) -> None:
    """One request makes a pair of links in two namespaces, with name, index and state."""
    seen: list[netlink.Link] = []
    with Rtnl(namespace) as there:
        kind_or_skip(there, "probe", "veth", peer={"name": "probe2"})

        def work() -> None:
            peer = {"name": "b", "namespace_fd": namespace, "index": 55}
            with Rtnl() as here:
                here.link_add("a", "veth", peer=peer, index=54, up=True)
                seen.append(there.link("b"))  # while this end is there: it goes with its namespace, and takes the peer

        in_namespace(work)
    assert (seen[0].name, seen[0].ifindex, seen[0].kind) == ("b", 55, "veth")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "sixteen-bytes-xx", ".", "..", "a:b", "x\0y"])
def test_bad_names_are_refused_here(namespace: int, name: str) -> None:
    """No name that the kernel would refuse, or read otherwise, leaves the program."""
    with Rtnl(namespace) as net:
        with pytest.raises(ValueError, match="name"):
            net.link_set(1, new_name=name)
        with pytest.raises(ValueError, match="name"):
            net.link(name) if len(name) < 16 else classic.network_change_name(1, name)


def test_bad_input_is_refused(namespace: int) -> None:
    """Masks, indexes, kinds and options that cannot be are refused, here or with the kernel's own words."""
    with Rtnl(namespace) as net:
        for address in ("10.0.0.1/33", "fd00::1/129", "10.0.0/8", "10.0.0.1/x", "10.0.0.1/-1"):
            with pytest.raises(ValueError, match=r"address|prefix"):
                net.address_add("lo", address)
        with pytest.raises(ValueError, match="counted from 1"):
            net.address_add(0, "10.0.0.1/8")
        with pytest.raises(ValueError, match="no option"):
            net.link_add("b", "bridge", options={"nonsense": 1})
        with pytest.raises(NetlinkError, match="Unknown device type"):
            net.link_add("b", "nonsense")
        with pytest.raises(NetlinkError) as caught:
            net.link("nowhere")
        assert caught.value.errno == ENODEV


def by_thread(where: netns.Where) -> KernelSocket:
    return KernelSocket(netns=where)


def by_fork(where: netns.Where) -> KernelSocket:
    """What a peer did: a child process joins, and sends the socket back."""
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings(action="ignore"):
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    ours.close()
    theirs.close()
    return KernelSocket(netns=where)


@pytest.mark.rule("N8", ours=by_thread, wrong=by_fork)
def test_no_fork_for_a_socket(
    namespace: int, monkeypatch: pytest.MonkeyPatch, subject: Callable[[netns.Where], KernelSocket]
) -> None:
    """A socket in another namespace is made without a process, and the caller's thread stays where it is."""
    forks: list[int] = []
    real = os.fork

    def counted() -> int:
        forks.append(1)
        return real()

    monkeypatch.setattr(os, "fork", counted)
    before = os.stat("/proc/thread-self/ns/net").st_ino
    subject(namespace).close()
    assert os.stat("/proc/thread-self/ns/net").st_ino == before != os.fstat(namespace).st_ino
    assert forks == []


@pytest.mark.rule("N+5")
def test_namespaces_by_fd_path_and_pid(namespace: int) -> None:
    """A descriptor, a path and a process all lead to the namespace meant, with threads running."""
    release = threading.Event()
    threading.Thread(target=release.wait).start()
    try:
        inodes = []
        for where in (namespace, f"/proc/self/fd/{namespace}"):
            with netns.run_in(where) as call:
                inodes.append(call(os.stat, "/proc/thread-self/ns/net").st_ino)
        assert inodes == [os.fstat(namespace).st_ino] * 2
        fd = netns.open_namespace(netns.Pid(os.getpid()))
        assert os.fstat(fd).st_ino == os.stat("/proc/self/ns/net").st_ino
        assert not netns.is_same_namespace(fd, namespace)
        os.close(fd)
    finally:
        release.set()


@pytest.mark.skipif(shutil.which("ip") is None, reason="not applicable: there is no ip(8) here")
@pytest.mark.rule("N+5")
def test_named_namespaces_are_those_of_ip(namespace: int) -> None:
    """`ip netns` sees a name made here, and the reverse; what failed leaves no file behind."""
    name = f"kernelproof-{os.getpid()}"
    try:
        netns.create_namespace(name)
    except OSError as error:
        pytest.skip(f"no named namespaces here: {error.strerror}")
    try:
        listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
        assert name in listed.split()
        assert name in netns.list_namespaces()
        with Rtnl(name) as net:
            assert [link.name for link in net.links()] == ["lo"]
        with pytest.raises(FileExistsError):
            netns.create_namespace(name)
    finally:
        netns.delete_namespace(name)
    assert name not in netns.list_namespaces()
    subprocess.run(["ip", "netns", "add", name], check=True)
    assert name in netns.list_namespaces()
    netns.delete_namespace(name)
    with pytest.raises(FileNotFoundError):
        netns.open_namespace(name)
    for bad in ("", "..", "a/b"):
        with pytest.raises(ValueError, match="no name"):
            netns.create_namespace(bad)


def filtered_here(net: Rtnl) -> list[Route]:
    """What peers did."""
    return [route for route in net.routes() if route.table == 100]


def filtered_there(net: Rtnl) -> tuple[Route, ...]:
    return net.routes(table=100)


@pytest.mark.rule("N13", ours=filtered_there, wrong=filtered_here)
def test_kernel_filters_routes(namespace: int, subject: Callable[[Rtnl], Iterable[Route]]) -> None:
    """Of two hundred routes the kernel sends those of the table asked for alone."""
    recorder = Recorder()
    with Connection(netns=namespace, recorder=recorder) as connection, Rtnl(connection=connection) as net:
        net.link_set("lo", up=True)
        wanted = [Route(f"10.1.{number}.0/24", oif=1, table=100, scope=253) for number in range(3)]
        other = [Route(f"10.2.{number}.0/24", oif=1, scope=253) for number in range(200)]
        net.batch(routes.add_route(route) for route in wanted + other)
        recorder.datagrams.clear()
        found = subject(net)
        assert {route.destination for route in found} == {route.destination for route in wanted}
    received = sum(len(list(parse_messages(each.data))) for each in recorder.datagrams if not each.out)
    assert received == len(wanted) + 1
