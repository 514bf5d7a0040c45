"""Pairs of virtual Ethernet devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from pyroute2 import IPRoute

DEVICES = Path("/sys/class/net")


@behaviour("link.create.veth-pair", subject="stand-in")
def test_veth_ends_name_each_other(route: IPRoute) -> None:
    """One request makes both ends of a veth pair, and each is linked to the other's index."""
    before = {device.name for device in DEVICES.iterdir()}
    route.link("add", ifname="left", kind="veth", peer={"ifname": "right"})

    assert {device.name for device in DEVICES.iterdir()} - before == {"left", "right"}
    index = {name: int((DEVICES / name / "ifindex").read_text()) for name in ("left", "right")}
    linked = {name: int((DEVICES / name / "iflink").read_text()) for name in ("left", "right")}
    assert linked == {"left": index["right"], "right": index["left"]}
