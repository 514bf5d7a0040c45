"""Bind mounts and what a remount changes of them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl._syscalls.mount import MountFlag, mount

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import MountAt
    from kernelproof.conformance.seen import Seen


@behaviour("mount.bind.same-object-two-paths", subject="stand-in")
def test_bind_is_the_same_object(tree: Path, mount_at: MountAt) -> None:
    """After a bind mount a file is one object on two paths: same device, same inode, same content."""
    (tree / "a/file").write_text("before")
    mount(tree / "a", tree / "b", None, MountFlag.BIND)

    line = mount_at(tree / "b")
    assert line is not None
    assert line.root == "/a"
    first, second = (tree / "a/file").stat(), (tree / "b/file").stat()
    assert (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
    (tree / "b/file").write_text("after")
    assert (tree / "a/file").read_text() == "after"


@behaviour("mount.bind.flags-ignored", subject="stand-in")
def test_bind_ignores_other_flags(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """MS_RDONLY and MS_NOSUID given together with MS_BIND are ignored: the mount has the options of its source."""
    mount(tree / "a", tree / "b", None, MountFlag.BIND | MountFlag.RDONLY | MountFlag.NOSUID)

    source, target = mount_at(tree), mount_at(tree / "b")
    assert source is not None
    assert target is not None
    assert seen(target.options).isdisjoint({"ro", "nosuid"})
    assert target.options == source.options
    (tree / "b/file").write_text("writable")


@behaviour("mount.bind.inherits-source-options", subject="stand-in")
def test_bind_has_options_of_source(tree: Path, mount_at: MountAt) -> None:
    """A bind mount of a mount that is nosuid and nodev is nosuid and nodev too."""
    mount("source", tree / "a", "tmpfs", MountFlag.NOSUID | MountFlag.NODEV)
    mount(tree / "a", tree / "b", None, MountFlag.BIND)

    target = mount_at(tree / "b")
    assert target is not None
    assert target.options >= {"nosuid", "nodev"}


@behaviour("mount.remount.bind-ro-one-mount-only", subject="stand-in")
def test_read_only_remount_of_one_of_two_mounts(tree: Path, seen: Seen) -> None:
    """MS_REMOUNT|MS_BIND|MS_RDONLY makes one mount read-only and leaves the other of the same filesystem writable."""
    mount(tree / "a", tree / "b", None, MountFlag.BIND)
    mount(None, tree / "b", None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY)

    assert seen.errno_of((tree / "b/through-b").touch) == "EROFS"
    assert seen.errno_of((tree / "a/through-a").touch) == "no error"
    command = ["findmnt", "--json", "--output", "VFS-OPTIONS,FS-OPTIONS", str(tree / "b")]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30)
    (shown,) = json.loads(found.stdout)["filesystems"]
    assert shown["vfs-options"].split(",")[0] == "ro"
    assert shown["fs-options"].split(",")[0] == "rw"


@behaviour("mount.remount.superblock-ro-hits-all", subject="stand-in")
def test_read_only_superblock_hits_every_mount(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """After a read-only remount without MS_BIND no mount of the filesystem can be written, though the other says rw."""
    mount(tree / "a", tree / "b", None, MountFlag.BIND)
    mount(None, tree, None, MountFlag.REMOUNT | MountFlag.RDONLY)

    assert seen.errno_of((tree / "b/through-b").touch) == "EROFS"
    other = mount_at(tree / "b")
    assert other is not None
    assert "rw" in other.options
    assert "ro" in other.super_options
