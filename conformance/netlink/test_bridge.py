"""Bridges and their ports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from kernelproof.conformance.netlink.conftest import Link, Refusal
    from kernelproof.conformance.seen import Seen

DEVICES = Path("/sys/class/net")


@behaviour("bridge.default.forward-delay", subject="stand-in")
def test_forward_delay_of_new_bridge(new_link: Link, seen: Seen) -> None:
    """A new bridge waits 15 seconds, 1500 hundredths, in each of the states listening and learning."""
    new_link("br0", "bridge")
    delay = int((DEVICES / "br0/bridge/forward_delay").read_text())
    assert seen(delay) == 1500


@behaviour("bridge.port.master-set-and-unset", subject="stand-in")
def test_port_is_taken_and_released(route: IPRoute, new_link: Link) -> None:
    """A device is a port of the bridge that IFLA_MASTER names, and of none once IFLA_MASTER is 0."""
    bridge = new_link("br0", "bridge")
    port = new_link("port0", "dummy")
    ports = DEVICES / "br0/brif"
    assert list(ports.iterdir()) == []

    route.link("set", index=port, master=bridge)
    assert [entry.name for entry in ports.iterdir()] == ["port0"]
    assert (DEVICES / "port0/master").resolve() == (DEVICES / "br0").resolve()

    route.link("set", index=port, master=0)
    assert list(ports.iterdir()) == []
    assert not (DEVICES / "port0/master").exists()


@behaviour("bridge.limit.group-fwd-mask", subject="stand-in")
def test_group_forward_mask_restricts_three_bits(
    route: IPRoute, new_link: Link, refusal_of: Refusal, seen: Seen
) -> None:
    """A group forward mask with bit 0, 1 or 2 is refused with EINVAL, and the one of all other bits is taken."""
    bridge = new_link("br0", "bridge")
    mask = DEVICES / "br0/bridge/group_fwd_mask"

    def set_mask(bits: int) -> str:
        return refusal_of(route.link, "set", index=bridge, kind="bridge", br_group_fwd_mask=bits)

    answers = [set_mask(1 << bit) for bit in (0, 1, 2)]
    assert seen(answers) == ["EINVAL"] * 3
    assert int(mask.read_text(), 16) == 0
    assert set_mask(0xFFF8) == "no error"
    assert int(mask.read_text(), 16) == 0xFFF8
