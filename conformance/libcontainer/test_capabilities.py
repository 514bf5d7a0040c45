"""The five sets of capabilities of the container's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import ACCEPTED, config, value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

SETS = ("effective", "permitted", "inheritable", "bounding", "ambient")
KILL, CHOWN, NET_RAW = 1 << 5, 1 << 0, 1 << 13


def mask_of(box: Box, name: str, *, uid: int = 0, **sets: list[str]) -> int:
    """A set of the program, which is asked for with some sets."""
    user = {"uid": uid, "gid": uid}
    return int(value_of(box, name, user=user, capabilities=sets), 16)


@behaviour("oci.capabilities.effective")
def test_capabilities_effective(box: Box, seen: Seen) -> None:
    """The effective set of root's program is that of effective, where permitted names the same."""
    assert (
        seen(
            mask_of(
                box,
                "CapEff",
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
            )
        )
        == KILL | CHOWN
    )


@behaviour("oci.capabilities.permitted")
def test_capabilities_permitted(box: Box, seen: Seen) -> None:
    """The permitted set of root's program is that of permitted."""
    assert (
        seen(
            mask_of(
                box,
                "CapPrm",
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
            )
        )
        == KILL | CHOWN
    )


@behaviour("oci.capabilities.bounding")
def test_capabilities_bounding(box: Box, seen: Seen) -> None:
    """The bounding set is that of bounding."""
    assert seen(mask_of(box, "CapBnd", bounding=["CAP_NET_RAW"], permitted=[], effective=[])) == NET_RAW


@behaviour("oci.capabilities.bounding-empty")
def test_capabilities_bounding_empty(box: Box, seen: Seen) -> None:
    """With an empty bounding the bounding set is empty."""
    assert seen(mask_of(box, "CapBnd", bounding=[], permitted=[], effective=[])) == 0


@behaviour("oci.capabilities.inheritable")
def test_capabilities_inheritable(box: Box, seen: Seen) -> None:
    """The inheritable set is that of inheritable."""
    assert (
        seen(
            mask_of(
                box,
                "CapInh",
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
                inheritable=["CAP_KILL"],
            )
        )
        == KILL
    )


@behaviour("oci.capabilities.inheritable-empty")
def test_capabilities_inheritable_empty(box: Box, seen: Seen) -> None:
    """Without inheritable the inheritable set is empty."""
    assert (
        seen(
            mask_of(
                box,
                "CapInh",
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
            )
        )
        == 0
    )


@behaviour("oci.capabilities.ambient")
def test_capabilities_ambient(box: Box, seen: Seen) -> None:
    """The ambient set is that of ambient."""
    assert (
        seen(
            mask_of(
                box,
                "CapAmb",
                uid=1000,
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
                inheritable=["CAP_KILL", "CAP_CHOWN"],
                ambient=["CAP_KILL"],
            )
        )
        == KILL
    )


@behaviour("oci.capabilities.ambient-is-effective")
def test_capabilities_ambient_is_effective(box: Box, seen: Seen) -> None:
    """A program of another user than root has the ambient capabilities effective."""
    assert (
        seen(
            mask_of(
                box,
                "CapEff",
                uid=1000,
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
                inheritable=["CAP_KILL", "CAP_CHOWN"],
                ambient=["CAP_KILL"],
            )
        )
        == KILL
    )


@behaviour("oci.capabilities.other-user")
def test_capabilities_other_user(box: Box, seen: Seen) -> None:
    """A program of another user than root has no effective capability without ambient."""
    assert (
        seen(
            mask_of(
                box,
                "CapEff",
                uid=1000,
                bounding=["CAP_KILL", "CAP_CHOWN"],
                permitted=["CAP_KILL", "CAP_CHOWN"],
                effective=["CAP_KILL", "CAP_CHOWN"],
            )
        )
        == 0
    )


@behaviour("oci.capabilities.unknown")
def test_capabilities_unknown(box: Box, seen: Seen) -> None:
    """A capability that the kernel does not know is no failure."""
    assert (
        seen(box.answer(config("true", process={"capabilities": {"bounding": ["CAP_UNHEARD_OF", "CAP_KILL"]}})))
        == ACCEPTED
    )
