"""Propagation of mounts between peers and between mount namespaces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl._syscalls.mount import MountFlag, mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import MountAt
    from kernelproof.conformance.seen import Seen


@behaviour("mount.propagation.slave-of-peer-group", subject="stand-in")
def test_slave_names_its_peer_group(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """MS_SLAVE turns "shared:N" of a mount with another peer into "master:N" with the same N."""
    mount(None, tree, None, MountFlag.SHARED)
    mount(tree / "a", tree / "b", None, MountFlag.BIND)
    peer = mount_at(tree / "b")
    assert peer is not None
    (tag,) = peer.tags
    assert tag.startswith("shared:")

    mount(None, tree / "b", None, MountFlag.SLAVE)
    slave = mount_at(tree / "b")
    assert slave is not None
    assert seen(slave.tags) == {tag.replace("shared:", "master:")}


@behaviour("mount.ns.private-mounts-isolated", subject="stand-in")
def test_private_mount_is_seen_inside_only(tree: Path, mount_at: MountAt, in_child: InChild, seen: Seen) -> None:
    """A mount made in a new mount namespace below a private mount is not seen in the old one."""

    def mount_inside() -> list[bool]:
        unshare(CloneFlag.NEWNS)
        mount("inside", tree / "a", "tmpfs")
        return [mount_at(tree / "a", pid) is not None for pid in ("self", os.getppid())]

    inside_outside = in_child(mount_inside)
    assert seen(inside_outside) == [True, False]


@behaviour("mount.ns.shared-mounts-joined", subject="stand-in")
def test_shared_mount_is_seen_outside_too(tree: Path, mount_at: MountAt, in_child: InChild, seen: Seen) -> None:
    """A mount made in a new mount namespace below a shared mount appears in the old one too."""
    mount(None, tree, None, MountFlag.SHARED)

    def mount_inside() -> list[bool]:
        unshare(CloneFlag.NEWNS)
        mount("inside", tree / "a", "tmpfs")
        return [mount_at(tree / "a", pid) is not None for pid in ("self", os.getppid())]

    inside_outside = in_child(mount_inside)
    assert seen(inside_outside) == [True, True]
