"""Bind mounts and what a remount changes of them."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, LinesBelow, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

BIND_TREE = MountFlag.BIND | MountFlag.REC


@behaviour("mount.bind.same-object-two-paths", subject="impl")
def test_bind_is_the_same_object(tree: Path, line_at: LineAt) -> None:
    """After a bind mount a file is one object on two paths: same device, same inode, same content."""
    (tree / "a/file").write_text("before")
    mount.bind(tree / "a", tree / "b")

    assert line_at(tree / "b").root == "/a"
    first, second = (tree / "a/file").stat(), (tree / "b/file").stat()
    assert (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
    (tree / "b/file").write_text("after")
    assert (tree / "a/file").read_text() == "after"


@behaviour("mount.bind.flags-ignored", subject="impl")
def test_bind_ignores_other_flags(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_RDONLY and MS_NOSUID given together with MS_BIND are ignored: the mount has the options of its source."""
    calls.mount(tree / "a", tree / "b", None, MountFlag.BIND | MountFlag.RDONLY | MountFlag.NOSUID)

    target = line_at(tree / "b")
    assert seen(target.options).isdisjoint({"ro", "nosuid"})
    assert target.options == line_at(tree).options
    (tree / "b/file").write_text("writable")
    mount.unmount(tree / "b")
    mount.bind(tree / "a", tree / "b", read_only=True, options="nosuid")
    assert {"ro", "nosuid"} <= line_at(tree / "b").options  # a second call, made by the layer above


@behaviour("mount.bind.inherits-source-options", subject="impl")
def test_bind_has_options_of_source(tree: Path, line_at: LineAt) -> None:
    """A bind mount of a mount that is nosuid and nodev is nosuid and nodev too."""
    mount.mount("source", tree / "a", "tmpfs", "nosuid,nodev")
    calls.mount(tree / "a", tree / "b", None, MountFlag.BIND)
    assert line_at(tree / "b").options >= {"nosuid", "nodev"}


@behaviour("mount.remount.bind-ro-one-mount-only", subject="impl")
def test_read_only_remount_of_one_of_two_mounts(tree: Path, seen: Seen) -> None:
    """MS_REMOUNT|MS_BIND|MS_RDONLY makes one mount read-only and leaves the other of the same filesystem writable."""
    mount.bind(tree / "a", tree / "b", read_only=True)

    assert seen.errno_of((tree / "b/through-b").touch) == "EROFS"
    assert seen.errno_of((tree / "a/through-a").touch) == "no error"
    command = ["findmnt", "--json", "--output", "VFS-OPTIONS,FS-OPTIONS", str(tree / "b")]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30)
    (shown,) = json.loads(found.stdout)["filesystems"]
    assert shown["vfs-options"].split(",")[0] == "ro"
    assert shown["fs-options"].split(",")[0] == "rw"


