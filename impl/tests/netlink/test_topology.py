"""Plans of a topology, and the command line beside `ip -j`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from errno import EIO, EOPNOTSUPP
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.mount import umount2
from kernelproof.impl.netlink.__main__ import main
from kernelproof.impl.netlink.connection import Answer
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.links import add_link, delete_link
from kernelproof.impl.netlink.netns import create_namespace, delete_namespace, list_namespaces
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.steps import Places, apply, undo
from kernelproof.impl.netlink.topology import Current, LinkWanted, Topology, applied, plan, read_current, read_places

WANTED = Topology(
    links=(LinkWanted("br0", "bridge", up=True, mtu=1400), LinkWanted("v0", "veth", peer="v1", master="br0", up=True)),
    addresses=(("br0", "10.0.41.1/16"),),
    routes=(Route("10.9.0.0/16", gateway="10.0.41.2"),),
)
NOTHING = Current((), frozenset(), ())


def skip_without_bridges(net: Rtnl) -> None:
    try:
        net.request(add_link("probe", "bridge"))
    except NetlinkError as error:
        if error.errno == EOPNOTSUPP:
            pytest.skip("this kernel has no bridges")
        raise
    net.link_delete("probe")


@pytest.mark.rule("N+3")
def test_plan_is_text_before_it_is_done() -> None:
    """A plan is a row of steps that can be read, without a kernel."""
    assert [step.describe() for step in plan(NOTHING, WANTED)] == [
        "link add br0 bridge",
        "link add v0 veth peer {'name': 'v1'} master br0",
        "link set br0 mtu 1400",
        "link set br0 up True",
        "link set v0 up True",
        "address add br0 10.0.41.1/16",
        "route add 10.9.0.0/16 via 10.0.41.2 table 254",
    ]


@pytest.mark.rule("N+3")
def test_applying_twice_is_applying_once(namespace: int) -> None:
    """What is as wanted needs no steps, and at the end of the with statement all is as before."""
    with Rtnl(namespace) as net:
        skip_without_bridges(net)
        before = {link.name for link in net.links()}
        with applied(net, WANTED):
            assert plan(read_current(net), WANTED) == ()
            assert net.link("v0").master == net.link("br0").ifindex
        assert {link.name for link in net.links()} == before
        with pytest.raises(ValueError, match="no bridge"):
            plan(read_current(net), Topology(links=(LinkWanted("lo", "bridge"),)))


@pytest.mark.rule("N+3")
def test_failed_step_leaves_nothing_behind(namespace: int) -> None:
    """A step that the kernel refuses undoes those before it, and says which it was."""
    bad = WANTED._replace(routes=(*WANTED.routes, Route("10.10.0.0/16", gateway="192.0.2.1")))
    with Rtnl(namespace) as net:
        skip_without_bridges(net)
        before = read_current(net)
        with pytest.raises(NetlinkError) as caught:
            apply(net, plan(before, bad))
        after = read_current(net)
    assert "step: route add 10.10.0.0/16 via 192.0.2.1 table 254" in caught.value.__notes__
    assert seen(after) == seen(before)


WIDE = Topology(
    links=(
        LinkWanted(
            "v0", "veth", peer="eth0", peer_namespace="blue", master="br0", up=True, settings=(("alias", "a b"),)
        ),
        LinkWanted("br0", "bridge", up=True, mtu=1400),
        LinkWanted("lo", up=True),
    ),
    addresses=(("br0", "10.0.41.1/16"), ("br0", "fd41::0001/64")),
    routes=(Route("10.9.0.0/16", gateway="10.0.41.2"),),
    namespaces=(
        (
            "blue",
            Topology(
                links=(LinkWanted("eth0", "veth", up=True, mtu=1400), LinkWanted("lo", up=True)),
                addresses=(("eth0", "10.0.41.2/16"),),
                routes=(Route("0.0.0.0/0", gateway="10.0.41.1"),),
            ),
        ),
        ("red", Topology(links=(LinkWanted("r0", "veth", peer="eth1", peer_namespace="blue"),))),
    ),
)


def seen(current: Current) -> object:
    """What of a namespace is to be as before; addresses of IPv6 that the kernel makes come and go by themselves."""
    links = [(link.name, link.kind, link.flags, link.mtu, link.master, link.alias) for link in current.links]
    addresses = sorted(pair for pair in current.addresses if not pair[1].startswith("fe80"))
    routes = sorted(route.destination for route in current.routes if "fe80" not in route.destination)
    return links, addresses, [route for route in routes if route != "ff00::/8"]


def test_plan_of_several_namespaces_is_text() -> None:
    """Namespaces come first, masters before their ports, and the other end of a pair is set where it stands."""
    assert [step.describe() for step in plan(NOTHING._replace(links=()), WIDE._replace(links=WIDE.links[:2]))] == [
        "namespace add blue",
        "namespace add red",
        "link add br0 bridge",
        "link add v0 veth alias a b peer {'name': 'eth0', 'namespace': 'blue'} master br0",
        "in red: link add r0 veth peer {'name': 'eth1', 'namespace': 'blue'}",
        "link set br0 mtu 1400",
        "in blue: link set eth0 mtu 1400",
        "link set v0 up True",
        "link set br0 up True",
        "in blue: link set eth0 up True",
        "in blue: link set lo up True",
        "address add br0 10.0.41.1/16",
        "address add br0 fd41::1/64",
        "in blue: address add eth0 10.0.41.2/16",
        "route add 10.9.0.0/16 via 10.0.41.2 table 254",
        "in blue: route add 0.0.0.0/0 via 10.0.41.1 table 254",
    ]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Topology(namespaces=(("a", Topology(namespaces=(("b", Topology()),))),)), "side by side"),
        (Topology(links=(LinkWanted("a", "veth", peer="b", peer_namespace="c"),)), "which the topology lacks"),
        (Topology(links=(LinkWanted("a", "bridge", master="b"), LinkWanted("b", "bridge", master="a"))), "each other"),
        (Topology(addresses=(("a", "10.0.0.1/33"),)), "0 to 32"),
        (Topology(routes=(Route("10.0.0.0/8", gateway="nowhere"),)), "no IP address"),
    ],
    ids=["nested", "no-such-place", "circle", "length", "gateway"],
)
def test_plan_refuses_what_cannot_be(wanted: Topology, why: str) -> None:
    """A topology that cannot be is refused before the first step."""
    with pytest.raises(ValueError, match=why):
        plan(NOTHING._replace(routes=(Route("10.1.0.0/16"),)), wanted)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A folder for named namespaces; skipped where none can be made."""
    where = str(tmp_path / "netns")
    try:
        create_namespace("probe", directory=where)
        delete_namespace("probe", directory=where)
    except OSError as error:
        pytest.skip(f"no named namespaces here: {error.strerror}")
    return where


