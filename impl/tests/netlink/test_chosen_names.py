"""Links whose name the kernel chooses: which of a pair is returned, and gets what is set afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.rtnl import Rtnl


@pytest.mark.parametrize("name", ["", "near%d"], ids=["any", "pattern"])
@pytest.mark.parametrize(
    ("far", "index"),
    [({"name": "far"}, 0), ({"name": "far%d"}, 0), ({}, 0), ({"name": "far", "index": 900}, 70), ({"index": 900}, 70)],
    ids=["named", "pattern", "any", "indexes", "index"],
)
def test_of_a_pair_the_near_end_is_returned(namespace: int, name: str, far: dict[str, Any], index: int) -> None:
    """The link that was asked for is returned and has the alias, whatever its other end is called."""
    with Rtnl(namespace) as net:
        try:
            net.link_add("before", "veth", peer={"name": "behind"})
        except NetlinkError as error:
            pytest.skip(f"no pairs of links here: {error}")
        there = {link.ifindex for link in net.links()}
        made = net.link_add(name, "veth", peer={**far, "mtu": 1300}, alias="near", mtu=1400, index=index)
        (other,) = [link for link in net.links() if link.ifindex not in there | {made.ifindex}]
    assert (made.mtu, made.alias, made.parent) == (1400, "near", other.ifindex)
    assert (other.mtu, other.alias) == (1300, "")
