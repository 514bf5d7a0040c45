"""The form of config.json: what is required, what is refused, what is ignored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import ACCEPTED, REFUSED
from kernelproof.conformance.libcontainer.configs import DEV, PROC, config, tmpfs
from kernelproof.conformance.libcontainer.observing import reason_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def without(path: str) -> dict[str, Any]:
    """A configuration that lacks a member: `process.cwd`."""
    whole = config("true")
    *way, last = path.split(".")
    inner: Any = whole
    for name in way:
        inner = inner[name]
    del inner[last]
    return whole


@pytest.mark.parametrize(
    "wanted",
    [
        behaviour_row("oci.config.version-required", without("ociVersion")),
        behaviour_row("oci.config.version-is-semver", config("true", ociVersion="one")),
        behaviour_row("oci.config.version-of-other-major", config("true", ociVersion="7.0.0")),
        behaviour_row("oci.config.unparsable", '{"ociVersion": "1.0.2", '),
        behaviour_row("oci.config.wrong-type", config("true", process={"args": "true"})),
        behaviour_row("oci.config.number-of-fraction", config("true", process={"user": {"uid": 0.5, "gid": 0}})),
        behaviour_row("oci.config.root-required", without("root")),
        behaviour_row("oci.config.root-path-required", without("root.path")),
        behaviour_row("oci.config.root-path-exists", config("true", root={"path": "nowhere"})),
        behaviour_row("oci.config.root-path-is-directory", config("true", root={"path": "file"})),
        behaviour_row("oci.config.annotation-key-empty", config("true", annotations={"": "x"})),
        behaviour_row("oci.config.annotation-value-text", config("true", annotations={"com.example.a": 1})),
    ],
)
def test_refused(box: Box, seen: Seen, wanted: dict[str, Any] | str) -> None:
    """A configuration that lacks what is required, or whose form or root is not right, is refused by create."""
    (box.bundle / "file").write_text("")
    assert seen(box.answer(wanted)) == REFUSED


@pytest.mark.parametrize(
    "members",
    [
        behaviour_row("oci.config.version-minor", {"ociVersion": "1.0.0"}),
        behaviour_row("oci.config.annotation-value-empty", {"annotations": {"com.example.a": ""}}),
        behaviour_row("oci.config.annotation-unknown", {"annotations": {"org.opencontainers.unheard-of": "x"}}),
        behaviour_row("oci.config.annotations-empty", {"annotations": {}}),
    ],
)
def test_accepted(box: Box, seen: Seen, members: dict[str, Any]) -> None:
    """An earlier minor version, and annotations that are empty or that nobody knows, are accepted by create."""
    assert seen(box.answer(config("true", **members))) == ACCEPTED


@pytest.mark.parametrize(
    "members",
    [
        behaviour_row("oci.config.unknown-property", {"com.example.unknown": {"a": [1, None]}}),
        behaviour_row("oci.config.unknown-in-process", {"process": {"unknownMember": [{"x": 1}]}}),
        behaviour_row("oci.config.unknown-in-linux", {"linux": {"unknownMember": "x"}}),
        behaviour_row("oci.config.unknown-in-mount", {"mounts": [PROC, {**DEV, "unknownMember": 1}]}),
        behaviour_row("oci.process.console-size-ignored", {"process": {"consoleSize": {"height": 10, "width": 20}}}),
    ],
)
def test_ignored(box: Box, seen: Seen, members: dict[str, Any]) -> None:
    """A property that the specification does not know, and consoleSize without a terminal, are ignored."""
    assert seen(box.said("echo", "ran", **members)) == "ran\n"


@behaviour("oci.config.root-path-relative")
def test_relative_root(box: Box, seen: Seen) -> None:
    """A relative root.path counts from the bundle."""
    (box.rootfs / "mark").write_text("of the bundle")
    assert seen(box.said("cat", "/mark", root={"path": "./rootfs"})) == "of the bundle"


@behaviour("oci.config.root-path-absolute")
def test_absolute_root(box: Box, seen: Seen) -> None:
    """An absolute root.path is taken as it is."""
    (box.rootfs / "mark").write_text("by its whole path")
    assert seen(box.said("cat", "/mark", root={"path": str(box.rootfs)})) == "by its whole path"


@behaviour("oci.config.root-readonly")
def test_readonly_root(box: Box, seen: Seen) -> None:
    """With root.readonly the container can't write to its root file system."""
    said = box.script("touch /made 2>&1; exit 0", root={"path": "rootfs", "readonly": True})
    assert seen(reason_of(said[0])) == "Read-only file system"
    assert not (box.rootfs / "made").exists()


@behaviour("oci.config.root-writable")
def test_writable_root(box: Box, seen: Seen) -> None:
    """Without root.readonly the container can write to its root file system."""
    box.said("touch", "/made")
    assert seen((box.rootfs / "made").exists()) is True


@behaviour("oci.config.root-readonly-below")
def test_writable_below_readonly_root(box: Box, seen: Seen) -> None:
    """With root.readonly a mount below the root keeps options of its own: one that is writable stays so."""
    mounts = [PROC, DEV, tmpfs("/tmp")]
    said = box.script("touch /tmp/made && ls /tmp", root={"path": "rootfs", "readonly": True}, mounts=mounts)
    assert seen(said) == ["made"]


@behaviour("oci.config.hostname")
def test_hostname(box: Box, seen: Seen) -> None:
    """hostname is the host name that the container's processes see."""
    assert seen(box.said("hostname", hostname="of-the-box")) == "of-the-box\n"


@behaviour("oci.config.hostname-of-host")
def test_hostname_of_host(box: Box, seen: Seen) -> None:
    """With a UTS namespace of the container's own, hostname does not change the host's name."""
    before = os.uname().nodename
    box.said("true", hostname="of-the-box")
    assert seen(os.uname().nodename == before) is True


@behaviour("oci.config.domainname")
def test_domainname(box: Box, seen: Seen) -> None:
    """domainname is the NIS domain name that the container's processes see."""
    assert seen(box.said("cat", "/proc/sys/kernel/domainname", domainname="example.test")) == "example.test\n"
