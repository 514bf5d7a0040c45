"""Version 2: cgroup namespaces, and what is seen from inside; read by impl.cgroups, seen in /proc."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import end_by_kill, start_inside, wait_for_stop
from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare
from kernelproof.impl.cgroups.layout import read_layout, read_membership

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make
    from kernelproof.conformance.conftest import Bystander, InChild


def root_field(mount_point: Path) -> str | None:
    """The fourth field of /proc/self/mountinfo (proc_pid_mountinfo(5)) of a mount point."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        if words[4] == str(mount_point):
            return words[3]
    return None


@behaviour("cgroup-v2.namespace.root-does-not-move", subject="impl")
def test_the_root_stays(make: Make, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """Who moves on after unshare is below the root of his namespace, which stays."""
    here, child = make("here"), make("here/child")

    def move() -> list[str]:
        here.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        child.write("cgroup.procs", "0")
        return [cgroup_of("self"), *(entry.cgroup for entry in read_membership() if entry.hierarchy_id == 0)]

    assert in_child(move) == ["/child", "/child"]


@behaviour("cgroup-v2.namespace.outside-dotdot", subject="impl")
def test_who_is_outside(make: Make, in_child: InChild, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """A process that is not below the root is shown with a /.. for each level up."""
    leaf = make("here/leaf")
    make("there").write("cgroup.procs", str(pid := bystander()))

    def look() -> str:
        leaf.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        return cgroup_of(pid)

    assert in_child(look) == "/../../there"


@behaviour("cgroup-v2.namespace.mount-shows-own-root", subject="impl")
def test_a_mount_of_the_namespace(make: Make, tmp_path: Path, in_child: InChild) -> None:
    """What is mounted inside begins at the namespace's root, and says / of itself."""
    here = make("here")
    make("here/inside")
    own = tmp_path / "own"
    own.mkdir()

    def look() -> list[str | bool | None]:
        here.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP | CloneFlag.NEWNS)
        mount("cgroup2", own, "cgroup2")
        (found,) = (one for one in read_layout().hierarchies if one.mount_point == str(own))
        return [(own / "inside").is_dir(), (own / "here").exists(), root_field(own), found.root]

    assert in_child(look) == [True, False, "/", "/"]


@behaviour("cgroup-v2.namespace.old-mount-root-field", subject="impl")
def test_a_mount_from_outside(unified: Path, make: Make, in_child: InChild) -> None:
    """A mount that was there before says /.. one level down; the package takes it for no path to open."""
    here = make("here")

    def look() -> list[str | None]:
        here.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        (found,) = (one for one in read_layout().hierarchies if one.mount_point == str(unified))
        return [root_field(unified), found.root, found.path_of("/child")]

    assert in_child(look) == ["/..", "/..", None]


@behaviour("cgroup-v2.namespace.setns-no-migration", subject="impl")
def test_another_view_of_the_same_place(make: Make, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """setns(2) changes what is seen, and nothing else."""
    here, there = make("here"), make("there")

    def stay() -> None:
        unshare(CloneFlag.NEWCGROUP)
        os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            signal.pause()

    pid = start_inside(there, stay)
    wait_for_stop(pid)
    fd = os.open(f"/proc/{pid}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC)

    def look() -> list[str | bool]:
        here.write("cgroup.procs", "0")
        before = cgroup_of("self")
        setns(fd, CloneFlag.NEWCGROUP)
        return [before, cgroup_of("self"), os.getpid() in here.processes()]

    found = in_child(look)
    os.close(fd)
    end_by_kill(pid)
    assert found == ["/here", "/../here", True]


@behaviour("cgroup-v2.namespace.userns-can-mount", subject="impl")
def test_a_user_namespace_can_mount(tmp_path: Path, in_child: InChild) -> None:
    """Root of a user namespace with cgroup and mount namespaces of its own mounts cgroup2."""

    def look() -> list[str | int]:
        unshare(CloneFlag.NEWUSER)
        unshare(CloneFlag.NEWCGROUP | CloneFlag.NEWNS)
        mount("cgroup2", tmp_path, "cgroup2")
        return [one.version for one in read_layout().hierarchies if one.mount_point == str(tmp_path)] + [
            line.split(" ")[2]
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if line.split(" ")[1] == str(tmp_path)
        ]

    assert in_child(look) == [2, "cgroup2"]
