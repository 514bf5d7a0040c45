"""Version 2: one hierarchy, acted on by impl.cgroups and observed through /proc and the processes themselves."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.ending import kill

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make
    from kernelproof.conformance.conftest import Bystander, InChild


def events(cgroup: Path) -> dict[str, str]:
    pairs = (line.split() for line in (cgroup / "cgroup.events").read_text().splitlines())
    return dict(pairs)


@behaviour("cgroup-v2.procs.fork-inherits", subject="impl")
def test_child_is_born_where_its_parent_is(
    make: Make, in_child: InChild, bystander: Bystander, cgroup_of: CgroupOf
) -> None:
    """A forked child is in the cgroup that its parent was in at the time, and stays when the parent moves on."""
    first, second = make("first"), make("second")

    def fork_between_moves() -> list[str]:
        first.write("cgroup.procs", "0")
        child = bystander()
        second.write("cgroup.procs", "0")
        places = [cgroup_of(child), cgroup_of("self")]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return places

    assert in_child(fork_between_moves) == ["/first", "/second"]


@behaviour("cgroup-v2.subtree.enable-creates-files", subject="impl")
def test_enabled_controller_has_files_in_children(unified: Path, make: Make) -> None:
    """Enabling pids in cgroup.subtree_control puts pids.max into each child and nothing into the cgroup itself."""
    directory = make("parent", "pids")
    for name in ("one", "two"):
        make(f"parent/{name}")
    parent = unified / "parent"
    children = [parent / name for name in ("one", "two")]
    files = {path.name for path in parent.iterdir()}
    assert not any((child / "pids.max").exists() for child in children)

    assert enabling.enable(directory, ["pids"]) == ("pids",)
    assert all((child / "pids.max").exists() for child in children)
    assert {path.name for path in parent.iterdir()} == files


@behaviour("cgroup-v2.events.populated-recursive", subject="impl")
def test_populated_looks_at_descendants(unified: Path, make: Make, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """A cgroup without processes is populated when a descendant has one, while its other child is not."""
    parent = unified / "parent"
    leaf = make("parent/used/leaf")
    make("parent/unused")
    assert events(parent)["populated"] == "0"

    pid = bystander()
    leaf.write("cgroup.procs", str(pid))
    assert cgroup_of(pid) == "/parent/used/leaf"
    assert make("parent").processes() == ()
    populated = {path: events(parent / path)["populated"] for path in (".", "used", "used/leaf", "unused")}
    assert populated == {".": "1", "used": "1", "used/leaf": "1", "unused": "0"}


@behaviour("cgroup-v2.namespace.self-is-root", subject="impl")
def test_cgroup_namespace_starts_at_own_cgroup(make: Make, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """After unshare(CLONE_NEWCGROUP) a process reads "/" as its cgroup, whatever it was before."""
    leaf = make("parent/leaf")

    def leave() -> list[str]:
        leaf.write("cgroup.procs", "0")
        before = cgroup_of("self")
        unshare(CloneFlag.NEWCGROUP)
        return [before, cgroup_of("self")]

    assert in_child(leave) == ["/parent/leaf", "/"]


@behaviour("cgroup-v2.kill.kills-subtree", subject="impl")
def test_kill_ends_the_whole_subtree(make: Make, in_child: InChild, bystander: Bystander) -> None:
    """Writing 1 to cgroup.kill ends every process of the cgroup and of its descendants by SIGKILL, and none outside."""
    leaf, parent = make("parent/leaf"), make("parent")

    def kill_all() -> list[int]:
        inside = [bystander(), bystander()]
        outside = bystander()
        for directory, pid in zip((parent, leaf), inside, strict=True):
            directory.write("cgroup.procs", str(pid))
        kill(parent)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in inside]
        alive, _ = os.waitpid(outside, os.WNOHANG)
        os.kill(outside, signal.SIGTERM)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(outside, 0)[1]))
        return [alive, *ends]

    assert in_child(kill_all) == [0, -signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM]
