"""Devices of a container: those that are always there, those that are asked for, links, access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import DEV, PROC, REFUSED, config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def opening(box: Box, *rules: dict[str, object]) -> str:
    """What comes of opening a block device 7:0 in a container with these rules."""
    devices = [{"type": "b", "path": "/dev/loop", "major": 7, "minor": 0, "fileMode": 0o666}]
    linux = {"devices": devices, "resources": {"devices": list(rules)}}
    said = box.script("head -c 1 /dev/loop > /dev/null 2>/tmp/said && echo opened; cat /tmp/said", linux=linux)
    return said[0].rpartition(": ")[2]


@behaviour("oci.devices.default-null")
def test_devices_default_null(box: Box, seen: Seen) -> None:
    """/dev/null is in every container, with the numbers 1:3."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/null")) == "character special file 1:3\n"


@behaviour("oci.devices.default-zero")
def test_devices_default_zero(box: Box, seen: Seen) -> None:
    """/dev/zero is in every container, with the numbers 1:5."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/zero")) == "character special file 1:5\n"


@behaviour("oci.devices.default-full")
def test_devices_default_full(box: Box, seen: Seen) -> None:
    """/dev/full is in every container, with the numbers 1:7."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/full")) == "character special file 1:7\n"


@behaviour("oci.devices.default-random")
def test_devices_default_random(box: Box, seen: Seen) -> None:
    """/dev/random is in every container, with the numbers 1:8."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/random")) == "character special file 1:8\n"


@behaviour("oci.devices.default-urandom")
def test_devices_default_urandom(box: Box, seen: Seen) -> None:
    """/dev/urandom is in every container, with the numbers 1:9."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/urandom")) == "character special file 1:9\n"


@behaviour("oci.devices.default-tty")
def test_devices_default_tty(box: Box, seen: Seen) -> None:
    """/dev/tty is in every container, with the numbers 5:0."""
    assert seen(box.said("stat", "-c", "%F %t:%T", "/dev/tty")) == "character special file 5:0\n"


@behaviour("oci.devices.default-ptmx")
def test_devices_default_ptmx(box: Box, seen: Seen) -> None:
    """/dev/ptmx is that of the container's devpts."""
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    assert seen(box.said("readlink", "/dev/ptmx", mounts=[PROC, DEV, pts]).removeprefix("/dev/")) == "pts/ptmx\n"


@behaviour("oci.devices.no-console")
def test_devices_no_console(box: Box, seen: Seen) -> None:
    """Without a terminal there is no /dev/console."""
    assert seen(box.script("test -e /dev/console && echo there; echo end")) == ["end"]


@behaviour("oci.devices.link-fd")
def test_devices_link_fd(box: Box, seen: Seen) -> None:
    """/dev/fd is a link to /proc/self/fd."""
    assert seen(box.said("readlink", "/dev/fd")) == "/proc/self/fd\n"


@behaviour("oci.devices.link-stdin")
def test_devices_link_stdin(box: Box, seen: Seen) -> None:
    """/dev/stdin is a link to /proc/self/fd/0."""
    assert seen(box.said("readlink", "/dev/stdin")) == "/proc/self/fd/0\n"


@behaviour("oci.devices.link-stdout")
def test_devices_link_stdout(box: Box, seen: Seen) -> None:
    """/dev/stdout is a link to /proc/self/fd/1."""
    assert seen(box.said("readlink", "/dev/stdout")) == "/proc/self/fd/1\n"


@behaviour("oci.devices.link-stderr")
def test_devices_link_stderr(box: Box, seen: Seen) -> None:
    """/dev/stderr is a link to /proc/self/fd/2."""
    assert seen(box.said("readlink", "/dev/stderr")) == "/proc/self/fd/2\n"


@behaviour("oci.devices.type-c")
def test_devices_type_c(box: Box, seen: Seen) -> None:
    """A device of type c is a character device with its numbers."""
    wanted = {"type": "c", "path": "/dev/made", "major": 10, "minor": 229}
    assert (
        seen(box.said("stat", "-c", "%F %t:%T", "/dev/made", linux={"devices": [wanted]}))
        == "character special file a:e5\n"
    )


@behaviour("oci.devices.type-u")
def test_devices_type_u(box: Box, seen: Seen) -> None:
    """A device of type u is a character device too."""
    wanted = {"type": "u", "path": "/dev/made", "major": 10, "minor": 229}
    assert (
        seen(box.said("stat", "-c", "%F %t:%T", "/dev/made", linux={"devices": [wanted]}))
        == "character special file a:e5\n"
    )


@behaviour("oci.devices.type-b")
def test_devices_type_b(box: Box, seen: Seen) -> None:
    """A device of type b is a block device with its numbers."""
    wanted = {"type": "b", "path": "/dev/made", "major": 7, "minor": 3}
    assert (
        seen(box.said("stat", "-c", "%F %t:%T", "/dev/made", linux={"devices": [wanted]})) == "block special file 7:3\n"
    )


@behaviour("oci.devices.type-p")
def test_devices_type_p(box: Box, seen: Seen) -> None:
    """A device of type p is a named pipe, and needs no numbers."""
    wanted = {"type": "p", "path": "/dev/made"}
    assert seen(box.said("stat", "-c", "%F", "/dev/made", linux={"devices": [wanted]})) == "fifo\n"


