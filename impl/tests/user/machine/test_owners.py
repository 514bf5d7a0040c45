"""Directories and trees for a user, as root, with an attacker at work: nothing outside ever changes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernelproof.impl.user import ExchangedError, IdMap, chown_tree, make_directories, mkdir_as, shift_tree

pytestmark = pytest.mark.machine

USER = 4001
ROUNDS = 100_000  # of the attacker, in the long form


def facts(path: Path) -> tuple[int, int, int]:
    """Owner, group and permissions."""
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def test_directory_of_a_user(tmp_path: Path) -> None:
    """As root a new directory has the owner, group and mode asked for, whatever umask and set-group-ID parent say."""
    tmp_path.chmod(0o2777)
    before = os.umask(0o077)
    mkdir_as("home", USER, USER + 1, 0o2750, root=tmp_path)
    made = make_directories("home/a/b", USER, USER + 1, 0o711, root=tmp_path)
    os.umask(before)
    assert facts(tmp_path / "home") == (USER, USER + 1, 0o2750)
    assert made == ("home/a", "home/a/b")
    assert [facts(tmp_path / path) for path in made] == [(USER, USER + 1, 0o711)] * 2
    with pytest.raises(FileExistsError):
        mkdir_as("home", USER, USER, root=tmp_path)
    assert facts(tmp_path / "home") == (USER, USER + 1, 0o2750)


def test_tree_of_every_kind_of_file(tmp_path: Path) -> None:
    """As root a tree with devices, sockets, FIFOs and links is given away, and what links point to is not."""
    outside = tmp_path / "outside"
    outside.write_text("")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "sub" / "up").symlink_to("../..")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tree / "program").write_text("")
    (tree / "program").chmod(0o4755)
    assert chown_tree("tree", USER, USER, root=tmp_path) == 7
    assert {facts(path)[:2] for path in (tree, *tree.rglob("*"))} == {(USER, USER)}
    assert facts(tree / "program")[2] == 0o755  # the kernel clears set-user-ID
    assert facts(outside)[:2] == (0, 0)
    assert shift_tree("tree", IdMap([(USER, 100000, 1)]), IdMap([(USER, 200000, 1)]), root=tmp_path) == 7
    assert {facts(path)[:2] for path in (tree, *tree.rglob("*"))} == {(100000, 200000)}


@contextmanager
def attacker(swap: Callable[[], None]) -> Iterator[threading.Event]:
    """A thread that swaps without pause."""
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            swap()

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


@pytest.mark.machine(time="real")
@pytest.mark.long
def test_tree_under_attack(tmp_path: Path, full_number: Callable[[int], int]) -> None:
    """Root gives a tree away again and again while its directories are swapped for links to root's own: those stay."""
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    (victim / "deep" / "file").write_text("")
    (victim / "file").write_text("")
    tree = tmp_path / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    (tree / "a" / "deep" / "file").write_text("")
    (tree / "a" / "file").write_text("")
    link = tmp_path / "link"
    link.symlink_to(victim)

    def swap() -> None:
        os.rename(tree / "a", tmp_path / "kept")
        os.rename(link, tree / "a")
        os.rename(tree / "a", link)
        os.rename(tmp_path / "kept", tree / "a")

    changed = 0
    with attacker(swap):
        for each in range(max(50, full_number(ROUNDS) // 20)):
            try:
                changed += chown_tree("tree", USER + each % 2, USER, root=tmp_path)
            except (ExchangedError, FileNotFoundError):
                continue
            assert {facts(path)[:2] for path in (victim, *victim.rglob("*"))} == {(0, 0)}
    assert changed + chown_tree("tree", USER, USER, root=tmp_path)  # under attack it may be refused each time
    assert {facts(path)[:2] for path in (victim, *victim.rglob("*"))} == {(0, 0)}


@pytest.mark.machine(time="real")
@pytest.mark.long
def test_directory_under_attack(tmp_path: Path, full_number: Callable[[int], int]) -> None:
    """Root makes a user's directory while the one above is swapped for a link: none is made or changed outside."""
    victim = tmp_path / "victim"
    victim.mkdir()
    inside = tmp_path / "root"
    (inside / "a").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(victim)

    def swap() -> None:
        os.rename(inside / "a", tmp_path / "kept")
        os.rename(link, inside / "a")
        os.rename(inside / "a", link)
        os.rename(tmp_path / "kept", inside / "a")

    with attacker(swap):
        for each in range(max(50, full_number(ROUNDS) // 20)):
            with suppress(OSError, ExchangedError):
                mkdir_as(f"a/{each}", USER, USER, root=inside)
    mkdir_as("a/after", USER, USER, root=inside)  # under attack it may be refused each time
    assert list(victim.iterdir()) == []
    assert facts(victim) == (0, 0, 0o755)
    assert {facts(path)[:2] for path in (inside / "a").iterdir()} == {(USER, USER)}
