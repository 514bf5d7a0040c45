"""Version 1: cpusets; acted on by impl.cgroups, seen in files and by sched_getaffinity(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import inherit_cpus, set_limits_v1
from kernelproof.impl.cgroups.controllers import cpuset
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v1

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


def text(directory: Directory, file: str) -> str:
    return Path(directory.path, file).read_text().strip()


def ready(make_v1: MakeV1, name: str, cpus: str | None = None) -> Directory:
    """A cpuset with memory nodes and CPUs: its parent's, or those that are named."""
    group = make_v1(name, "cpuset")
    parent = make_v1("/".join(name.split("/")[:-1]), "cpuset")
    inherit_cpus(group, parent)
    if cpus is not None:
        set_limits_v1(group, Limits(cpuset_cpus=cpus))
    return group


@behaviour("cgroup-v1.cpuset.new-is-empty", subject="impl")
def test_nothing_at_first(make_v1: MakeV1) -> None:
    """A new cpuset has neither CPUs nor nodes, and the package knows how to give them."""
    assert text(make_v1("", "cpuset"), "cgroup.clone_children") == "0"
    group = make_v1("group", "cpuset")
    files = ("cpuset.cpus", "cpuset.mems")
    assert [text(group, file) for file in files] == ["", ""]
    inherit_cpus(group, make_v1("", "cpuset"))
    assert [text(group, file) for file in files] == ["0-1", "0"]


@behaviour("cgroup-v1.cpuset.clone-children", subject="impl")
def test_as_the_parent_at_first(make_v1: MakeV1) -> None:
    """With cgroup.clone_children a new one begins with what its parent has."""
    parent = ready(make_v1, "parent", "1")
    parent.write("cgroup.clone_children", "1")
    child = make_v1("parent/child", "cpuset")
    assert [text(child, file) for file in ("cpuset.cpus", "cpuset.mems")] == ["1", "0"]
    assert cpuset.plan_inherited(child.read_or_none, parent.read_or_none) == []


@behaviour("cgroup-v1.cpuset.empty-attach-enospc", subject="impl")
@pytest.mark.parametrize("given", ["", "cpuset.cpus", "cpuset.mems"], ids=["neither", "cpus", "mems"])
def test_no_task_without_a_cpu_or_a_node(make_v1: MakeV1, bystander: Bystander, seen: Seen, given: str) -> None:
    """With either list empty a task is refused; with both it comes in."""
    group = make_v1("group", "cpuset")
    if given:
        group.write(given, "0")
    pid = bystander()
    assert seen.errno_of(group.write, "tasks", str(pid)) == "ENOSPC"
    inherit_cpus(group, make_v1("", "cpuset")).write("tasks", str(pid))
    assert text(group, "tasks") == str(pid)


@behaviour("cgroup-v1.cpuset.empty-with-tasks-enospc", subject="impl")
def test_a_list_stays_while_there_are_tasks(make_v1: MakeV1, bystander: Bystander, seen: Seen) -> None:
    """It can't be emptied."""
    group = ready(make_v1, "group", "0")
    group.write("tasks", str(bystander()))
    assert seen.errno_of(group.write, "cpuset.cpus", "\n") == "ENOSPC"
    assert text(group, "cpuset.cpus") == "0"


