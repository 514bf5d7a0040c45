"""Version 2, the cpuset controller: CPUs asked for and granted, and partitions; acted on by impl.cgroups."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import set_limits, wait_for_change
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.controllers import cpuset
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v2

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

PARTITION = "cpuset.cpus.partition"


def text(path: Path) -> str:
    return path.read_text().strip()


def effective(unified: Path, name: str) -> str:
    return text(unified / name / "cpuset.cpus.effective")


def cpus(directory: Directory, wanted: str) -> Directory:
    set_limits(directory, Limits(cpuset_cpus=wanted))
    return directory


@pytest.fixture
def partitions(make: Make) -> tuple[Directory, Directory]:
    """A partition of CPU 1, and one below it that has all of that."""
    parent = cpus(make("parent", "cpuset"), "1")
    parent.write(PARTITION, "root")
    enabling.enable(parent, ["cpuset"])
    child = cpus(make("parent/child"), "1")
    child.write(PARTITION, "root")
    return parent, child


@behaviour("cgroup-v2.cpuset.empty-inherits", subject="impl")
def test_who_asks_for_nothing(unified: Path, make: Make) -> None:
    """He has what his parent has."""
    parent = make("parent", "cpuset")
    enabling.enable(parent, ["cpuset"])
    child = make("parent/child")
    for wanted in ("0", "0-1"):
        cpus(parent, wanted)
        assert text(unified / "parent/child/cpuset.cpus") == ""
        assert effective(unified, "parent/child") == effective(unified, "parent")
    found = cpuset.read_v2(child.read_or_none)
    assert found is not None
    assert (found.cpus, found.effective_cpus) == ((), (0, 1))


@behaviour("cgroup-v2.cpuset.empty-accepts-processes", subject="impl")
def test_an_empty_list_is_no_border(unified: Path, make: Make, bystander: Bystander) -> None:
    """A process can be moved in."""
    make("child", "cpuset").write("cgroup.procs", str(pid := bystander()))
    assert text(unified / "child/cpuset.cpus") == ""
    assert (unified / "child/cgroup.procs").read_text() == f"{pid}\n"


@behaviour("cgroup-v2.cpuset.affinity-follows", subject="impl")
def test_processes_stay_on_their_cpus(make: Make, bystander: Bystander) -> None:
    """With CPU 0 alone that is what sched_getaffinity(2) says of them."""
    child = make("child", "cpuset")
    child.write("cgroup.procs", str(pid := bystander()))
    before = os.sched_getaffinity(pid)
    cpus(child, "0")
    assert before == {0, 1}
    assert os.sched_getaffinity(pid) == {0}


@behaviour("cgroup-v2.cpuset.request-beyond-parent", subject="impl")
def test_more_than_the_parent_has(unified: Path, make: Make) -> None:
    """It can be asked for; only what the parent has is granted."""
    parent = cpus(make("parent", "cpuset"), "0")
    enabling.enable(parent, ["cpuset"])
    cpus(make("parent/child"), "0-1")
    assert text(unified / "parent/child/cpuset.cpus") == "0-1"
    assert effective(unified, "parent/child") == "0"


@behaviour("cgroup-v2.cpuset.none-granted", subject="impl")
def test_nothing_that_the_parent_has(unified: Path, make: Make) -> None:
    """Who asks for none of the parent's CPUs has all of them."""
    parent = cpus(make("parent", "cpuset"), "0")
    enabling.enable(parent, ["cpuset"])
    cpus(make("parent/child"), "1")
    assert effective(unified, "parent/child") == "0"


@behaviour("cgroup-v2.cpuset.bad-list-einval", subject="impl")
@pytest.mark.parametrize("wanted", ["1-0", "x"], ids=["backwards", "letters"])
def test_what_is_no_list(unified: Path, make: Make, seen: Seen, wanted: str) -> None:
    """It is refused, by the package before the kernel."""
    child = cpus(make("child", "cpuset"), "0")
    assert seen.errno_of(child.write, "cpuset.cpus", wanted) == "EINVAL"
    with pytest.raises(LimitError):
        plan_v2(Limits(cpuset_cpus=wanted), child.read_or_none)
    assert text(unified / "child/cpuset.cpus") == "0"


@behaviour("cgroup-v2.cpuset.clear-while-populated", subject="impl")
def test_a_list_is_taken_back(make: Make, bystander: Bystander, seen: Seen) -> None:
    """An empty list is taken while there are processes, which have the ancestor's CPUs then."""
    child = cpus(make("child", "cpuset"), "0")
    child.write("cgroup.procs", str(pid := bystander()))
    answer = seen.errno_of(child.write, "cpuset.cpus", "\n")
    assert answer == "no error"
    assert os.sched_getaffinity(pid) == {0, 1}


@behaviour("cgroup-v2.cpuset.root-has-no-cpus-file", subject="impl")
def test_the_root_asks_for_nothing(unified: Path, make: Make) -> None:
    """It says which CPUs there are, and takes neither a list nor a partition."""
    make("child", "cpuset")
    files = ("cpuset.cpus.effective", "cpuset.cpus", PARTITION)
    assert [(unified / file).exists() for file in files] == [True, False, False]
    assert [(unified / "child" / file).exists() for file in files] == [True, True, True]


