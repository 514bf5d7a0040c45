"""Links of every kind, in a machine whose kernel has them all; the article's example in full."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kernelproof.impl import netlink
from kernelproof.impl.netlink import Rtnl
from kernelproof.impl.netlink.__main__ import main

pytestmark = pytest.mark.machine(profile="plain")

# Kind, options, and those of Rtnl.link_add besides; the link below is the dummy "low".
KINDS: list[tuple[str, dict[str, Any], bool]] = [
    ("dummy", {}, False),
    ("bridge", {"ageing_time": 12300, "vlan_filtering": 1, "stp_state": 0}, False),
    ("veth", {}, False),
    ("vlan", {"id": 32, "protocol": 0x8100}, True),
    ("macvlan", {"mode": 4}, True),
    ("macvtap", {"mode": 1}, True),
    ("ipvlan", {"mode": 1}, True),
    ("vxlan", {"id": 77, "port": 4789, "local": "10.0.0.1", "learning": 0}, False),
    ("vxlan", {"id": 79, "port": 4789, "local": "10.0.0.1", "ttl_inherit": 1, "gbp": 1}, False),
    ("geneve", {"id": 78, "remote": "10.0.0.2"}, False),
    ("gre", {"local": "10.0.0.1", "remote": "10.0.0.2", "ttl": 64}, False),
    ("ipip", {"local": "10.0.0.1", "remote": "10.0.0.2", "ttl": 64}, False),
    ("sit", {"local": "10.0.0.1", "remote": "10.0.0.2", "ttl": 64}, False),
    ("bond", {"mode": 1, "miimon": 100}, False),
    ("vrf", {"table": 1001}, False),
    ("ifb", {}, False),
    ("wireguard", {}, False),
    ("gretap", {"local": "10.0.0.1", "remote": "10.0.0.2", "ttl": 64}, False),
    ("ip6tnl", {"local": "fd00::1", "remote": "fd00::2", "ttl": 64}, False),
    ("ip6gre", {"local": "fd00::1", "remote": "fd00::2", "ttl": 64}, False),
]


@pytest.mark.parametrize(
    ("kind", "options", "above"), KINDS, ids=[f"{kind}-{number}" for number, (kind, _, _) in enumerate(KINDS)]
)
def test_kind_comes_back(kind: str, options: dict[str, Any], above: bool) -> None:
    """A link has the kind, options, parent and alias that it was made with, and `ip` sees the same kind."""
    with Rtnl() as net:
        low = net.link_add("low", "dummy", up=True)
        settings: dict[str, Any] = {"parent": low} if above else {}
        link = net.link_add("x0", kind, options=options, alias="of the test", **settings)
        assert (link.kind, link.alias) == (kind, "of the test")
        assert {name: link.option(name) for name in options} == options
        assert link.parent == low.ifindex if above else True
        done = subprocess.run(["ip", "-j", "-d", "link", "show", "x0"], check=True, capture_output=True)
        (shown,) = json.loads(done.stdout)
        assert shown["linkinfo"]["info_kind"] == kind
        net.link_delete("x0")
        assert net.find_link("x0") is None


def test_example_of_2014_in_full() -> None:
    """`ip a` of a machine that the article's example ran in: what was there before, and the bridge."""

    def addresses() -> str:
        text = subprocess.run(["ip", "a"], check=True, capture_output=True, text=True).stdout
        return re.sub(r" {4}inet6 .*\n .*\n", "", text)  # the kernel adds those of IPv6 in its own time

    before = addresses()
    netlink.create_bridge("mydocker0", set_mac_address=False)
    netlink.network_link_add_ip("mydocker0", "10.0.41.1/16")
    netlink.network_link_up("mydocker0")
    after = addresses()
    assert after.startswith(before)
    text = re.sub(r"state [A-Z]+", "state ANY", after.removeprefix(before))  # its carrier comes late
    index, text = text.split(":", 1)
    assert int(index) > 1
    assert re.sub(r"link/ether (?:[0-9a-f]{2}:){5}[0-9a-f]{2} ", "link/ether MAC ", text) == (
        " mydocker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state ANY group default qlen 1000\n"
        "    link/ether MAC brd ff:ff:ff:ff:ff:ff\n"
        "    inet 10.0.41.1/16 scope global mydocker0\n"
        "       valid_lft forever preferred_lft forever\n"
    )


def scene() -> ModuleType:
    """The module that makes one of everything, as for the recorded lists."""
    path = Path(__file__).resolve().parents[4] / "fixtures" / "netlink" / "scene.py"
    spec = importlib.util.spec_from_file_location("scene", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS: dict[str, list[str]] = {
    "link": ["link", "-d"],
    "addr": ["addr", "-d"],
    "route": ["route", "-d", "-4", "--table", "all"],
    "route6": ["route", "-d", "-6", "--table", "all"],
    "rule": ["rule", "-d", "-4"],
    "rule6": ["rule", "-d", "-6"],
    "neigh": ["neigh", "-d"],
    "netns": ["netns"],
}


def test_command_prints_what_ip_prints(check_shown: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """One of everything: the command's JSON is that of `ip -j -d`, but for the keys that are listed with a reason."""
    made = scene()
    made.make_all()
    made.settle()
    for name, words in COMMANDS.items():
        capsys.readouterr()
        assert main([*words, "--json"]) == 0, name
        ours = json.loads(capsys.readouterr().out)
        done = subprocess.run(made.PRINTED[name], check=True, capture_output=True)
        other = json.loads(done.stdout or "[]")
        assert len(ours) >= 1, name
        if name == "addr":
            check_shown("link", ours, other)
            ours, other = ([each for row in rows for each in row["addr_info"]] for rows in (ours, other))
        check_shown(name.removesuffix("6"), ours, other)


def test_command_makes_and_removes_namespaces(capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace made by the command is one for ip(8), and gone when the command removes it."""
    assert main(["netns", "add", "blue"]) == 0
    done = subprocess.run(["ip", "netns", "exec", "blue", "true"], check=False)
    assert done.returncode == 0
    assert main(["netns", "add", "blue"]) == 1
    assert main(["netns", "delete", "blue"]) == 0
    capsys.readouterr()
    assert main(["netns", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
