"""open_tree(2) and move_mount(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import AT_FDCWD, MoveMountFlag, OpenTreeFlag
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.mount import DetachedMount

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

CLONE = OpenTreeFlag.CLONE | OpenTreeFlag.CLOEXEC


@behaviour("mount.open-tree.recursive-needs-clone", subject="impl")
def test_recursive_needs_clone(tree: Path, seen: Seen) -> None:
    """AT_RECURSIVE without OPEN_TREE_CLONE is refused."""
    assert seen.errno_of(calls.open_tree, AT_FDCWD, tree, OpenTreeFlag.RECURSIVE) == "EINVAL"


@behaviour("mount.open-tree.clone-eperm", subject="impl")
def test_clone_needs_the_capability(as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Without CAP_SYS_ADMIN a tree is opened and not copied."""
    answers = as_nobody(
        lambda: [
            refusal(DetachedMount.copy, "/"),
            refusal(calls.open_tree, AT_FDCWD, "/", CLONE),
            refusal(calls.open_tree, AT_FDCWD, "/", OpenTreeFlag.CLOEXEC),
        ]
    )
    assert seen(answers) == ["EPERM", "EPERM", "no error"]


@behaviour("mount.open-tree.empty-path-enoent", subject="impl")
def test_empty_path(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """An empty path is refused without AT_EMPTY_PATH, and with it is the descriptor."""
    fd = os.open(tree, os.O_PATH)
    answers = [
        refusal(calls.open_tree, fd, b"", OpenTreeFlag.CLOEXEC),
        refusal(calls.open_tree, fd, b"", OpenTreeFlag.CLOEXEC | OpenTreeFlag.EMPTY_PATH),
    ]
    os.close(fd)
    assert seen(answers) == ["ENOENT", "no error"]


@behaviour("mount.open-tree.no-propagation-while-detached", subject="impl")
def test_detached_copy_gets_nothing(peers: tuple[Path, Path], tree: Path, mount_at: MountAt, seen: Seen) -> None:
    """A mount below the source does not reach a detached copy, nor the place where that is attached later."""
    a, b = peers
    (tree / "c").mkdir()
    with DetachedMount.copy(a) as made:
        mount.mount("new", a / "x", "tmpfs", "")
        assert mount_at(b / "x") is not None
        (a / "x/file").touch()
        fd = made.open("x", os.O_RDONLY | os.O_DIRECTORY)
        inside = os.listdir(fd)
        os.close(fd)
        made.attach(tree / "c")
    assert seen([inside, mount_at(tree / "c/x")]) == [[], None]


@behaviour("mount.move-mount.attach-needs-empty-path", subject="impl")
def test_empty_path_needs_its_flag(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A descriptor is attached with MOVE_MOUNT_F_EMPTY_PATH and not without."""
    with DetachedMount.copy(tree / "a") as made:
        answers = [
            refusal(calls.move_mount, made.fd, b"", AT_FDCWD, tree / "b", flags)
            for flags in (0, MoveMountFlag.F_EMPTY_PATH)
        ]
    assert seen(answers) == ["ENOENT", "no error"]


@behaviour("mount.move-mount.type-mismatch-einval", subject="impl")
def test_directory_on_a_file(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A directory can't be attached to a file."""
    (tree / "file").touch()
    with DetachedMount.copy(tree / "a") as made:
        assert refusal(made.attach, tree / "file") == "EINVAL"
        flags = MoveMountFlag.F_EMPTY_PATH
        assert seen.errno_of(calls.move_mount, made.fd, b"", AT_FDCWD, tree / "file", flags) == "EINVAL"


@behaviour("mount.move-mount.fd-stays-usable", subject="impl")
def test_descriptor_can_be_moved_again(tree: Path, line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """A mount that was attached by its descriptor is moved by it."""
    with mount.mount_tmpfs(source="moved") as made:
        made.attach(tree / "a")
        before = line_at(tree / "a").id
        made.attach(tree / "b")
    assert mount_at(tree / "a") is None
    assert seen(line_at(tree / "b").id) == before


@behaviour("mount.move-mount.close-after-attach-keeps", subject="impl")
def test_attached_mount_stays(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """An attached mount stays when its descriptor is closed."""
    with mount.mount_tmpfs(source="stays") as made:
        made.attach(tree / "a")
    assert seen(line_at(tree / "a").source) == "stays"
    (tree / "a/file").touch()


@behaviour("mount.move-mount.symlink-not-followed", subject="impl")
def test_link_is_followed_if_asked(tree: Path, mount_at: MountAt, refusal: Refusal, seen: Seen) -> None:
    """A symbolic link as the target is followed only with MOVE_MOUNT_T_SYMLINKS."""
    (tree / "link").symlink_to("b")
    with DetachedMount.copy(tree / "a") as made:
        refused = refusal(made.attach, tree / "link")
        assert mount_at(tree / "b") is None
        made.attach(tree / "link", follow=True)
    assert refused != "no error"
    assert seen(mount_at(tree / "b") is not None)


@behaviour("mount.move-mount.beneath", subject="impl")
def test_beneath(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A mount attached beneath is hidden by the one above it, and seen when that is unmounted."""
    mount.mount("above", tree / "a", "tmpfs", "")
    with mount.mount_tmpfs(source="beneath") as made:
        made.attach(tree / "a", beneath=True)
    (tree / "a/above").touch()
    names = [os.listdir(tree / "a")]
    mount.unmount(tree / "a")
    assert seen([*names, line_at(tree / "a").source]) == [["above"], "beneath"]


@behaviour("mount.move-mount.beneath-not-a-mount-einval", subject="impl")
def test_beneath_nothing(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """There is no beneath where nothing is mounted."""
    with mount.mount_tmpfs() as made:
        assert refusal(made.attach, tree / "a", beneath=True) == "EINVAL"
        flags = MoveMountFlag.F_EMPTY_PATH | MoveMountFlag.BENEATH
        assert seen.errno_of(calls.move_mount, made.fd, b"", AT_FDCWD, tree / "a", flags) == "EINVAL"
        made.attach(tree / "a")


@behaviour("mount.move-mount.shared-parent-einval", subject="impl")
def test_parent_must_not_be_shared(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """An attached mount that is on a shared one can't be moved; on a private one it can."""
    mount.mount("x", tree / "a", "tmpfs", "private")
    mount.make_shared(tree)
    answers = [refusal(calls.move_mount, AT_FDCWD, tree / "a", AT_FDCWD, tree / "b")]
    mount.make_private(tree)
    answers.append(refusal(calls.move_mount, AT_FDCWD, tree / "a", AT_FDCWD, tree / "b"))
    assert seen(answers) == ["EINVAL", "no error"]


@behaviour("mount.move-mount.beneath-root-einval", subject="impl")
def test_beneath_the_root(in_child: InChild, refusal: Refusal, seen: Seen) -> None:
    """Nothing is attached beneath the root."""

    def attach() -> str:
        unshare(CloneFlag.NEWNS)
        mount.make_rprivate("/")
        with mount.mount_tmpfs() as made:
            return refusal(made.attach, "/", beneath=True)

    assert seen(in_child(attach)) == "EINVAL"
