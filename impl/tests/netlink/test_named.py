"""Recordings that people can read: names beside the bytes."""

from __future__ import annotations

import json
from struct import pack
from typing import Any

import pytest

from kernelproof.impl.netlink.bridges import list_bridge_vlans, set_bridge_port
from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.endpoint import GENERIC
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.links import add_link, change_altnames, list_links
from kernelproof.impl.netlink.named import describe_message
from kernelproof.impl.netlink.recorder import Datagram, Recorder, format_datagram
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.routes import Route, add_route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.wire import Message, parse_messages


def described(request: Request, flags: int = 0) -> dict[str, Any]:
    """A request as a recording has it."""
    (message,) = parse_messages(request.encode(7, flags))
    return describe_message(message)


@pytest.mark.rule("N+6")
def test_a_request_has_names() -> None:
    """Type, flags and attributes are named, those inside others too, also of a veth's other end."""
    told = described(add_link("v0", "veth", peer={"name": "v1"}), 4)
    assert (told["name"], told["flags"], told["sequence"]) == ("RTM_NEWLINK", ["REQUEST", "ACK", "EXCL", "CREATE"], 7)
    assert told["header"] == bytes(16).hex()
    assert told["attributes"] == [
        ["IFLA_IFNAME", b"v0\0".hex()],
        [
            "IFLA_LINKINFO",
            [
                ["IFLA_INFO_KIND", b"veth\0".hex()],
                ["IFLA_INFO_DATA", [["VETH_INFO_PEER", [["IFLA_IFNAME", "763100"]]]]],
            ],
        ],
    ]
    assert described(list_links(), 0x300)["flags"] == ["REQUEST", "ROOT", "MATCH"]
    told = described(add_route(Route("10.0.0.0/8", "10.0.0.1", metrics=((2, 1400),)), append=True))
    assert (told["name"], told["flags"]) == ("RTM_NEWROUTE", ["REQUEST", "CREATE", "APPEND"])
    assert ["RTA_METRICS", [["RTAX_MTU", pack("=I", 1400).hex()]]] in told["attributes"]


@pytest.mark.rule("N+6")
def test_equal_attributes_are_all_there() -> None:
    """A list of equal types is a list; of a bridge's port the names are its own."""
    told = described(change_altnames(1, "a", "b", add=True))
    assert told["name"] == "RTM_NEWLINKPROP"
    assert told["attributes"] == [["IFLA_PROP_LIST", [["IFLA_ALT_IFNAME", "6100"], ["IFLA_ALT_IFNAME", "6200"]]]]
    told = described(set_bridge_port(3, {"learning": 0}))
    assert told["attributes"] == [["IFLA_PROTINFO", [["IFLA_BRPORT_LEARNING", "00"]]]]
    assert described(list_bridge_vlans())["attributes"] == [["IFLA_EXT_MASK", pack("=I", 4).hex()]]


@pytest.mark.rule("N+6")
def test_what_has_no_name_has_its_number() -> None:
    """Types and flags that nobody knows, attributes of other protocols and bytes that lie are told as they are."""
    told = describe_message(Message(200, 0x8001, 1, 0, b"1234"))
    assert (told["name"], told["flags"], told["bytes"], "attributes" in told) == (
        "200",
        ["REQUEST", "0x8000"],
        4,
        False,
    )
    told = describe_message(Message(16, 0x300, 1, 0, bytes(4)), is_route=False)
    assert (told["name"], told["flags"], "attributes" in told) == ("16", ["0x100", "0x200"], False)
    told = describe_message(Message(16, 0, 1, 0, bytes(16) + pack("=HH", 9, 3)))
    assert (told["name"], "length 9" in told["wrong"]) == ("RTM_NEWLINK", True)
    told = describe_message(Message(24, 0, 1, 0, bytes(12) + pack("=HHH2x", 6, 8, 1)))  # no attribute in RTA_METRICS
    assert told["attributes"] == [["RTA_METRICS", "0100"]]
    assert "are no header" in str(json.loads(format_datagram(Datagram(True, b"1"))))


@pytest.mark.rule("N+6")
def test_a_recording_has_names(namespace: int) -> None:
    """Questions, answers and refusals with the kernel's sentence are named in a recording's text."""
    recorder = Recorder()
    with Connection(netns=namespace, recorder=recorder) as connection, Rtnl(connection=connection) as net:
        net.link("lo")
        with pytest.raises(NetlinkError):
            net.link_add("v0", "bridge", raw={4: b"\1"})
    messages = [message for line in recorder.text().splitlines() for message in json.loads(line)["messages"]]
    assert [message["name"] for message in messages] == [
        *("RTM_GETLINK", "RTM_NEWLINK", "NLMSG_ERROR"),
        *("RTM_NEWLINK", "NLMSG_ERROR"),
    ]
    assert ["IFLA_IFNAME", b"lo\0".hex()] in messages[1]["attributes"]
    assert (messages[2]["code"], messages[2]["flags"]) == (0, ["CAPPED"])
    assert messages[4]["code"] < 0
    assert messages[4]["message"]
    assert "RTM_" not in Recorder(GENERIC).text()
