"""What becomes of a mount that is bound or moved to a place on a shared or on a private mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import LineAt
    from kernelproof.conformance.seen import Seen

Peers = tuple["Path", "Path"]


def on_shared_and_private(tree: Path) -> tuple[Path, Path, Path]:
    """A place on a shared mount, the same place below that mount's peer, and a place on a private mount."""
    for name in ("shared", "peer", "private"):
        (tree / name).mkdir()
    mount.mount("shared", tree / "shared", "tmpfs", "shared")
    (tree / "shared/place").mkdir()
    mount.bind(tree / "shared", tree / "peer")
    return tree / "shared/place", tree / "peer/place", tree / "private"


@behaviour("mount.propagation.bind-private-to-shared", subject="impl")
def test_bind_private_to_shared(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A private mount bound below a shared one is shared, with its copy below the peer."""
    mount.mount("x", tree / "a", "tmpfs", "")
    place, copy, _ = on_shared_and_private(tree)
    mount.bind(tree / "a", place)
    assert line_at(tree / "a").tags == frozenset()
    assert seen(sorted(line_at(place).tag)) == ["shared"]
    assert line_at(place).tag == line_at(copy).tag


@behaviour("mount.propagation.bind-slave-to-shared", subject="impl")
def test_bind_slave_to_shared(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A slave bound below a shared mount is shared and a slave of its master."""
    mount.make_slave(peers[1])
    place, copy, _ = on_shared_and_private(tree)
    mount.bind(peers[1], place)
    assert seen(sorted(line_at(place).tag)) == ["master", "shared"]
    assert line_at(place).tag["master"] == line_at(peers[0]).tag["shared"]
    assert line_at(copy).tag == line_at(place).tag


@behaviour("mount.propagation.bind-shared-to-nonshared", subject="impl")
def test_bind_shared_to_private(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A shared mount bound below a private one is shared, in the group of its source."""
    _, _, private = on_shared_and_private(tree)
    mount.bind(peers[0], private)
    assert seen(line_at(private).tag) == line_at(peers[0]).tag
    assert line_at(tree).tags == frozenset()


@behaviour("mount.propagation.bind-slave-to-nonshared", subject="impl")
def test_bind_slave_to_private(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A slave bound below a private mount is a slave of the same master."""
    mount.make_slave(peers[1])
    _, _, private = on_shared_and_private(tree)
    mount.bind(peers[1], private)
    assert seen(line_at(private).tags) == line_at(peers[1]).tags != frozenset()


@behaviour("mount.propagation.bind-private-to-nonshared", subject="impl")
def test_bind_private_to_private(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A private mount bound below a private one is private; a shared one is not."""
    mount.mount("x", tree / "a", "tmpfs", "shared")
    mount.bind(tree / "a", tree / "b")
    assert sorted(line_at(tree / "b").tag) == ["shared"]
    mount.unmount(tree / "b")
    mount.make_private(tree / "a")
    mount.bind(tree / "a", tree / "b")
    assert seen(line_at(tree / "b").tags) == frozenset()


@behaviour("mount.propagation.move-private-to-shared", subject="impl")
def test_move_private_to_shared(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A private mount moved below a shared one is shared, with its copy below the peer."""
    mount.mount("x", tree / "a", "tmpfs", "")
    place, copy, _ = on_shared_and_private(tree)
    mount.move(tree / "a", place)
    assert seen(sorted(line_at(place).tag)) == ["shared"]
    assert line_at(copy).tag == line_at(place).tag
    assert line_at(copy).source == "x"


@behaviour("mount.propagation.move-slave-to-shared", subject="impl")
def test_move_slave_to_shared(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A slave moved below a shared mount is shared and a slave of its master."""
    mount.make_slave(peers[1])
    place, _, _ = on_shared_and_private(tree)
    mount.move(peers[1], place)
    assert seen(sorted(line_at(place).tag)) == ["master", "shared"]
    assert line_at(place).tag["master"] == line_at(peers[0]).tag["shared"]


@behaviour("mount.propagation.move-shared-to-nonshared", subject="impl")
def test_move_shared_to_private(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A shared mount moved below a private one stays in its group."""
    _, _, private = on_shared_and_private(tree)
    before = line_at(peers[1])
    mount.move(peers[1], private)
    assert line_at(private).id == before.id
    assert seen(line_at(private).tag) == before.tag == line_at(peers[0]).tag


@behaviour("mount.propagation.move-slave-to-nonshared", subject="impl")
def test_move_slave_to_private(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A slave moved below a private mount is a slave of the same master."""
    mount.make_slave(peers[1])
    _, _, private = on_shared_and_private(tree)
    before = line_at(peers[1])
    mount.move(peers[1], private)
    assert line_at(private).id == before.id
    assert seen(line_at(private).tags) == before.tags


@behaviour("mount.propagation.move-private-to-nonshared", subject="impl")
def test_move_private_to_private(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A private mount moved below a private one is private."""
    mount.mount("x", tree / "a", "tmpfs", "shared")
    assert sorted(line_at(tree / "a").tag) == ["shared"]
    mount.make_private(tree / "a")
    mount.move(tree / "a", tree / "b")
    assert line_at(tree / "b").source == "x"
    assert seen(line_at(tree / "b").tags) == frozenset()


@behaviour("mount.propagation.move-unbindable-to-nonshared", subject="impl")
def test_move_unbindable_to_private(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """An unbindable mount moved below a private one stays unbindable."""
    mount.mount("x", tree / "a", "tmpfs", "unbindable")
    mount.move(tree / "a", tree / "b")
    assert seen(line_at(tree / "b").tags) == {"unbindable"}