@pytest.fixture
def unmounted(directory: str) -> Iterator[str]:
    """The same, unmounted at the end so that the folder can be removed."""
    yield directory
    umount2(directory, 2)


@pytest.mark.rule("N+3")
def test_several_namespaces_are_had_and_gone(namespace: int, unmounted: str) -> None:
    """Inside the with statement all places are as wanted and nothing is left to do; after it all is as before."""
    with Rtnl(namespace) as net:
        skip_without_bridges(net)
        net.link_set("lo", up=True)  # its addresses stay for ever
        before = read_current(net)
        with WIDE.applied(namespace, directory=unmounted) as steps:
            with Places(namespace, directory=unmounted) as places:
                assert plan(read_places(places, WIDE), WIDE) == ()
                assert places.net("blue").route_get("10.0.41.1").oif == places.net("blue").index_of("eth0")
                assert places.net("blue").find_link("eth1") is not None
            assert net.link("v0").alias == "a b"
            assert len(steps) == 16
        assert list_namespaces(directory=unmounted) == ()
        assert seen(read_current(net)) == seen(before)


class Failing(Rtnl):
    """A connection whose n-th change is refused, wherever it is made."""

    left = 0

    def request(self, request: Request) -> Answer:
        if request.type & 3 != 2:  # no RTM_GET
            type(self).left -= 1
            if type(self).left == 0:
                raise NetlinkError(EIO, "injected", request=request.words)
        return super().request(request)


