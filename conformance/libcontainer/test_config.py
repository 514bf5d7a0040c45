"""The form of config.json: what is required, what is refused, what is ignored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import ACCEPTED, DEV, PROC, REFUSED, config, tmpfs

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
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


@behaviour("oci.config.version-required")
def test_config_version_required(box: Box, seen: Seen) -> None:
    """A configuration without ociVersion is refused by create."""
    assert seen(box.answer(without("ociVersion"))) == REFUSED


@behaviour("oci.config.version-is-semver")
def test_config_version_is_semver(box: Box, seen: Seen) -> None:
    """A configuration whose ociVersion is no version in SemVer's form is refused by create."""
    assert seen(box.answer(config("true", ociVersion="one"))) == REFUSED


@behaviour("oci.config.version-of-other-major")
def test_config_version_of_other_major(box: Box, seen: Seen) -> None:
    """A configuration of a major version that does not exist yet is refused by create."""
    assert seen(box.answer(config("true", ociVersion="7.0.0"))) == REFUSED


@behaviour("oci.config.version-minor")
def test_config_version_minor(box: Box, seen: Seen) -> None:
    """A configuration of an earlier minor version of the same major version is accepted."""
    assert seen(box.answer(config("true", ociVersion="1.0.0"))) == ACCEPTED


@behaviour("oci.config.unknown-property")
def test_config_unknown_property(box: Box, seen: Seen) -> None:
    """A property that the specification does not know is ignored at the top of a configuration."""
    assert seen(box.said("echo", "ran", **{"com.example.unknown": {"a": [1, None]}})) == "ran\n"


@behaviour("oci.config.unknown-in-process")
def test_config_unknown_in_process(box: Box, seen: Seen) -> None:
    """A property that the specification does not know is ignored in process."""
    assert seen(box.said("echo", "ran", process={"unknownMember": [{"x": 1}]})) == "ran\n"


@behaviour("oci.config.unknown-in-linux")
def test_config_unknown_in_linux(box: Box, seen: Seen) -> None:
    """A property that the specification does not know is ignored in linux."""
    assert seen(box.said("echo", "ran", linux={"unknownMember": "x"})) == "ran\n"


@behaviour("oci.config.unknown-in-mount")
def test_config_unknown_in_mount(box: Box, seen: Seen) -> None:
    """A property that the specification does not know is ignored in an entry of mounts."""
    assert seen(box.said("echo", "ran", mounts=[PROC, {**DEV, "unknownMember": 1}])) == "ran\n"


@behaviour("oci.config.unparsable")
def test_config_unparsable(box: Box, seen: Seen) -> None:
    """A config.json that is no JSON is refused by create."""
    assert seen(box.answer('{"ociVersion": "1.0.2", ')) == REFUSED


@behaviour("oci.config.wrong-type")
def test_config_wrong_type(box: Box, seen: Seen) -> None:
    """A configuration whose process.args is a text and no array is refused by create."""
    assert seen(box.answer(config("true", process={"args": "true"}))) == REFUSED


@behaviour("oci.config.number-of-fraction")
def test_config_number_of_fraction(box: Box, seen: Seen) -> None:
    """A user ID that is no whole number is refused by create."""
    assert seen(box.answer(config("true", process={"user": {"uid": 0.5, "gid": 0}}))) == REFUSED


@behaviour("oci.config.root-required")
def test_config_root_required(box: Box, seen: Seen) -> None:
    """A configuration without root is refused by create."""
    assert seen(box.answer(without("root"))) == REFUSED


@behaviour("oci.config.root-path-required")
def test_config_root_path_required(box: Box, seen: Seen) -> None:
    """A configuration without root.path is refused by create."""
    assert seen(box.answer(without("root.path"))) == REFUSED


@behaviour("oci.config.root-path-exists")
def test_config_root_path_exists(box: Box, seen: Seen) -> None:
    """A configuration whose root.path names nothing is refused by create."""
    assert seen(box.answer(config("true", root={"path": "nowhere"}))) == REFUSED


