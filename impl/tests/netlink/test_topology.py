"""Plans of a topology, and the command line beside `ip -j`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from errno import EOPNOTSUPP
from typing import Any

import pytest

from kernelproof.impl.netlink.__main__ import main
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.links import add_link
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.topology import Current, LinkWanted, Topology, applied, apply, plan, read_current

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
        "link set br0 mtu 1400",
        "link add v0 veth peer {'name': 'v1'} master br0",
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
    assert [link.name for link in after.links] == [link.name for link in before.links]
    assert (after.addresses, after.routes) == (before.addresses, before.routes)


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
        assert main([what, "--json"]) == 0
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
