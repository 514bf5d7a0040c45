"""Instances of devpts: each has its own numbers, its own multiplexer and its own limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.mount import MountFlag, mount, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.terminals import grantpt
from kernelproof.impl.term import NotPseudoterminalError, PseudoterminalPair
from kernelproof.impl.term.linux import open_peer, pseudoterminal_number, unlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

SYSCTL = Path("/proc/sys/kernel/pty")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a new devpts with options, and return its directory."""
    made: list[Path] = []

    def make(options: str = "ptmxmode=0666") -> Path:
        directory = tmp_path / f"pts{len(made)}"
        directory.mkdir()
        mount("devpts", directory, "devpts", MountFlag(0), options)
        made.append(directory)
        return directory

    yield make
    for directory in made:
        umount2(directory)


def numbers(directory: Path) -> list[str]:
    """The terminals that a devpts shows."""
    return sorted(entry.name for entry in directory.iterdir() if entry.name != "ptmx")


@behaviour("term.devpts.instances-independent")
def test_instances_count_for_themselves(instance: Callable[..., Path], seen: Seen) -> None:
    """Two mounts of devpts each begin at 0, and neither shows the terminals of the other."""
    first, second = instance(), instance()
    with (
        PseudoterminalPair.open(devpts=first) as one,
        PseudoterminalPair.open(devpts=first) as two,
        PseudoterminalPair.open(devpts=second) as other,
    ):
        assert [each.name for each in (one, two, other)] == ["/dev/pts/0", "/dev/pts/1", "/dev/pts/0"]
        assert seen([numbers(first), numbers(second)]) == [["0", "1"], ["0"]]


@behaviour("term.devpts.ptmx-node-mode")
def test_multiplexer_is_closed_at_first(instance: Callable[..., Path], in_child: InChild, seen: Seen) -> None:
    """A devpts has a ptmx of its own, 5:2, with permissions 0000 unless ptmxmode says otherwise."""
    plain, opened = instance(""), instance("ptmxmode=0666")
    found = [(directory / "ptmx").stat() for directory in (plain, opened)]
    assert [each.st_rdev for each in found] == [os.makedev(5, 2)] * 2

    def as_user() -> list[str]:
        os.setresuid(1000, 1000, 1000)
        return [seen.errno_of(PseudoterminalPair.open, devpts=fd) for fd in fds]

    fds = [os.open(directory, os.O_PATH | os.O_DIRECTORY) for directory in (plain, opened)]
    assert in_child(as_user) == ["EACCES", "no error"]
    assert seen([stat.S_IMODE(each.st_mode) for each in found]) == [0, 0o666]
    for fd in fds:
        os.close(fd)


@behaviour("term.devpts.ptmxmode-remount")
def test_multiplexer_changes_with_a_remount(instance: Callable[..., Path], seen: Seen) -> None:
    """A remount with ptmxmode=0600 changes the permissions of the ptmx that is there."""
    directory = instance("ptmxmode=0666")
    modes = [stat.S_IMODE((directory / "ptmx").stat().st_mode)]
    mount("devpts", directory, "devpts", MountFlag.REMOUNT, "ptmxmode=0600")
    modes.append(stat.S_IMODE((directory / "ptmx").stat().st_mode))
    assert seen(modes) == [0o666, 0o600]


@behaviour("term.devpts.max-per-instance")
def test_instance_has_a_limit(instance: Callable[..., Path], seen: Seen) -> None:
    """With max=2 the third pair of an instance gives ENOSPC, while other instances still work."""
    directory = instance("max=2")
    with PseudoterminalPair.open(devpts=directory), PseudoterminalPair.open(devpts=directory):
        answer = seen.errno_of(PseudoterminalPair.open, devpts=directory)
        assert numbers(directory) == ["0", "1"]
        PseudoterminalPair.open().close()
        assert seen(answer) == "ENOSPC"


@behaviour("term.devpts.device-node-looks-for-pts-sibling")
def test_node_looks_for_pts_beside_it(tmp_path: Path, seen: Seen) -> None:
    """A node 5:2 opens a terminal of the devpts on the directory pts beside it; the typed layer wants it on devpts."""
    mount("tmpfs", tmp_path, "tmpfs")  # where device nodes open
    node = tmp_path / "ptmx"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(5, 2))
    flags = os.O_RDWR | os.O_NOCTTY
    without = seen.errno_of(os.open, node, flags)
    (tmp_path / "pts").mkdir()
    mount("devpts", tmp_path / "pts", "devpts")
    with pytest.raises(NotPseudoterminalError, match="not on a devpts"):
        PseudoterminalPair.open(devpts=tmp_path)
    master = os.open(node, flags)
    unlock(master)
    peer = open_peer(master, flags)
    same = os.stat(tmp_path / "pts" / str(pseudoterminal_number(master))).st_ino == os.fstat(peer).st_ino
    for fd in (master, peer):
        os.close(fd)
    umount2(tmp_path / "pts")
    umount2(tmp_path)
    assert seen([without, same]) == ["ENOENT", True]


@behaviour("term.devpts.reserve")
def test_pairs_are_kept_for_the_host(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """With kernel.pty.max at kernel.pty.reserve, an instance of another mount namespace gets ENOSPC, the first none."""
    (SYSCTL / "max").write_text((SYSCTL / "reserve").read_text())

    def open_both() -> list[str]:
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        mount("devpts", tmp_path, "devpts")
        return [seen.errno_of(PseudoterminalPair.open, devpts=tmp_path), seen.errno_of(PseudoterminalPair.open)]

    assert seen(in_child(open_both)) == ["ENOSPC", "no error"]


@behaviour("term.devpts.lowest-index-reused")
def test_lowest_number_is_taken(instance: Callable[..., Path], seen: Seen) -> None:
    """A new terminal has the lowest number that is free in its instance."""
    directory = instance()
    pairs = [PseudoterminalPair.open(devpts=directory) for _ in range(3)]
    pairs[1].close()
    during = numbers(directory)
    pairs[1] = PseudoterminalPair.open(devpts=directory)
    assert seen([during, pairs[1].name, numbers(directory)]) == [["0", "2"], "/dev/pts/1", ["0", "1", "2"]]
    for pair in pairs:
        pair.close()


@behaviour("term.pty.slave-mode-and-owner")
def test_mode_after_grantpt(instance: Callable[..., Path], seen: Seen) -> None:
    """grantpt gives the slave mode 0620, whatever devpts was mounted with."""
    directory = instance("")
    with PseudoterminalPair.open(devpts=directory) as pair:
        grantpt(pair.master)
        assert seen(stat.S_IMODE((directory / "0").stat().st_mode)) == 0o620


@behaviour("term.pty.slave-owner")
def test_owner_after_grantpt(instance: Callable[..., Path], in_child: InChild, seen: Seen) -> None:
    """After grantpt the slave belongs to the real uid of the caller, whatever its effective uid."""
    directory = instance()

    def grant() -> list[Any]:
        os.setresuid(1000, 0, 0)
        with PseudoterminalPair.open(devpts=directory) as pair:
            grantpt(pair.master)
            return [(directory / "0").stat().st_uid]

    (owner,) = in_child(grant)
    assert seen(owner) == 1000