@behaviour("oci.config.root-path-is-directory")
def test_config_root_path_is_directory(box: Box, seen: Seen) -> None:
    """A configuration whose root.path names a file is refused by create."""
    (box.bundle / "file").write_text("")
    assert seen(box.answer(config("true", root={"path": "file"}))) == REFUSED


@behaviour("oci.config.root-path-relative")
def test_config_root_path_relative(box: Box, seen: Seen) -> None:
    """A relative root.path counts from the bundle."""
    (box.rootfs / "mark").write_text("of the bundle")
    assert seen(box.said("cat", "/mark", root={"path": "./rootfs"})) == "of the bundle"


@behaviour("oci.config.root-path-absolute")
def test_config_root_path_absolute(box: Box, seen: Seen) -> None:
    """An absolute root.path is taken as it is."""
    (box.rootfs / "mark").write_text("by its whole path")
    assert seen(box.said("cat", "/mark", root={"path": str(box.rootfs)})) == "by its whole path"


@behaviour("oci.config.root-readonly")
def test_config_root_readonly(box: Box, seen: Seen) -> None:
    """With root.readonly the container can't write to its root file system."""
    said = box.script("touch /made 2>&1; exit 0", root={"path": "rootfs", "readonly": True})
    assert seen(said[0].rpartition(": ")[2]) == "Read-only file system"
    assert not (box.rootfs / "made").exists()


@behaviour("oci.config.root-writable")
def test_config_root_writable(box: Box, seen: Seen) -> None:
    """Without root.readonly the container can write to its root file system."""
    box.said("touch", "/made")
    assert seen((box.rootfs / "made").exists()) is True


@behaviour("oci.config.root-readonly-below")
def test_config_root_readonly_below(box: Box, seen: Seen) -> None:
    """With root.readonly a mount below the root keeps options of its own: one that is writable stays so."""
    mounts = [PROC, DEV, tmpfs("/tmp")]
    said = box.script("touch /tmp/made && ls /tmp", root={"path": "rootfs", "readonly": True}, mounts=mounts)
    assert seen(said) == ["made"]


@behaviour("oci.config.hostname")
def test_config_hostname(box: Box, seen: Seen) -> None:
    """hostname is the host name that the container's processes see."""
    assert seen(box.said("hostname", hostname="of-the-box")) == "of-the-box\n"


@behaviour("oci.config.hostname-of-host")
def test_config_hostname_of_host(box: Box, seen: Seen) -> None:
    """With a UTS namespace of the container's own, hostname does not change the host's name."""
    before = os.uname().nodename
    box.said("true", hostname="of-the-box")
    assert seen(os.uname().nodename == before) is True


@behaviour("oci.config.domainname")
def test_config_domainname(box: Box, seen: Seen) -> None:
    """domainname is the NIS domain name that the container's processes see."""
    assert seen(box.said("cat", "/proc/sys/kernel/domainname", domainname="example.test")) == "example.test\n"


@behaviour("oci.config.annotation-key-empty")
def test_config_annotation_key_empty(box: Box, seen: Seen) -> None:
    """An annotation whose key is an empty text is refused by create."""
    assert seen(box.answer(config("true", annotations={"": "x"}))) == REFUSED


@behaviour("oci.config.annotation-value-empty")
def test_config_annotation_value_empty(box: Box, seen: Seen) -> None:
    """An annotation's value may be an empty text."""
    assert seen(box.answer(config("true", annotations={"com.example.a": ""}))) == ACCEPTED


@behaviour("oci.config.annotation-value-text")
def test_config_annotation_value_text(box: Box, seen: Seen) -> None:
    """An annotation whose value is no text is refused by create."""
    assert seen(box.answer(config("true", annotations={"com.example.a": 1}))) == REFUSED


@behaviour("oci.config.annotation-unknown")
def test_config_annotation_unknown(box: Box, seen: Seen) -> None:
    """An annotation that nobody knows, in a reserved namespace too, is ignored."""
    assert seen(box.answer(config("true", annotations={"org.opencontainers.unheard-of": "x"}))) == ACCEPTED


@behaviour("oci.config.annotations-empty")
def test_config_annotations_empty(box: Box, seen: Seen) -> None:
    """annotations may be an empty map."""
    assert seen(box.answer(config("true", annotations={}))) == ACCEPTED
