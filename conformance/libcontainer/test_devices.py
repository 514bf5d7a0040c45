"""Devices of a container: those that are always there, those that are asked for, links, access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import DEV, PROC, PTS, config
from kernelproof.conformance.libcontainer.observing import reason_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

DENY_ALL = {"allow": False, "access": "rwm"}
LOOP = {"type": "b", "major": 7, "minor": 0}
EPERM = "Operation not permitted"


def device(type: str = "c", path: str = "/dev/made", **members: object) -> dict[str, object]:
    """A device; 10:229 unless its members say otherwise."""
    return {"type": type, "path": path, "major": 10, "minor": 229, **members}


def opening(box: Box, *rules: dict[str, object]) -> str:
    """What comes of opening a block device 7:0 in a container with these rules."""
    devices = [{**LOOP, "path": "/dev/loop", "fileMode": 0o666}]
    linux = {"devices": devices, "resources": {"devices": list(rules)}}
    said = box.script("head -c 1 /dev/loop > /dev/null 2>/tmp/said && echo opened; cat /tmp/said", linux=linux)
    return reason_of(said[0])


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        behaviour_row("oci.devices.default-null", "/dev/null", "1:3"),
        behaviour_row("oci.devices.default-zero", "/dev/zero", "1:5"),
        behaviour_row("oci.devices.default-full", "/dev/full", "1:7"),
        behaviour_row("oci.devices.default-random", "/dev/random", "1:8"),
        behaviour_row("oci.devices.default-urandom", "/dev/urandom", "1:9"),
        behaviour_row("oci.devices.default-tty", "/dev/tty", "5:0"),
    ],
)
def test_default_device(box: Box, seen: Seen, path: str, numbers: str) -> None:
    """The device is in every container, with its numbers."""
    assert seen(box.said("stat", "-c", "%F %t:%T", path)) == f"character special file {numbers}\n"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        behaviour_row("oci.devices.link-fd", "/dev/fd", "/proc/self/fd"),
        behaviour_row("oci.devices.link-stdin", "/dev/stdin", "/proc/self/fd/0"),
        behaviour_row("oci.devices.link-stdout", "/dev/stdout", "/proc/self/fd/1"),
        behaviour_row("oci.devices.link-stderr", "/dev/stderr", "/proc/self/fd/2"),
    ],
)
def test_link(box: Box, seen: Seen, path: str, target: str) -> None:
    """The link is in every container, and leads to a descriptor of whoever follows it."""
    assert seen(box.said("readlink", path)) == f"{target}\n"


@behaviour("oci.devices.default-ptmx")
def test_ptmx(box: Box, seen: Seen) -> None:
    """/dev/ptmx is that of the container's devpts."""
    assert seen(box.said("readlink", "/dev/ptmx", mounts=[PROC, DEV, PTS]).removeprefix("/dev/")) == "pts/ptmx\n"


@behaviour("oci.devices.no-console")
def test_no_console(box: Box, seen: Seen) -> None:
    """Without a terminal there is no /dev/console."""
    assert seen(box.script("test -e /dev/console && echo there; echo end")) == ["end"]


@pytest.mark.parametrize(
    ("wanted", "form", "value"),
    [
        behaviour_row("oci.devices.type-c", device("c"), "%F %t:%T", "character special file a:e5"),
        behaviour_row("oci.devices.type-u", device("u"), "%F %t:%T", "character special file a:e5"),
        behaviour_row("oci.devices.type-b", device("b", major=7, minor=3), "%F %t:%T", "block special file 7:3"),
        behaviour_row("oci.devices.type-p", {"type": "p", "path": "/dev/made"}, "%F", "fifo"),
        behaviour_row("oci.devices.file-mode", device(fileMode=0o622), "%a", "622"),
        behaviour_row("oci.devices.uid", device(uid=12, gid=0), "%u", "12"),
        behaviour_row("oci.devices.gid", device(uid=0, gid=34), "%g", "34"),
        behaviour_row("oci.devices.path-anywhere", device(path="/data/deep/made"), "%F", "character special file"),
    ],
)
def test_made(box: Box, seen: Seen, wanted: dict[str, object], form: str, value: str) -> None:
    """A device that is asked for is made at its path, with its type, numbers, mode and owner."""
    assert seen(box.said("stat", "-c", form, str(wanted["path"]), linux={"devices": [wanted]})) == f"{value}\n"


@pytest.mark.parametrize(
    "wanted",
    [
        behaviour_row("oci.devices.type-unknown", device("x", major=1, minor=1)),
        behaviour_row("oci.devices.path-required", {"type": "c", "major": 1, "minor": 1}),
    ],
)
def test_refused(box: Box, seen: Seen, wanted: dict[str, object]) -> None:
    """A device without a path, or of an unknown type, is refused by create."""
    assert seen(box.answer(config("true", linux={"devices": [wanted]}))) == REFUSED


@behaviour("oci.devices.other-file")
def test_other_file(box: Box, seen: Seen) -> None:
    """A device whose path holds another file already is refused by create."""
    (box.rootfs / "data/made").write_text("a file")
    assert seen(box.answer(config("true", linux={"devices": [device(path="/data/made")]}))) == REFUSED
    assert (box.rootfs / "data/made").read_text() == "a file"


@pytest.mark.parametrize(
    ("rules", "answer"),
    [
        behaviour_row("oci.device-rules.deny", [], EPERM),
        behaviour_row("oci.device-rules.allow", [{"allow": True, **LOOP, "access": "r"}], "opened"),
        behaviour_row(
            "oci.device-rules.order",
            [{"allow": True, **LOOP, "access": "rwm"}, {"allow": False, **LOOP, "access": "rwm"}],
            EPERM,
        ),
        behaviour_row("oci.device-rules.access", [{"allow": True, **LOOP, "access": "m"}], EPERM),
        behaviour_row(
            "oci.device-rules.any-minor", [{"allow": True, "type": "b", "major": 7, "access": "rwm"}], "opened"
        ),
        behaviour_row("oci.device-rules.any-device", [{"allow": True, "access": "rwm"}], "opened"),
        behaviour_row("oci.device-rules.other-type", [{"allow": True, **LOOP, "type": "c", "access": "rwm"}], EPERM),
    ],
)
def test_rules(box: Box, seen: Seen, rules: list[dict[str, object]], answer: str) -> None:
    """What opening a device comes to, with these rules after one that denies everything."""
    assert seen(opening(box, DENY_ALL, *rules)) == answer


@behaviour("oci.device-rules.default-devices")
def test_default_devices_under_rules(box: Box, seen: Seen) -> None:
    """The default devices can be used under a rule that denies everything."""
    text = "head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo written"
    assert seen(box.script(text, linux={"resources": {"devices": [DENY_ALL]}})) == ["1", "written"]
