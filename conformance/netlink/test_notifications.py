"""Notifications: who gets them, what they look like, and what happens when nobody reads them."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard
from kernelproof.conformance.netlink.conftest import NOBODY
from kernelproof.conformance.netlink.heard import DONE, ERROR
from kernelproof.conformance.netlink.shown import NO_ERROR, number_of, outcome
from kernelproof.impl.netlink import Rtnl, create_namespace, links
from kernelproof.impl.netlink.endpoint import KernelSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.netlink.heard import Heard
    from kernelproof.conformance.seen import Seen

LINK_GROUP = 1
CHANGES = 60
MINIMUM_BYTES = 1  # the kernel makes the least that it allows of it


def told(own: KernelSocket) -> list[Heard]:
    """Return all notifications that can be read."""
    return [message for datagram in heard.datagrams(own) for message in heard.take_apart(datagram)]


def name_in(message: Heard) -> str:
    """Return the device's name in a message about one."""
    return heard.attributes(message.payload[16:])[3][:-1].decode()


def change_often(net: Rtnl) -> None:
    """Change the device port0 many times, each with a notification."""
    net.link_add("port0", "dummy")
    for number in range(CHANGES):
        net.link_set("port0", mtu=1400 + number)
    assert number_of("port0/mtu") == 1400 + CHANGES - 1


@behaviour("netlink.notify.sequence-zero", subject="impl")
def test_notification_answers_nothing(net: Rtnl, opened: Open, seen: Seen) -> None:
    """Notifications of a device that is made, changed and removed by another have the sequence number 0."""
    own = opened(groups=(LINK_GROUP,))
    made = net.link_add("port0", "dummy")
    net.link_set(made, mtu=1400)
    net.link_delete(made)
    first, *_, last = [message for message in told(own) if name_in(message) == "port0"]
    assert (first.type, last.type) == (links.NEWLINK, links.DELLINK)
    assert seen([first.sequence == 0, last.sequence == 0]) == [True, True]


@behaviour("netlink.notify.no-done-no-error", subject="impl")
def test_notification_stands_alone(net: Rtnl, opened: Open) -> None:
    """No notification is followed by NLMSG_DONE or NLMSG_ERROR."""
    own = opened(groups=(LINK_GROUP,))
    change_often(net)
    types = {message.type for message in told(own)}
    assert links.NEWLINK in types
    assert not types & {DONE, ERROR}


@behaviour("netlink.notify.group-by-bind", subject="impl")
def test_group_is_joined_by_binding(net: Rtnl) -> None:
    """A socket bound to the group of links gets notifications of them, and one bound to no group gets none."""
    heard_by: dict[int, bool] = {}
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as of_group,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as of_none,
    ):
        of_group.bind((0, 1 << LINK_GROUP - 1))
        of_none.bind((0, 0))
        net.link_add("port0", "dummy")
        for own in (of_group, of_none):
            own.setblocking(False)
            heard_by[own.fileno()] = outcome(own.recv, 1 << 16) == NO_ERROR
        assert heard_by == {of_group.fileno(): True, of_none.fileno(): False}


@behaviour("netlink.notify.group-by-option", subject="impl")
def test_group_is_joined_and_left_by_options(net: Rtnl, opened: Open) -> None:
    """Notifications come after NETLINK_ADD_MEMBERSHIP, and no more after NETLINK_DROP_MEMBERSHIP."""
    own = opened()
    found = []
    net.link_add("port0", "dummy")
    for option in (heard.ADD_MEMBERSHIP, heard.DROP_MEMBERSHIP):
        heard.set_option(own, option, LINK_GROUP)
        net.link_set("port0", mtu=1400 + option)
        found.append([struct.unpack("=I", heard.attributes(each.payload[16:])[4])[0] for each in told(own)])
    assert found == [[1401], []]


@behaviour("netlink.notify.unprivileged-may-listen", subject="impl")
def test_anybody_may_listen(in_child: InChild) -> None:
    """A process without CAP_NET_ADMIN joins the group of links and gets its notifications."""

    def listen() -> list[str]:
        os.setresuid(NOBODY, NOBODY, 0)
        own = KernelSocket(groups=(LINK_GROUP,), receive_buffer_bytes=1 << 16)
        os.setresuid(0, 0, 0)
        with Rtnl() as net:
            net.link_add("port0", "dummy")
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return [name_in(message) for message in told(own)]

    assert "port0" in in_child(listen)