@behaviour("cgroup-v1.cpuset.beyond-parent-eacces", subject="impl")
def test_more_than_the_parent_has(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused."""
    ready(make_v1, "parent", "0")
    child = ready(make_v1, "parent/child", "0")
    assert seen.errno_of(set_limits_v1, child, Limits(cpuset_cpus="0-1")) == "EACCES"
    assert text(child, "cpuset.cpus") == "0"


@behaviour("cgroup-v1.cpuset.remove-used-by-child-ebusy", subject="impl")
def test_what_a_child_has_stays(make_v1: MakeV1, seen: Seen) -> None:
    """Its parent can't lose it."""
    parent = ready(make_v1, "parent", "0-1")
    ready(make_v1, "parent/child", "1")
    assert seen.errno_of(set_limits_v1, parent, Limits(cpuset_cpus="0")) == "EBUSY"
    assert text(parent, "cpuset.cpus") == "0-1"


@behaviour("cgroup-v1.cpuset.exclusive-parent-eacces", subject="impl")
def test_exclusive_from_the_top(make_v1: MakeV1, seen: Seen) -> None:
    """Where the parent is not exclusive a child can't be."""
    ready(make_v1, "parent", "0")
    child = ready(make_v1, "parent/child", "0")
    assert seen.errno_of(child.write, "cpuset.cpu_exclusive", "1") == "EACCES"
    assert text(child, "cpuset.cpu_exclusive") == "0"


@behaviour("cgroup-v1.cpuset.exclusive-overlap-einval", subject="impl")
def test_exclusive_means_alone(make_v1: MakeV1, seen: Seen) -> None:
    """A sibling can't have the same CPU."""
    ready(make_v1, "one", "0").write("cpuset.cpu_exclusive", "1")
    two = make_v1("two", "cpuset")
    assert seen.errno_of(set_limits_v1, two, Limits(cpuset_cpus="0")) == "EINVAL"
    assert text(two, "cpuset.cpus") == ""


@behaviour("cgroup-v1.cpuset.bad-list-einval", subject="impl")
@pytest.mark.parametrize("wanted", ["1-0", "x"], ids=["backwards", "letters"])
def test_what_is_no_list(make_v1: MakeV1, seen: Seen, wanted: str) -> None:
    """It is refused, by the package before the kernel."""
    group = make_v1("group", "cpuset")
    assert seen.errno_of(group.write, "cpuset.cpus", wanted) == "EINVAL"
    with pytest.raises(LimitError):
        plan_v1(Limits(cpuset_cpus=wanted), lambda controller: group.read_or_none)


@behaviour("cgroup-v1.cpuset.too-large-erange", subject="impl")
def test_a_cpu_that_no_kernel_counts(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused."""
    group = make_v1("group", "cpuset")
    assert seen.errno_of(group.write, "cpuset.cpus", "100000") == "ERANGE"


@behaviour("cgroup-v1.cpuset.memoryless-node-einval", subject="impl")
def test_a_node_that_is_not(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused."""
    assert not Path("/sys/devices/system/node/node1").exists()
    group = make_v1("group", "cpuset")
    assert seen.errno_of(set_limits_v1, group, Limits(cpuset_mems="1")) == "EINVAL"


@behaviour("cgroup-v1.cpuset.long-write-e2big", subject="impl")
def test_a_list_that_is_too_long(make_v1: MakeV1, seen: Seen) -> None:
    """100 KiB are refused."""
    group = make_v1("group", "cpuset")
    assert seen.errno_of(group.write, "cpuset.cpus", "0," * 51_200) == "E2BIG"


@behaviour("cgroup-v1.cpuset.memory-pressure-readonly-eacces", subject="impl")
def test_pressure_is_to_be_read(make_v1: MakeV1, seen: Seen) -> None:
    """cpuset.memory_pressure can't be written."""
    group = make_v1("group", "cpuset")
    assert seen.errno_of(group.write, "cpuset.memory_pressure", "1") == "EACCES"


@behaviour("cgroup-v1.cpuset.affinity-follows", subject="impl")
def test_tasks_stay_on_their_cpus(make_v1: MakeV1, bystander: Bystander) -> None:
    """A change is what sched_getaffinity(2) says at once."""
    group = ready(make_v1, "group", "0-1")
    group.write("tasks", str(pid := bystander()))
    found = []
    for wanted in ("0", "1", "0-1"):
        set_limits_v1(group, Limits(cpuset_cpus=wanted))
        found.append(os.sched_getaffinity(pid))
    assert found == [{0}, {1}, {0, 1}]


@behaviour("cgroup-v1.cpuset.proc-cpuset", subject="impl")
def test_where_a_process_is(make_v1: MakeV1, bystander: Bystander) -> None:
    """/proc/PID/cpuset has the path."""
    ready(make_v1, "outer")
    ready(make_v1, "outer/group").write("tasks", str(pid := bystander()))
    assert Path(f"/proc/{pid}/cpuset").read_text() == "/outer/group\n"
