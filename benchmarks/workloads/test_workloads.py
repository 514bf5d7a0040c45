"""What the benchmarks measure: each item is a machine of its own. Not part of any test run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from pyroute2 import IPRoute

MOST_ROUNDS = 50

pytestmark = [pytest.mark.machine, pytest.mark.parametrize("turn", range(MOST_ROUNDS))]


def test_bridge_veth(turn: int) -> None:
    """A bridge and a veth pair made with pyroute2, one end its port, seen in /sys."""
    with IPRoute() as route:
        route.link("add", ifname="br0", kind="bridge")
        route.link("add", ifname="left", kind="veth", peer={"ifname": "right"})
        (bridge,) = route.link_lookup(ifname="br0")
        (left,) = route.link_lookup(ifname="left")
        route.link("set", index=left, master=bridge, state="up")
    assert Path("/sys/class/net/br0/brif/left").exists()


def test_sleep_five_seconds(turn: int) -> None:
    """Five seconds of waiting, which virtual time jumps over."""
    began = time.monotonic()
    time.sleep(5)
    assert time.monotonic() - began >= 5


def test_subprocess(turn: int) -> None:
    """One command."""
    subprocess.run(["ip", "-V"], check=True, stdout=subprocess.DEVNULL, timeout=60)