@behaviour("netlink.notify.unprivileged-may-not-send", subject="impl")
def test_nobody_without_privilege_sends_to_a_group(
    opened: Open, unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen
) -> None:
    """A process without CAP_NET_ADMIN can't send to a group, one with it can."""
    message = links.get_link("lo").encode(1)

    def send() -> str:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as own:
            return outcome(own.sendto, message, (0, 1 << LINK_GROUP - 1))

    listener = opened(groups=(LINK_GROUP,))
    answer = unprivileged(send)
    assert heard.datagrams(listener) == []
    assert send() == NO_ERROR
    assert [datagram for datagram in heard.datagrams(listener) if datagram == message] == [message]
    assert seen(answer) == "EPERM"


@behaviour("netlink.notify.overflow-enobufs", subject="impl")
def test_overflow_is_told(net: Rtnl, seen: Seen) -> None:
    """The first read after notifications were lost ends with ENOBUFS."""
    own = KernelSocket(groups=(LINK_GROUP,), receive_buffer_bytes=MINIMUM_BYTES)
    change_often(net)
    assert seen.errno_of(own.receive) == "ENOBUFS"
    own.close()


@behaviour("netlink.notify.overflow-then-continues", subject="impl")
def test_what_is_left_after_an_overflow_is_read(net: Rtnl) -> None:
    """After ENOBUFS the notifications that were kept are read, and new ones."""
    own = KernelSocket(groups=(LINK_GROUP,), receive_buffer_bytes=MINIMUM_BYTES)
    change_often(net)
    assert outcome(own.receive) == "ENOBUFS"
    kept = told(own)
    assert 0 < len(kept) < CHANGES
    assert {name_in(message) for message in kept} == {"port0"}
    net.link_set("port0", mtu=1300)
    assert [struct.unpack("=I", heard.attributes(each.payload[16:])[4])[0] for each in told(own)] == [1300]
    own.close()


@behaviour("netlink.notify.no-enobufs-option", subject="impl")
def test_overflow_can_be_kept_silent(net: Rtnl) -> None:
    """With NETLINK_NO_ENOBUFS notifications are lost without a word."""
    own = KernelSocket(groups=(LINK_GROUP,), receive_buffer_bytes=MINIMUM_BYTES)
    heard.set_option(own, heard.NO_ENOBUFS)
    change_often(net)
    assert 0 < len(told(own)) < CHANGES
    own.close()


@behaviour("netlink.notify.pktinfo-names-group", subject="impl")
def test_control_message_names_the_group(net: Rtnl, opened: Open) -> None:
    """With NETLINK_PKTINFO a notification comes with the number of its group."""
    own = opened(groups=(LINK_GROUP,))
    heard.set_option(own, heard.PKTINFO)
    net.link_add("port0", "dummy")
    with heard.options_of(own) as same:
        data, ancillary, _, _ = same.recvmsg(1 << 16, socket.CMSG_SPACE(4))
    assert name_in(heard.take_apart(data)[0]) == "port0"
    assert ancillary == [(heard.SOL_NETLINK, heard.PKTINFO, struct.pack("=I", LINK_GROUP))]


@behaviour("netlink.notify.all-nsid", subject="impl")
def test_other_namespaces_are_heard_too(net: Rtnl, opened: Open) -> None:
    """With NETLINK_LISTEN_ALL_NSID notifications of a namespace that has an id come with that id."""
    create_namespace("other")
    net.namespace_id_set("other", 7)
    own = opened(groups=(LINK_GROUP,))
    with Rtnl(netns="other") as other, heard.options_of(own) as same:
        other.link_add("port0", "dummy")
        assert outcome(same.recv, 1 << 16, socket.MSG_DONTWAIT) == "EAGAIN"
        heard.set_option(own, heard.LISTEN_ALL_NSID)
        other.link_set("port0", mtu=1400)
        data, ancillary, _, _ = same.recvmsg(1 << 16, socket.CMSG_SPACE(4))
    assert name_in(heard.take_apart(data)[0]) == "port0"
    assert ancillary == [(heard.SOL_NETLINK, heard.LISTEN_ALL_NSID, struct.pack("=i", 7))]
