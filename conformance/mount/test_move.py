"""Moving mounts with MS_MOVE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import LineAt, LinesBelow, MountAt, Refusal
    from kernelproof.conformance.seen import Seen


@behaviour("mount.move.atomic-relocation", subject="impl")
def test_moved_mount_is_the_same(tree: Path, line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """A moved mount keeps its ID, root, options and content, at another mount point."""
    mount.mount("x", tree / "a", "tmpfs", "nosuid")
    (tree / "a/file").write_text("content")
    before = line_at(tree / "a")
    mount.move(tree / "a", tree / "b")
    after = line_at(tree / "b")
    assert mount_at(tree / "a") is None
    assert (tree / "b/file").read_text() == "content"
    assert seen(after) == before


@behaviour("mount.move.not-a-mount-einval", subject="impl")
def test_what_is_no_mount_can_t_be_moved(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A directory that is not the root of a mount can't be moved."""
    assert refusal(mount.move, tree / "a", tree / "b") == "EINVAL"
    assert seen.errno_of(calls.mount, tree / "a", tree / "b", None, MountFlag.MOVE) == "EINVAL"


@behaviour("mount.move.shared-parent-einval", subject="impl")
def test_parent_must_not_be_shared(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A mount that is on a shared mount can't be moved; once that is private it can."""
    mount.mount("x", tree / "a", "tmpfs", "private")
    mount.make_shared(tree)
    assert refusal(mount.move, tree / "a", tree / "b") == "EINVAL"
    assert seen.errno_of(calls.mount, tree / "a", tree / "b", None, MountFlag.MOVE) == "EINVAL"
    mount.make_private(tree)
    assert refusal(mount.move, tree / "a", tree / "b") == "no error"


@behaviour("mount.move.unbindable-to-shared-einval", subject="impl")
def test_unbindable_to_shared(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A tree with an unbindable mount can't be moved to a shared mount; without it it can."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("y", tree / "a/sub", "tmpfs", "unbindable")
    mount.mount("z", tree / "b", "tmpfs", "shared")
    (tree / "b/place").mkdir()
    assert refusal(mount.move, tree / "a", tree / "b/place") == "EINVAL"
    assert seen.errno_of(calls.mount, tree / "a", tree / "b/place", None, MountFlag.MOVE) == "EINVAL"
    mount.make_private(tree / "a/sub")
    assert refusal(mount.move, tree / "a", tree / "b/place") == "no error"


@behaviour("mount.move.into-own-descendant-eloop", subject="impl")
def test_into_itself(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A mount can't be moved below itself."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/below").mkdir()
    assert refusal(mount.move, tree / "a", tree / "a/below") == "ELOOP"
    assert seen.errno_of(calls.mount, tree / "a", tree / "a/below", None, MountFlag.MOVE) == "ELOOP"


@behaviour("mount.move.other-flags-ignored", subject="impl")
def test_other_flags_are_ignored(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_MOVE|MS_RDONLY moves, and makes nothing read-only."""
    mount.mount("x", tree / "a", "tmpfs", "")
    calls.mount(tree / "a", tree / "b", None, MountFlag.MOVE | MountFlag.RDONLY)
    assert line_at(tree / "b").source == "x"
    assert "rw" in seen(line_at(tree / "b").options)
    (tree / "b/file").touch()


@behaviour("mount.move.submounts-follow", subject="impl")
def test_what_is_below_follows(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """Mounts below a moved mount are below its new mount point, and are the same mounts."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/one").mkdir()
    mount.mount("y", tree / "a/one", "tmpfs", "")
    (tree / "a/one/two").mkdir()
    mount.mount("z", tree / "a/one/two", "tmpfs", "")
    before = lines_below(tree / "a")
    mount.move(tree / "a", tree / "b")
    assert seen(sorted(lines_below(tree / "b"))) == [".", "one", "one/two"]
    assert {name: line.id for name, line in lines_below(tree / "b").items()} == {
        name: line.id for name, line in before.items()
    }
    assert lines_below(tree / "a") == {}


@behaviour("mount.move.root-einval", subject="impl")
def test_root_can_t_be_moved(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """The root can't be moved."""
    assert refusal(mount.move, "/", tree / "a") != "no error"
    assert seen.errno_of(calls.mount, "/", tree / "a", None, MountFlag.MOVE) == "EINVAL"
