"""Devices: made, renamed, set up, removed by group, found by another name."""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, ifreq, raw
from kernelproof.conformance.netlink.raw import CREATE, EXCL, U32
from kernelproof.conformance.netlink.shown import DEVICES, device_flags, link_of, names, number_of, outcome
from kernelproof.impl.netlink import Rtnl, create_namespace, links, open_namespace, run_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyroute2 import IPRoute

    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.seen import Seen

UP, LOWER_UP = 0x1, 0x10000


def in_namespace(name: str) -> set[str]:
    """Return the devices of a network namespace, as a thread inside lists them."""
    with run_in(name) as call:
        return {found[1] for found in call(socket.if_nameindex)}


@behaviour("link.create.veth-pair", subject="impl")
def test_veth_ends_name_each_other(net: Rtnl) -> None:
    """One request makes both ends of a veth pair, and each is linked to the other's index."""
    before = names()
    net.request(links.add_link("left", "veth", peer={"name": "right"}))
    assert names() - before == {"left", "right"}
    index = {name: number_of(f"{name}/ifindex") for name in ("left", "right")}
    linked = {name: number_of(f"{name}/iflink") for name in ("left", "right")}
    assert linked == {"left": index["right"], "right": index["left"]}


@behaviour("link.create.index-chosen", subject="impl")
def test_index_can_be_chosen(net: Rtnl) -> None:
    """A device has the index that it was made with."""
    net.link_add("br0", "bridge", index=4242)
    assert number_of("br0/ifindex") == 4242


@behaviour("link.create.index-busy", subject="impl")
def test_index_of_another_is_refused(net: Rtnl, seen: Seen) -> None:
    """No device can be made with the index of another."""
    index = net.link_add("port0", "dummy").ifindex
    before = names()
    answer = outcome(net.request, raw.link((3, b"port1\0"), raw.kind("dummy"), how=CREATE | EXCL, index=index))
    assert outcome(net.link_add, "port1", "dummy", index=index) == answer
    assert names() == before
    assert seen(answer) == "EEXIST"


@behaviour("link.create.in-other-namespace", subject="impl")
def test_device_is_made_in_another_namespace(net: Rtnl) -> None:
    """A device that is made with IFLA_NET_NS_FD is in that namespace, and not in the caller's."""
    create_namespace("other")
    before = names()
    where = open_namespace("other")
    net.request(links.add_link("port0", "dummy", namespace_fd=where))
    os.close(where)
    assert names() == before
    assert in_namespace("other") == {"lo", "port0"}


@behaviour("link.create.veth-ends-in-two-namespaces", subject="impl")
def test_ends_are_made_in_two_namespaces(net: Rtnl) -> None:
    """One request makes each end of a veth pair in a namespace of its own."""
    before = names()
    for name in ("one", "two"):
        create_namespace(name)
    one, two = open_namespace("one"), open_namespace("two")
    net.request(links.add_link("left", "veth", namespace_fd=one, peer={"name": "right", "namespace_fd": two}))
    os.close(one)
    os.close(two)
    assert names() == before
    assert in_namespace("one") == {"lo", "left"}
    assert in_namespace("two") == {"lo", "right"}


@behaviour("link.create.needs-net-admin", subject="impl")
def test_device_is_made_with_privilege_only(
    net: Rtnl, unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen
) -> None:
    """A process without CAP_NET_ADMIN can't make a device, by number or by name."""
    before = names()

    def make() -> list[str]:
        with Rtnl() as own:
            by_number = raw.link((3, b"port0\0"), raw.kind("dummy"), how=CREATE | EXCL)
            return [outcome(own.request, by_number), outcome(own.link_add, "port0", "dummy")]

    answers = unprivileged(make)
    assert names() == before
    assert make() == ["no error", "EEXIST"]
    assert names() == before | {"port0"}
    assert seen(answers) == ["EPERM", "EPERM"]


@behaviour("link.create.default-txqlen", subject="impl")
def test_queue_of_new_device(net: Rtnl, seen: Seen) -> None:
    """A new veth device has a transmit queue of 1000 frames."""
    net.link_add("left", "veth", peer={"name": "right"})
    assert seen([number_of(f"{name}/tx_queue_len") for name in ("left", "right")]) == [1000, 1000]


@behaviour("link.create.default-mtu", subject="impl")
def test_mtu_of_new_device(net: Rtnl, seen: Seen) -> None:
    """A new veth device has an MTU of 1500."""
    net.link_add("left", "veth", peer={"name": "right"})
    assert seen([number_of(f"{name}/mtu") for name in ("left", "right")]) == [1500, 1500]


@behaviour("link.create.default-group", subject="impl")
def test_group_of_new_device(net: Rtnl, seen: Seen) -> None:
    """A new device is in group 0, unless it was made in another."""
    net.link_add("port0", "dummy")
    net.link_add("port1", "dummy", group=7)
    assert seen([number_of(f"{name}/netdev_group") for name in ("port0", "port1")]) == [0, 7]


