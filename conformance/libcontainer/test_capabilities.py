"""The five sets of capabilities of the container's process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import ACCEPTED
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.observing import value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

KILL, CHOWN, NET_RAW = 1 << 5, 1 << 0, 1 << 13
ROOT, OTHER = 0, 1000
BOTH = ["CAP_KILL", "CAP_CHOWN"]
GIVEN = {"bounding": BOTH, "permitted": BOTH, "effective": BOTH}
AMBIENT = {**GIVEN, "inheritable": BOTH, "ambient": ["CAP_KILL"]}
NOTHING: dict[str, list[str]] = {"bounding": [], "permitted": [], "effective": []}


@pytest.mark.parametrize(
    ("line", "uid", "sets", "mask"),
    [
        behaviour_row("oci.capabilities.effective", "CapEff", ROOT, GIVEN, KILL | CHOWN),
        behaviour_row("oci.capabilities.permitted", "CapPrm", ROOT, GIVEN, KILL | CHOWN),
        behaviour_row("oci.capabilities.bounding", "CapBnd", ROOT, {**NOTHING, "bounding": ["CAP_NET_RAW"]}, NET_RAW),
        behaviour_row("oci.capabilities.bounding-empty", "CapBnd", ROOT, NOTHING, 0),
        behaviour_row("oci.capabilities.inheritable", "CapInh", ROOT, {**GIVEN, "inheritable": ["CAP_KILL"]}, KILL),
        behaviour_row("oci.capabilities.inheritable-empty", "CapInh", ROOT, GIVEN, 0),
        behaviour_row("oci.capabilities.ambient", "CapAmb", OTHER, AMBIENT, KILL),
        behaviour_row("oci.capabilities.ambient-is-effective", "CapEff", OTHER, AMBIENT, KILL),
        behaviour_row("oci.capabilities.other-user", "CapEff", OTHER, GIVEN, 0),
    ],
)
def test_set(box: Box, seen: Seen, line: str, uid: int, sets: Mapping[str, list[str]], mask: int) -> None:
    """A program of a user that is given these sets has this one, as its line of /proc/PID/status tells."""
    said = value_of(box, line, user={"uid": uid, "gid": uid}, capabilities=sets)
    assert seen(int(said, 16)) == mask


@behaviour("oci.capabilities.unknown")
def test_unknown(box: Box, seen: Seen) -> None:
    """A capability that the kernel does not know is no failure."""
    process = {"capabilities": {"bounding": ["CAP_UNHEARD_OF", "CAP_KILL"]}}
    assert seen(box.answer(config("true", process=process))) == ACCEPTED