@behaviour("mount.remount.superblock-ro-hits-all", subject="impl")
def test_read_only_superblock_hits_every_mount(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """After a read-only remount without MS_BIND no mount of the filesystem can be written, though the other says rw."""
    mount.bind(tree / "a", tree / "b")
    mount.remount(tree, "ro")

    assert seen.errno_of((tree / "b/through-b").touch) == "EROFS"
    other = line_at(tree / "b")
    assert "rw" in other.options
    assert "ro" in other.super_options
    assert mount.mount_of(tree / "b").is_read_only


def tree_of_three(tree: Path) -> None:
    """Mount at "a", "a/one" and "a/one/two", each with a file of its own name."""
    for name in ("a", "a/one", "a/one/two"):
        (tree / name).mkdir(exist_ok=True)
        mount.mount(name, tree / name, "tmpfs", "")
        (tree / name / "here").touch()


@behaviour("mount.bind.not-recursive-by-default", subject="impl")
def test_bind_is_of_one_mount(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """Without MS_REC the bare directory is seen where the source has a mount."""
    tree_of_three(tree)
    mount.bind(tree / "a", tree / "b")
    assert sorted(lines_below(tree / "b")) == ["."]
    assert seen(os.listdir(tree / "b/one")) == []
    assert os.listdir(tree / "a/one") != []


@behaviour("mount.bind.recursive-clones-submounts", subject="impl")
def test_recursive_bind(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """With MS_REC each mount below the source has its like below the target, but for unbindable ones."""
    tree_of_three(tree)
    (tree / "a/not").mkdir()
    mount.mount("not", tree / "a/not", "tmpfs", "unbindable")
    mount.bind(tree / "a", tree / "b", recursive=True)
    found = lines_below(tree / "b")
    assert seen(sorted(found)) == [".", "one", "one/two"]
    assert [found[name].source for name in sorted(found)] == ["a", "a/one", "a/one/two"]
    assert (tree / "b/one/two/here").exists()


@behaviour("mount.bind.recursive-prunes-unbindable-subtree", subject="impl")
def test_recursive_bind_prunes(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """An unbindable mount is left out by a recursive bind with all that is below it."""
    tree_of_three(tree)
    mount.make_unbindable(tree / "a/one")
    mount.bind(tree / "a", tree / "b", recursive=True)
    assert seen(sorted(lines_below(tree / "b"))) == ["."]
    assert sorted(lines_below(tree / "a")) == [".", "one", "one/two"]


@behaviour("mount.bind.unbindable-source-einval", subject="impl")
def test_unbindable_source(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """An unbindable mount can't be bound; when it is private again it can."""
    mount.mount("x", tree / "a", "tmpfs", "unbindable")
    assert refusal(mount.bind, tree / "a", tree / "b") == "EINVAL"
    assert seen.errno_of(calls.mount, tree / "a", tree / "b", None, MountFlag.BIND) == "EINVAL"
    mount.make_private(tree / "a")
    assert refusal(mount.bind, tree / "a", tree / "b") == "no error"


@behaviour("mount.bind.file-on-file", subject="impl")
def test_file_on_file(tree: Path, seen: Seen) -> None:
    """A file that is bound on another one is that file."""
    for name in ("one", "two"):
        (tree / name).write_text(name)
    inode = (tree / "one").stat().st_ino
    assert (tree / "two").stat().st_ino != inode
    mount.mount(tree / "one", tree / "two", "none", "bind")
    assert seen((tree / "two").stat().st_ino) == inode
    assert (tree / "two").read_text() == "one"


@behaviour("mount.bind.type-mismatch-enotdir", subject="impl")
def test_file_and_directory(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Neither a directory on a file nor a file on a directory can be bound."""
    (tree / "file").touch()
    pairs = [(tree / "a", tree / "file"), (tree / "file", tree / "a")]
    assert [refusal(mount.bind, *pair) for pair in pairs] == ["ENOTDIR", "ENOTDIR"]
    answers = [refusal(calls.mount, *pair, None, MountFlag.BIND) for pair in pairs]
    assert seen(answers) == ["ENOTDIR", "ENOTDIR"]


@behaviour("mount.bind.survives-source-umount", subject="impl")
def test_bind_survives_its_source(tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """A bind mount can be used after the mount it was made from is gone."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/file").write_text("still there")
    mount.bind(tree / "a", tree / "b")
    mount.unmount(tree / "a")
    assert mount_at(tree / "a") is None
    assert seen((tree / "b/file").read_text()) == "still there"
    (tree / "b/new").touch()


@behaviour("mount.bind.link-across-exdev", subject="impl")
def test_no_link_across(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A hard link can't be made from one mount of a filesystem to another; within one it can."""
    (tree / "file").touch()
    mount.bind(tree / "a", tree / "b")
    assert refusal(os.link, tree / "file", tree / "a/within") == "no error"
    assert seen.errno_of(os.link, tree / "file", tree / "b/across") == "EXDEV"


@behaviour("mount.bind.rename-across-exdev", subject="impl")
def test_no_rename_across(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A file can't be renamed from one mount of a filesystem to another; within one it can."""
    (tree / "file").touch()
    mount.bind(tree / "a", tree / "b")
    assert seen.errno_of(os.rename, tree / "file", tree / "b/across") == "EXDEV"
    assert refusal(os.rename, tree / "file", tree / "a/within") == "no error"


@behaviour("mount.bind.mntns-link-shared-parent-einval", subject="impl")
def test_mount_namespace_below_shared(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """The link of a mount namespace can't be bound below a shared mount; that of another kind can."""
    mount.make_shared(tree)
    (tree / "file").touch()
    assert refusal(mount.bind, "/proc/self/ns/net", tree / "file") == "no error"
    mount.unmount(tree / "file")
    assert refusal(mount.bind, "/proc/self/ns/mnt", tree / "file") == "EINVAL"
    assert seen.errno_of(calls.mount, "/proc/self/ns/mnt", tree / "file", None, MountFlag.BIND) == "EINVAL"


@behaviour("mount.bind.locked-submount-needs-rec", subject="impl")
def test_locked_mount_below(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """In a less privileged namespace a directory with an inherited mount below it can be bound with MS_REC only."""
    (tree / "a/sub").mkdir()
    mount.mount("x", tree / "a/sub", "tmpfs", "")
    answers = as_guest_root(
        lambda: [refusal(calls.mount, tree / "a", tree / "b", None, flags) for flags in (MountFlag.BIND, BIND_TREE)]
    )
    assert seen(answers) == ["EINVAL", "no error"]
