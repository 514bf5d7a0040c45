"""Trees given away, while somebody works against it."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kernelproof.impl.tests.user.owners import GID, UID, Swapper, as_root, owner_of
from kernelproof.impl.user import (
    ExchangedError,
    IdMap,
    IdMapError,
    IdRangeError,
    LinkedOutsideError,
    chown_tree,
    shift_tree,
)
from kernelproof.impl.user import ownership as ownership_module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with files, links and directories."""
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_text("x")
    (tree / "a/b/link").symlink_to("/etc/passwd")
    (tree / "a/b/dangling").symlink_to("nowhere")
    os.link(tree / "a/file", tree / "a/b/same")
    os.mkfifo(tree / "fifo")
    return tree


def everything(tree: Path) -> list[Path]:
    return [tree, *tree.rglob("*")]


@as_root
@pytest.mark.parametrize("pinned", [True, False], ids=["O_PATH", "by name"])
def test_whole_tree_changes(tree: Path, pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry changes once, links themselves and not what they point to."""
    if not pinned:
        monkeypatch.setattr(ownership_module, "_PIN", None)
    before = owner_of(Path("/etc/passwd"))
    assert chown_tree(tree, 4242, 4343) == 7
    assert {owner_of(each) for each in everything(tree)} == {(4242, 4343)}
    assert owner_of(Path("/etc/passwd")) == before
    assert chown_tree(tree, 4242, 4343) == 0
    assert chown_tree("tree/a", 1, 1, root=tree.parent) == 5


@as_root
def test_deep_tree_needs_few_descriptors(tmp_path: Path) -> None:
    """A tree deeper than the limit on open files is walked, and nothing stays open."""
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        assert chown_tree(top, 4242, 4343) == 1501
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/dev/fd")) == before
    subprocess.run(["rm", "-r", top], check=True, timeout=60)  # too deep for what pytest removes it with


@as_root
def test_hard_link_from_outside_is_refused(tree: Path) -> None:
    """A file with a link outside the tree is not given away, nor anything else, unless that is asked for."""
    (tree.parent / "secret").write_text("")
    os.link(tree.parent / "secret", tree / "a/trap")
    with pytest.raises(LinkedOutsideError, match="tree/a/trap has hard links outside the tree"):
        chown_tree(tree, 4242, 4343)
    assert {owner_of(each) for each in everything(tree)} == {(0, 0)}
    chown_tree(tree, 4242, 4343, allow_outside_links=True)
    assert owner_of(tree.parent / "secret") == (4242, 4343)


@as_root
def test_hard_link_made_in_between_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that appears between the look and the change stops the change."""
    real = ownership_module._walk
    walks: list[int] = []

    def walk(*arguments: object) -> None:
        walks.append(1)
        if len(walks) == 2:
            os.link(tree / "a/file", tree.parent / "late")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ownership_module, "_walk", walk)
    with pytest.raises(ExchangedError, match="got another hard link"):
        chown_tree(tree, 4242, 4343)


@as_root
def test_shifting_translates_each_owner_once(tree: Path) -> None:
    """Each file goes to the outside ids of its owner, one with two names once; an unmapped owner changes nothing."""
    os.chown(tree / "a/b", 5, 6)
    id_map = IdMap([(0, 100_000, 10), (100_000, 300_000, 10)])
    assert shift_tree(tree, id_map, id_map) == 7
    assert owner_of(tree / "a/b") == (100_005, 100_006)
    assert owner_of(tree / "a/b/same") == (100_000, 100_000)
    with pytest.raises(IdMapError, match="uid 100000 is not mapped"):
        shift_tree(tree, IdMap([(0, 0, 1)]), id_map)
    assert owner_of(tree) == (100_000, 100_000)


@as_root
@pytest.mark.parametrize("place", [".", "a/b"], ids=["last", "deep"])
def test_owner_without_id_changes_nothing(tree: Path, place: str) -> None:
    """All owners are translated before the first file changes, the top's too, which comes last; nothing stays open."""
    os.chown(tree / place, 7, 7)
    before, descriptors = {each: owner_of(each) for each in everything(tree)}, len(os.listdir("/dev/fd"))
    with pytest.raises(IdMapError, match="uid 7 is not mapped"):
        shift_tree(tree, IdMap([(0, 100_000, 1)]), IdMap([(0, 100_000, 10)]))
    assert {each: owner_of(each) for each in everything(tree)} == before
    assert len(os.listdir("/dev/fd")) == descriptors


@as_root
def test_link_as_the_tree_itself(tree: Path) -> None:
    """A link as the path is changed itself."""
    (tree.parent / "alias").symlink_to(tree)
    assert chown_tree(tree.parent / "alias", 4242, 4343) == 1
    assert owner_of(tree.parent / "alias") == (4242, 4343)
    assert owner_of(tree) == (0, 0)


def test_own_tree_needs_no_privilege(tree: Path) -> None:
    """Giving a tree to those who have it changes nothing."""
    assert chown_tree(tree, UID, GID) == 0
    with pytest.raises(IdRangeError):
        chown_tree(tree, 2**32 - 1, GID)
    with pytest.raises(FileNotFoundError):
        chown_tree(tree / "missing", UID, GID)


@as_root
@pytest.mark.long
def test_attacker_moves_directories(tmp_path: Path, full_number: Callable[[int], int]) -> None:
    """While a thread swaps directories of the tree for links out of it, nothing outside changes."""
    tree, victim = tmp_path / "tree", tmp_path / "victim"
    for each in (tree / "way/deep", victim / "deep"):
        each.mkdir(parents=True)
        (each / "file").touch()
    with Swapper(tree, victim) as attacker:
        for number in attacker.wait_for(full_number(20_000)):
            with suppress(OSError, ExchangedError):
                chown_tree(tree, 1 + number % 2, 1)
    assert {owner_of(each) for each in everything(victim)} == {(0, 0)}