@behaviour("oci.devices.file-mode")
def test_devices_file_mode(box: Box, seen: Seen) -> None:
    """fileMode is the mode of the device's file, whatever the runtime's mask is."""
    wanted = {"type": "c", "path": "/dev/made", "major": 10, "minor": 229, "fileMode": 0o622}
    assert seen(box.said("stat", "-c", "%a", "/dev/made", linux={"devices": [wanted]})) == "622\n"


@behaviour("oci.devices.uid")
def test_devices_uid(box: Box, seen: Seen) -> None:
    """uid is the owner of the device's file."""
    wanted = {"type": "c", "path": "/dev/made", "major": 10, "minor": 229, "uid": 12, "gid": 0}
    assert seen(box.said("stat", "-c", "%u", "/dev/made", linux={"devices": [wanted]})) == "12\n"


@behaviour("oci.devices.gid")
def test_devices_gid(box: Box, seen: Seen) -> None:
    """gid is the group of the device's file."""
    wanted = {"type": "c", "path": "/dev/made", "major": 10, "minor": 229, "uid": 0, "gid": 34}
    assert seen(box.said("stat", "-c", "%g", "/dev/made", linux={"devices": [wanted]})) == "34\n"


@behaviour("oci.devices.path-anywhere")
def test_devices_path_anywhere(box: Box, seen: Seen) -> None:
    """A device may be anywhere in the container."""
    wanted = {"type": "c", "path": "/data/deep/made", "major": 10, "minor": 229}
    assert (
        seen(box.said("stat", "-c", "%F", "/data/deep/made", linux={"devices": [wanted]})) == "character special file\n"
    )


@behaviour("oci.devices.type-unknown")
def test_devices_type_unknown(box: Box, seen: Seen) -> None:
    """A device of an unknown type is refused by create."""
    assert (
        seen(
            box.answer(config("true", linux={"devices": [{"type": "x", "path": "/dev/made", "major": 1, "minor": 1}]}))
        )
        == REFUSED
    )


@behaviour("oci.devices.path-required")
def test_devices_path_required(box: Box, seen: Seen) -> None:
    """A device without a path is refused by create."""
    assert seen(box.answer(config("true", linux={"devices": [{"type": "c", "major": 1, "minor": 1}]}))) == REFUSED


@behaviour("oci.devices.other-file")
def test_devices_other_file(box: Box, seen: Seen) -> None:
    """A device whose path holds another file already is refused by create."""
    (box.rootfs / "data/made").write_text("a file")
    wanted = {"type": "c", "path": "/data/made", "major": 10, "minor": 229}
    assert seen(box.answer(config("true", linux={"devices": [wanted]}))) == REFUSED
    assert (box.rootfs / "data/made").read_text() == "a file"


@behaviour("oci.device-rules.deny")
def test_device_rules_deny(box: Box, seen: Seen) -> None:
    """A rule that denies everything keeps the container from opening a device."""
    assert seen(opening(box, {"allow": False, "access": "rwm"})) == "Operation not permitted"


@behaviour("oci.device-rules.allow")
def test_device_rules_allow(box: Box, seen: Seen) -> None:
    """A rule that allows a device, after one that denies everything, lets the container open it."""
    assert (
        seen(
            opening(
                box,
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"},
            )
        )
        == "opened"
    )


@behaviour("oci.device-rules.order")
def test_device_rules_order(box: Box, seen: Seen) -> None:
    """Rules are applied in their order: what is denied last is denied."""
    allow = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rwm"}
    assert (
        seen(opening(box, {"allow": False, "access": "rwm"}, allow, {**allow, "allow": False}))
        == "Operation not permitted"
    )


@behaviour("oci.device-rules.access")
def test_device_rules_access(box: Box, seen: Seen) -> None:
    """A rule that allows to make a device's node does not allow to open the device."""
    assert (
        seen(
            opening(
                box,
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "m"},
            )
        )
        == "Operation not permitted"
    )


@behaviour("oci.device-rules.any-minor")
def test_device_rules_any_minor(box: Box, seen: Seen) -> None:
    """A rule without a minor number is one for all of them."""
    assert (
        seen(opening(box, {"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 7, "access": "rwm"}))
        == "opened"
    )


@behaviour("oci.device-rules.any-device")
def test_device_rules_any_device(box: Box, seen: Seen) -> None:
    """A rule without a type is one for all devices."""
    assert seen(opening(box, {"allow": False, "access": "rwm"}, {"allow": True, "access": "rwm"})) == "opened"


@behaviour("oci.device-rules.other-type")
def test_device_rules_other_type(box: Box, seen: Seen) -> None:
    """A rule for character devices says nothing about block devices."""
    assert (
        seen(
            opening(
                box,
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 7, "minor": 0, "access": "rwm"},
            )
        )
        == "Operation not permitted"
    )


@behaviour("oci.device-rules.default-devices")
def test_device_rules_default_devices(box: Box, seen: Seen) -> None:
    """The default devices can be used under a rule that denies everything."""
    assert seen(
        box.script(
            "head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo written",
            linux={"resources": {"devices": [{"allow": False, "access": "rwm"}]}},
        )
    ) == ["1", "written"]
