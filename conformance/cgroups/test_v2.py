"""Version 2: one hierarchy, acted on by its files and observed through /proc and the processes themselves."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.cgroups.conftest import CgroupOf
    from kernelproof.conformance.conftest import Bystander, InChild


def events(cgroup: Path) -> dict[str, str]:
    pairs = (line.split() for line in (cgroup / "cgroup.events").read_text().splitlines())
    return dict(pairs)


@behaviour("cgroup-v2.procs.fork-inherits", subject="stand-in")
def test_child_is_born_where_its_parent_is(
    unified: Path, in_child: InChild, bystander: Bystander, cgroup_of: CgroupOf
) -> None:
    """A forked child is in the cgroup that its parent was in at the time, and stays when the parent moves on."""
    for name in ("first", "second"):
        (unified / name).mkdir()

    def fork_between_moves() -> list[str]:
        (unified / "first/cgroup.procs").write_text("0")
        child = bystander()
        (unified / "second/cgroup.procs").write_text("0")
        places = [cgroup_of(child), cgroup_of("self")]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return places

    assert in_child(fork_between_moves) == ["/first", "/second"]


@behaviour("cgroup-v2.subtree.enable-creates-files", subject="stand-in")
def test_enabled_controller_has_files_in_children(unified: Path) -> None:
    """Enabling pids in cgroup.subtree_control puts pids.max into each child and nothing into the cgroup itself."""
    (unified / "cgroup.subtree_control").write_text("+pids")
    parent = unified / "parent"
    children = [parent / name for name in ("one", "two")]
    for cgroup in (parent, *children):
        cgroup.mkdir()
    files = {path.name for path in parent.iterdir()}
    assert not any((child / "pids.max").exists() for child in children)

    (parent / "cgroup.subtree_control").write_text("+pids")
    assert all((child / "pids.max").exists() for child in children)
    assert {path.name for path in parent.iterdir()} == files


@behaviour("cgroup-v2.events.populated-recursive", subject="stand-in")
def test_populated_looks_at_descendants(unified: Path, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """A cgroup without processes is populated when a descendant has one, while its other child is not."""
    parent = unified / "parent"
    for cgroup in (parent, parent / "used", parent / "used/leaf", parent / "unused"):
        cgroup.mkdir()
    assert events(parent)["populated"] == "0"

    pid = bystander()
    (parent / "used/leaf/cgroup.procs").write_text(str(pid))
    assert cgroup_of(pid) == "/parent/used/leaf"
    assert (parent / "cgroup.procs").read_text() == ""
    populated = {path: events(parent / path)["populated"] for path in (".", "used", "used/leaf", "unused")}
    assert populated == {".": "1", "used": "1", "used/leaf": "1", "unused": "0"}


@behaviour("cgroup-v2.namespace.self-is-root", subject="stand-in")
def test_cgroup_namespace_starts_at_own_cgroup(unified: Path, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """After unshare(CLONE_NEWCGROUP) a process reads "/" as its cgroup, whatever it was before."""
    leaf = unified / "parent/leaf"
    leaf.mkdir(parents=True)

    def leave() -> list[str]:
        (leaf / "cgroup.procs").write_text("0")
        before = cgroup_of("self")
        unshare(CloneFlag.NEWCGROUP)
        return [before, cgroup_of("self")]

    assert in_child(leave) == ["/parent/leaf", "/"]


@behaviour("cgroup-v2.kill.kills-subtree", subject="stand-in")
def test_kill_ends_the_whole_subtree(unified: Path, in_child: InChild, bystander: Bystander) -> None:
    """Writing 1 to cgroup.kill ends every process of the cgroup and of its descendants by SIGKILL, and none outside."""
    leaf = unified / "parent/leaf"
    leaf.mkdir(parents=True)

    def kill() -> list[int]:
        inside = [bystander(), bystander()]
        outside = bystander()
        for cgroup, pid in zip((leaf.parent, leaf), inside, strict=True):
            (cgroup / "cgroup.procs").write_text(str(pid))
        (leaf.parent / "cgroup.kill").write_text("1")
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in inside]
        alive, _ = os.waitpid(outside, os.WNOHANG)
        os.kill(outside, signal.SIGTERM)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(outside, 0)[1]))
        return [alive, *ends]

    assert in_child(kill) == [0, -signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM]
