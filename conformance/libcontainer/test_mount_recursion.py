"""The option words that hold for a bind mount and all below it, and those of propagation, by mountinfo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.configs import bind
from kernelproof.conformance.libcontainer.hosting import host_shell
from kernelproof.conformance.libcontainer.observing import mount_at

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def shared_source(box: Box, inner_option: str = "") -> Path:
    """A shared mount of the host with another one below it, which may have a flag."""
    source = box.bundle / "source"
    source.mkdir()
    below = f"mkdir {source}/inner && mount -t tmpfs none {source}/inner"
    host_shell(f"mount -t tmpfs none {source} && {below} && mount --make-rshared {source}")
    if inner_option:
        host_shell(f"mount -o remount,bind,{inner_option} {source}/inner")
    return source


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        behaviour_row("oci.mount-options.rro", "rro", "ro"),
        behaviour_row("oci.mount-options.rnosuid", "rnosuid", "nosuid"),
        behaviour_row("oci.mount-options.rnodev", "rnodev", "nodev"),
        behaviour_row("oci.mount-options.rnoexec", "rnoexec", "noexec"),
        behaviour_row("oci.mount-options.rnoatime", "rnoatime", "noatime"),
        behaviour_row("oci.mount-options.rnodiratime", "rnodiratime", "nodiratime"),
        behaviour_row("oci.mount-options.rnosymfollow", "rnosymfollow", "nosymfollow"),
    ],
)
def test_option_sets_flag_below(box: Box, seen: Seen, option: str, flag: str) -> None:
    """The option sets the flag on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", option))
    assert seen(found.has(flag)) is True


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        behaviour_row("oci.mount-options.rrw", "rrw", "ro"),
        behaviour_row("oci.mount-options.rsuid", "rsuid", "nosuid"),
        behaviour_row("oci.mount-options.rdev", "rdev", "nodev"),
        behaviour_row("oci.mount-options.rexec", "rexec", "noexec"),
        behaviour_row("oci.mount-options.rsymfollow", "rsymfollow", "nosymfollow"),
    ],
)
def test_option_clears_flag_below(box: Box, seen: Seen, option: str, flag: str) -> None:
    """The option clears the flag on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box, flag), "/data", "rbind", option))
    assert seen(found.lacks(flag)) is True


@behaviour("oci.mount-options.rrelatime")
def test_rrelatime(box: Box, seen: Seen) -> None:
    """rrelatime sets relatime on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box, "noatime"), "/data", "rbind", "rrelatime"))
    assert seen((found.has("relatime"), found.lacks("noatime"))) == (True, True)


@behaviour("oci.mount-options.rstrictatime")
def test_rstrictatime(box: Box, seen: Seen) -> None:
    """rstrictatime takes relatime from a bind mount and from all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rstrictatime"))
    assert seen(found.lacks("relatime", "noatime")) is True


@pytest.mark.parametrize(
    ("option", "place", "propagation"),
    [
        behaviour_row("oci.mount-options.private", "private", "/data", []),
        behaviour_row("oci.mount-options.rprivate", "rprivate", "/data/inner", []),
        behaviour_row("oci.mount-options.slave", "slave", "/data", ["master"]),
        behaviour_row("oci.mount-options.rslave", "rslave", "/data/inner", ["master"]),
        behaviour_row("oci.mount-options.unbindable", "unbindable", "/data", ["unbindable"]),
        behaviour_row("oci.mount-options.runbindable", "runbindable", "/data/inner", ["unbindable"]),
    ],
)
def test_propagation(box: Box, seen: Seen, option: str, place: str, propagation: list[str]) -> None:
    """The option gives a mount its propagation; one that begins with r gives it to all below too."""
    found = mount_at(box, place, bind(shared_source(box), "/data", "rbind", option))
    assert seen(found.propagation) == propagation


@pytest.mark.parametrize(
    ("option", "place"),
    [
        behaviour_row("oci.mount-options.shared", "shared", "/data"),
        behaviour_row("oci.mount-options.rshared", "rshared", "/data/inner"),
    ],
)
def test_propagation_to_peers(box: Box, seen: Seen, option: str, place: str) -> None:
    """The option makes a mount a member of a peer group, rshared all below too."""
    found = mount_at(box, place, bind(shared_source(box), "/data", "rbind", option))
    assert seen("shared" in found.propagation) is True