@behaviour("link.create.name-assign-type", subject="impl")
def test_origin_of_the_name(net: Rtnl, seen: Seen) -> None:
    """name_assign_type is 3 for a name that was given, and 4 for one that the device got afterwards."""
    net.link_add("port0", "dummy")
    given = number_of("port0/name_assign_type")
    net.link_set("port0", new_name="port1")
    assert seen([given, number_of("port1/name_assign_type")]) == [3, 4]


@behaviour("link.create.addr-assign-type", subject="impl")
def test_origin_of_the_address(net: Rtnl, seen: Seen) -> None:
    """addr_assign_type is 1 for a random address, and 3 for one that was set."""
    net.link_add("left", "veth", peer={"name": "right"})
    random = number_of("left/addr_assign_type")
    net.link_set("left", mac="02:00:00:00:00:01")
    assert (DEVICES / "left/address").read_text() == "02:00:00:00:00:01\n"
    assert seen([random, number_of("left/addr_assign_type")]) == [1, 3]


@behaviour("link.rename.while-up", subject="impl")
def test_device_that_is_up_keeps_its_name(net: Rtnl, seen: Seen) -> None:
    """A device that is up can't be renamed, by ioctl(2) or by netlink, and one that is down can."""
    first, second = (net.link_add(name, "dummy", up=True).ifindex for name in ("port0", "port1"))
    answers = [
        outcome(ifreq.ask, ifreq.SIOCSIFNAME, "port0", b"port2\0"),
        outcome(net.request, raw.link((3, b"port3\0"), index=second)),
    ]
    for index, name in ((first, "port4"), (second, "port5")):
        net.link_set(index, up=False)
        net.link_set(index, new_name=name)
        assert number_of(f"{name}/ifindex") == index
    assert seen(answers) == ["EBUSY", "EBUSY"]


@behaviour("link.rename.notified", subject="impl")
def test_new_name_is_told(net: Rtnl, opened: Open) -> None:
    """A renamed device is told of with its old index and its new name."""
    index = net.link_add("port0", "dummy").ifindex
    own = opened(groups=(1,))
    net.link_set("port0", new_name="port1")
    messages = [message for datagram in heard.datagrams(own) for message in heard.take_apart(datagram)]
    told = {
        (struct.unpack_from("=i", message.payload, 4)[0], heard.attributes(message.payload[16:])[3])
        for message in messages
        if message.type == links.NEWLINK
    }
    assert told == {(index, b"port1\0")}


@behaviour("link.flags.up-down", subject="impl")
def test_up_is_what_somebody_asked_for(net: Rtnl) -> None:
    """A veth device can be up without carrier, and is not up when it was set down."""
    net.link_add("left", "veth", peer={"name": "right"})
    for up in (True, False):
        net.link_set("left", up=up)
        assert bool(number_of("left/flags") & UP) is up
        assert not device_flags("left") & LOWER_UP
    net.link_set("left", up=True)
    assert number_of("left/carrier") == 0


@behaviour("link.group.delete", subject="impl")
def test_group_is_removed(net: Rtnl) -> None:
    """RTM_DELLINK with a group removes all devices of that group, and no other."""
    before = names()
    for name, group in (("port0", 7), ("port1", 7), ("port2", 8), ("port3", 0)):
        net.link_add(name, "dummy", group=group)
    net.request(raw.link((27, U32(7)), type=links.DELLINK))
    assert names() - before == {"port2", "port3"}


@behaviour("link.group.delete-default-refused", subject="impl")
def test_default_group_is_not_removed(net: Rtnl, seen: Seen) -> None:
    """RTM_DELLINK with group 0 is refused and removes nothing."""
    net.link_add("port0", "dummy")
    before = names()
    answer = outcome(net.request, raw.link((27, U32(0)), type=links.DELLINK))
    assert names() == before
    assert seen(answer) == "EPERM"


@behaviour("link.altname.lookup", subject="impl")
def test_device_is_found_by_another_name(net: Rtnl, observer: IPRoute) -> None:
    """A device is found by each of its alternative names, until the name is taken away."""
    index = net.link_add("port0", "dummy").ifindex
    long = "the-device-with-a-name-of-more-than-fifteen-bytes"
    net.altnames_add("port0", long, "short")
    for name in (long, "short"):
        (found,) = net.request(raw.link((53, name.encode() + b"\0"), type=links.GETLINK)).messages
        assert struct.unpack_from("=i", found.payload, 4)[0] == index
        assert net.link(name).name == "port0"
    listed = link_of(observer, "port0").get_nested("IFLA_PROP_LIST")
    assert sorted(value for _, value in listed["attrs"]) == ["short", long]
    net.altnames_delete("port0", "short")
    assert outcome(net.link, "short") == "ENODEV"
    assert re.search(long, str(link_of(observer, "port0")))
