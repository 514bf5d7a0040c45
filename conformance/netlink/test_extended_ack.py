"""What the kernel says of a refusal beside its number."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.heard import ACK_TLVS, CAPPED, answers, attributes
from kernelproof.conformance.netlink.raw import CREATE, EXCL
from kernelproof.impl.netlink import NetlinkError, Request, Rtnl, links
from kernelproof.impl.netlink.spaces import LINK

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.netlink.heard import Heard

TEXT, OFFSET, POLICY = 1, 2, 4
MAXIMUM_LENGTH = 7  # NL_POLICY_TYPE_ATTR_MAX_LENGTH
LONG_NAME = b"x" * 16 + b"\0"


def unknown_kind() -> Request:
    """Ask for a device of a kind that no kernel has."""
    return raw.link(raw.kind("nosuchkind"), how=CREATE | EXCL)


def extended(reply: Heard) -> dict[int, bytes]:
    """Return the attributes of a refusal that echoes the header alone."""
    return attributes(reply.payload[20:])


@behaviour("netlink.extack.needs-option", subject="impl")
def test_explanations_come_when_asked_for(opened: Open) -> None:
    """A socket without NETLINK_EXT_ACK gets no attribute with a refusal, one with it does."""
    request = unknown_kind().encode(1)
    plain, asking = opened(), opened()
    heard.set_option(asking, heard.EXT_ACK)
    (without,) = answers(plain, request)
    (told,) = answers(asking, request)
    assert without.length == 16 + 4 + len(request)
    assert told.length > without.length
    assert without.code == told.code < 0


@behaviour("netlink.extack.flagged", subject="impl")
def test_explanations_are_flagged(opened: Open) -> None:
    """A refusal with attributes has NLM_F_ACK_TLVS set, and one without them has not."""
    request = unknown_kind().encode(1)
    (without,) = answers(opened(), request)
    (told,) = answers(opened(extended=True), request)
    assert not without.flags & ACK_TLVS
    assert told.flags & ACK_TLVS
    assert told.length > 16 + 4 + 16


@behaviour("netlink.extack.message-is-text", subject="impl")
def test_explanation_is_a_text(net: Rtnl, opened: Open) -> None:
    """A refusal of an unknown kind has a sentence with it, which the typed error has too."""
    (told,) = answers(opened(extended=True), unknown_kind().encode(1))
    sentence = extended(told)[TEXT]
    assert sentence.endswith(b"\0")
    text = sentence[:-1].decode("ascii")
    assert text.isprintable()
    assert len(text.split()) > 1
    with pytest.raises(NetlinkError) as refused:
        net.link_add("x0", "nosuchkind")
    assert refused.value.message == text
    assert refused.value.errno == -told.code


@behaviour("netlink.extack.offset-points-at-attribute", subject="impl")
def test_offset_is_that_of_the_attribute(net: Rtnl, opened: Open) -> None:
    """The offset counts from the start of the header: 32 for the first attribute of a request about a link."""
    first = raw.link((3, LONG_NAME), raw.kind("bridge"), how=CREATE | EXCL)
    second = raw.link((4, raw.U32(1400)), (3, LONG_NAME), raw.kind("bridge"), how=CREATE | EXCL)
    own = opened(extended=True)
    offsets = [struct.unpack("=I", extended(answers(own, each.encode(1))[0])[OFFSET])[0] for each in (first, second)]
    assert offsets == [32, 40]
    with pytest.raises(NetlinkError) as refused:
        net.request(second)
    assert (refused.value.offset, refused.value.attribute_path) == (40, "IFLA_IFNAME")


@behaviour("netlink.extack.after-echoed-request", subject="impl")
def test_explanation_follows_the_echoed_request(opened: Open) -> None:
    """Without NETLINK_CAP_ACK the attributes stand behind the echoed request, at the next multiple of 4."""
    own = opened()
    heard.set_option(own, heard.EXT_ACK)
    name = struct.pack("=HH", 4 + len(LONG_NAME), 3) + LONG_NAME
    request = Request(links.NEWLINK, CREATE | EXCL, links.HEADER.pack(0, 0, 0, 0, 0) + name, "", 16, LINK)
    sent = request.encode(1)
    length = 16 + 16 + len(name)
    assert length % 4
    (told,) = answers(own, sent)
    assert not told.flags & CAPPED
    assert told.payload[4 : 4 + length] == sent[:length]
    found = attributes(told.payload[4 + heard.rounded(length) :])
    assert struct.unpack("=I", found[OFFSET]) == (32,)


@behaviour("netlink.extack.policy-of-rejected-value", subject="impl")
def test_policy_says_what_is_taken(net: Rtnl, opened: Open) -> None:
    """A name of 16 bytes is refused with the longest that is taken; the typed request refuses it before."""
    request = raw.link((3, LONG_NAME), raw.kind("bridge"), how=CREATE | EXCL)
    (told,) = answers(opened(extended=True), request.encode(1))
    policy = attributes(extended(told)[POLICY])
    assert struct.unpack("=I", policy[MAXIMUM_LENGTH]) == (15,)
    with pytest.raises(NetlinkError) as refused:
        net.request(request)
    assert refused.value.policy is not None
    assert refused.value.policy.maximum_length == 15
    with pytest.raises(ValueError, match="15"):
        net.link_add("x" * 16, "bridge")
