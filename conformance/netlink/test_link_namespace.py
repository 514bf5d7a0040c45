"""Devices and network namespaces: moved, known by ids, gone with them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.raw import U32
from kernelproof.conformance.netlink.shown import ip_json, link_of, names, outcome
from kernelproof.impl.netlink import (
    Pid,
    Rtnl,
    create_namespace,
    delete_namespace,
    namespace_ids,
    open_namespace,
    run_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyroute2 import IPRoute

    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.netlink.conftest import Settled
    from kernelproof.conformance.seen import Seen


@pytest.fixture
def other() -> Iterator[int]:
    """A descriptor of a network namespace with the name "other"."""
    create_namespace("other")
    where = open_namespace("other")
    yield where
    os.close(where)


def in_namespace(where: str | int | Pid) -> set[str]:
    """Return the devices of a network namespace, as a thread inside lists them."""
    with run_in(where) as call:
        return {found[1] for found in call(socket.if_nameindex)}


def pair(net: Rtnl) -> None:
    """Make the two ends "left" and "right"."""
    net.link_add("left", "veth", peer={"name": "right"})


@behaviour("link.netns.loopback-refused", subject="impl")
def test_loopback_device_stays(net: Rtnl, other: int, seen: Seen) -> None:
    """The loopback device can't be moved to another namespace."""
    answer = outcome(net.request, raw.link((28, U32(other)), index=1))
    assert outcome(net.link_set, "lo", namespace_fd=other) == answer
    assert "lo" in names()
    assert seen(answer) == "EINVAL"


@behaviour("link.netns.bridge-refused", subject="impl")
def test_bridge_stays(net: Rtnl, other: int, seen: Seen) -> None:
    """A bridge can't be moved to another namespace."""
    index = net.link_add("br0", "bridge").ifindex
    answer = outcome(net.request, raw.link((28, U32(other)), index=index))
    assert outcome(net.link_set, "br0", namespace_fd=other) == answer
    assert "br0" in names()
    assert in_namespace("other") == {"lo"}
    assert seen(answer) == "EINVAL"


@behaviour("link.netns.move-by-pid", subject="impl")
def test_device_is_moved_to_a_process(net: Rtnl, bystander: Bystander, other: int) -> None:
    """IFLA_NET_NS_PID moves a device to the namespace that the process is in."""
    pair(net)
    with run_in("other") as call:
        pid = call(bystander)
    net.link_set("left", namespace_pid=pid)
    assert "left" not in names()
    assert "right" in names()
    assert in_namespace(Pid(pid)) == in_namespace("other") == {"lo", "left"}
    answer = outcome(net.request, raw.link((19, U32(0x3FFFFFFF)), index=net.index_of("right")))
    assert outcome(net.link_set, "right", namespace_pid=0x3FFFFFFF) == answer == "ESRCH"


@behaviour("link.netns.move-by-fd", subject="impl")
def test_device_is_moved_by_descriptor(net: Rtnl, bystander: Bystander, other: int) -> None:
    """IFLA_NET_NS_FD moves a device to the namespace of a file: a mounted one, or one of /proc."""
    pair(net)
    net.link_set("left", namespace_fd=other)
    assert in_namespace("other") == {"lo", "left"}
    with run_in("other") as call:
        pid = call(bystander)
    where = open_namespace(Pid(pid))
    net.link_set("right", namespace_fd=where)
    os.close(where)
    assert in_namespace("other") == {"lo", "left", "right"}
    assert not {"left", "right"} & names()
    with open(os.devnull, "rb") as nothing:
        answer = outcome(net.request, raw.link((28, U32(nothing.fileno())), index=1))
    assert answer == "EINVAL"


@behaviour("link.netns.id-assigned-once", subject="impl")
def test_id_is_given_once(net: Rtnl, other: int, seen: Seen) -> None:
    """A namespace that has an id keeps it: another is refused."""
    net.namespace_id_set("other", 7)
    answer = outcome(net.request, raw.namespace_id(other, 8))
    assert outcome(net.request, namespace_ids.set_namespace_id(8, fd=other)) == answer
    assert id_shown("other") == 7
    assert seen(answer) == "EEXIST"


def id_shown(name: str) -> int | None:
    """Return the id of a namespace as `ip netns list-id` shows it."""
    return next((entry["nsid"] for entry in ip_json("netns", "list-id") if entry.get("name") == name), None)


@behaviour("link.netns.id-shown-for-peer", subject="impl")
def test_id_of_the_peer_s_namespace(net: Rtnl, observer: IPRoute, other: int) -> None:
    """A device tells the id of the namespace that its far end is in."""
    net.namespace_id_set("other", 7)
    pair(net)
    assert link_of(observer, "left").get_attr("IFLA_LINK_NETNSID") is None
    net.link_set("right", namespace_fd=other)
    assert link_of(observer, "left").get_attr("IFLA_LINK_NETNSID") == 7


@behaviour("link.netns.id-auto-assigned", subject="impl")
def test_id_is_given_by_the_kernel(net: Rtnl, observer: IPRoute, other: int) -> None:
    """A namespace without an id gets one when a far end moves there."""
    pair(net)
    assert id_shown("other") is None
    net.link_set("right", namespace_fd=other)
    number = link_of(observer, "left").get_attr("IFLA_LINK_NETNSID")
    assert number >= 0
    assert id_shown("other") == number


@behaviour("link.netns.id-local", subject="impl")
def test_id_is_a_matter_of_who_gives_it(net: Rtnl, other: int) -> None:
    """An id that one namespace gave is unknown in a third one, which gives another."""
    create_namespace("third")
    net.namespace_id_set("other", 7)
    with Rtnl(netns="third") as third, run_in("third") as call:
        assert call(id_shown, "other") is None
        third.namespace_id_set("other", 9)
        assert call(id_shown, "other") == 9
    assert id_shown("other") == 7


@behaviour("link.veth.peer-dies-with-namespace", subject="impl")
def test_far_end_goes_with_its_namespace(net: Rtnl, settled: Settled) -> None:
    """A device is removed when the namespace of its far end is freed."""
    create_namespace("short")
    pair(net)
    where = open_namespace("short")
    net.link_set("right", namespace_fd=where)
    os.close(where)
    assert "left" in names()
    delete_namespace("short")
    assert settled(lambda: "left" in names(), False) is False