def failure_at(number: int, namespace: int, directory: str, wanted: Topology) -> NetlinkError | None:
    """Do all with a failure at the n-th change, and return it; None, and all undone, where there are fewer changes."""
    Failing.left = number
    with Places(namespace, directory=directory, connect=Failing) as places:
        try:
            done = apply(places, plan(read_places(places, wanted), wanted))
        except NetlinkError as error:
            return error
        Failing.left = 0
        assert undo(places, done) == ()
    return None


@pytest.mark.rule("N+3")
def test_failure_at_each_step_is_undone(namespace: int, unmounted: str) -> None:
    """Whichever change is refused, its error comes out, and all places are as before it."""
    with Rtnl(namespace) as net:
        skip_without_bridges(net)
        net.link_set("lo", up=True)
        net.link_add("old0", "veth", peer={"name": "old1"}, mtu=1300)
        wanted = WIDE._replace(links=(*WIDE.links, LinkWanted("old0", "veth", mtu=1350, up=True, master="br0")))
        before = read_current(net)
        failures = 0
        while (error := failure_at(failures + 1, namespace, unmounted, wanted)) is not None:
            assert error.message == "injected"
            assert [note for note in error.__notes__ if note.startswith("not undone")] == []
            assert error.__notes__[0].startswith("step: ")
            assert list_namespaces(directory=unmounted) == ()
            assert seen(read_current(net)) == seen(before)
            failures += 1
        assert failures == 18  # all changes, of which the alias is a second one of its step
        assert seen(read_current(net)) == seen(before)


@pytest.mark.rule("N+3")
def test_error_in_the_block_comes_out(namespace: int) -> None:
    """What goes wrong while a topology is there reaches the caller, with all as it was before."""
    wanted = Topology(links=(LinkWanted("a0", "veth", peer="b0"),))
    with Rtnl(namespace) as net:
        before = {link.name for link in net.links()}
        with pytest.raises(KeyError), applied(net, wanted):
            raise KeyError
        assert {link.name for link in net.links()} == before


def test_what_cannot_be_undone_is_told(namespace: int, unmounted: str) -> None:
    """A failure of the undoing is a note on the first error, and an error of its own where there was none."""

    class Stuck(Rtnl):
        def link_delete(self, link: Any) -> None:
            raise NetlinkError(EIO, "stuck")

    wanted = Topology(links=(LinkWanted("a0", "veth", peer="b0"), LinkWanted("c0", "no-such-kind")))
    with Places(namespace, directory=unmounted, connect=Stuck) as places:
        with pytest.raises(NetlinkError, match="Unknown device type") as caught:
            apply(places, plan(read_places(places, wanted), wanted))
        assert any(note.startswith("not undone: link add a0 veth") for note in caught.value.__notes__)
        places.net("").request(delete_link("a0"))
        one = wanted._replace(links=wanted.links[:1])
        with pytest.raises(RuntimeError, match="not undone: link add a0"), applied(places.net(""), one):
            pass


@pytest.mark.skipif(shutil.which("ip") is None, reason="not applicable: there is no ip(8) here")
@pytest.mark.parametrize("what", ["link", "addr", "route", "neigh", "rule"])
def test_json_is_that_of_ip(
    in_namespace: Callable[[Callable[[], object]], None], capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Keys that both print have the same values."""

    def work() -> None:
        with Rtnl() as net:
            skip_without_bridges(net)
            net.link_set("lo", up=True)
            apply(net, plan(read_current(net), WANTED))
        capsys.readouterr()
        assert main([what, "--json", *(["-4"] if what == "rule" else [])]) == 0
        ours = json.loads(capsys.readouterr().out)
        theirs: list[Any] = []
        for family in ("-4", "-6") if what == "route" else ("-4",) if what == "rule" else ("-0",):
            command = ["ip", "-j", *([] if family == "-0" else [family]), what, "show"]
            theirs += json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            shared = one.keys() & other.keys() - {"addr_info", "flags" if what == "route" else ""}
            assert {key: one[key] for key in shared} == {key: other[key] for key in shared}
            assert len(shared) >= 2
            for mine, its in zip(one.get("addr_info", []), other.get("addr_info", []), strict=True):
                both = mine.keys() & its.keys()
                assert {key: mine[key] for key in both} == {key: its[key] for key in both}

    in_namespace(work)


def test_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace that is not there is one line and status 1."""
    assert main(["link", "--netns", "nowhere-at-all"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