@behaviour("cgroup-v2.cpuset.partition-default-member", subject="impl")
def test_a_new_cgroup_is_a_member(unified: Path, make: Make) -> None:
    """It is no partition."""
    make("child", "cpuset")
    assert text(unified / "child" / PARTITION) == "member"


@behaviour("cgroup-v2.cpuset.partition-bad-value-einval", subject="impl")
def test_what_is_no_kind_of_partition(unified: Path, make: Make, seen: Seen) -> None:
    """Another word is refused."""
    child = make("child", "cpuset")
    assert seen.errno_of(child.write, PARTITION, "island") == "EINVAL"
    assert text(unified / "child" / PARTITION) == "member"


@behaviour("cgroup-v2.cpuset.partition-takes-cpus", subject="impl")
def test_a_partition_is_alone(unified: Path, make: Make) -> None:
    """Its CPU is taken from those beside it."""
    make("sibling", "cpuset")
    child = cpus(make("child"), "1")
    before = effective(unified, "sibling")
    child.write(PARTITION, "root")
    assert before == "0-1"
    assert effective(unified, "sibling") == "0"
    assert effective(unified, "child") == "1"


@behaviour("cgroup-v2.cpuset.partition-invalid-shown", subject="impl")
def test_a_partition_that_can_not_be(unified: Path, make: Make) -> None:
    """Below a member the write is taken, and what is read says why it is none."""
    parent = make("parent", "cpuset")
    enabling.enable(parent, ["cpuset"])
    child = cpus(make("parent/child"), "1")
    child.write(PARTITION, "root")
    found = text(unified / "parent/child" / PARTITION)
    assert found.startswith("root invalid (")
    assert found.endswith(")")
    stats = cpuset.read_v2(child.read_or_none)
    assert stats is not None
    assert stats.partition == found


@behaviour("cgroup-v2.cpuset.partition-notify", subject="impl")
def test_a_change_of_the_partition_wakes_poll(unified: Path, make: Make) -> None:
    """A partition that becomes a member says so."""
    child = cpus(make("child", "cpuset"), "1")
    child.write(PARTITION, "root")
    answer = wait_for_change(unified / "child" / PARTITION, lambda: child.write(PARTITION, "member"))
    assert answer & select.POLLPRI


@behaviour("cgroup-v2.cpuset.exclusive-siblings", subject="impl")
def test_a_cpu_belongs_to_one(unified: Path, make: Make, seen: Seen) -> None:
    """What one has for itself, its sibling can't have for itself."""
    make("one", "cpuset").write("cpuset.cpus.exclusive", "1")
    assert seen.errno_of(make("two").write, "cpuset.cpus.exclusive", "1") == "EINVAL"
    assert text(unified / "two/cpuset.cpus.exclusive") == ""


@behaviour("cgroup-v2.cpuset.parent-partition-gives-all", subject="impl")
def test_a_partition_gives_all_it_has(unified: Path, partitions: tuple[Directory, Directory]) -> None:
    """Without processes it can, and both are valid."""
    assert [text(unified / name / PARTITION) for name in ("parent", "parent/child")] == ["root", "root"]
    assert [effective(unified, name) for name in ("parent", "parent/child")] == ["", "1"]


@behaviour("cgroup-v2.cpuset.no-cpu-no-task", subject="impl")
def test_no_process_without_a_cpu(
    unified: Path, partitions: tuple[Directory, Directory], bystander: Bystander, seen: Seen
) -> None:
    """Where no CPU is left no process can be moved to."""
    parent, _ = partitions
    pid = bystander()
    assert effective(unified, "parent") == ""
    assert seen.errno_of(parent.write, "cgroup.procs", str(pid)) == "ENOSPC"
    os.kill(pid, signal.SIGCONT)


@behaviour("cgroup-v2.cpuset.member-invalidates-children", subject="impl")
def test_a_member_has_no_partitions(unified: Path, partitions: tuple[Directory, Directory]) -> None:
    """When the parent becomes a member, its child is an invalid partition."""
    parent, _ = partitions
    parent.write(PARTITION, "member")
    assert text(unified / "parent/child" / PARTITION).startswith("root invalid")


@behaviour("cgroup-v2.cpuset.root-again-revalidates-children", subject="impl")
def test_a_partition_again(unified: Path, partitions: tuple[Directory, Directory]) -> None:
    """When the parent is a partition again, so is its child."""
    parent, _ = partitions
    parent.write(PARTITION, "member")
    assert text(unified / "parent/child" / PARTITION) != "root"
    parent.write(PARTITION, "root")
    assert [text(unified / name / PARTITION) for name in ("parent", "parent/child")] == ["root", "root"]


@behaviour("cgroup-v2.cpuset.isolated-listed", subject="impl")
def test_isolated_cpus_are_listed(unified: Path, make: Make) -> None:
    """The root names the CPU of an isolated partition."""
    child = cpus(make("child", "cpuset"), "1")
    before = text(unified / "cpuset.cpus.isolated")
    child.write(PARTITION, "isolated")
    assert before == ""
    assert text(unified / "cpuset.cpus.isolated") == "1"
