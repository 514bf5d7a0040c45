"""Version 1: the freezer, and the pids controller; acted on by impl.cgroups, seen in files and processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    burn_always,
    burn_for,
    end_by_kill,
    run_inside,
    set_limits_v1,
    start_inside,
    table,
)
from kernelproof.impl.cgroups import freezing
from kernelproof.impl.cgroups.controllers import pids
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v1

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


def state(directory: Directory) -> list[str]:
    files = ("freezer.state", "freezer.self_freezing", "freezer.parent_freezing")
    return [Path(directory.path, name).read_text().strip() for name in files]


def grows(pid: int) -> bool:
    """Whether a process gets CPU time: the first number of /proc/PID/schedstat (scheduler/sched-stats.rst)."""

    def spent() -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])

    burn_for(0.01)  # who says that it is frozen has yet to leave its CPU
    before = spent()
    burn_for(0.05)
    return spent() != before


@behaviour("cgroup-v1.freezer.thawed-default", subject="impl")
def test_a_new_cgroup_is_warm(make_v1: MakeV1) -> None:
    """It says THAWED."""
    assert state(make_v1("group", "freezer")) == ["THAWED", "0", "0"]


@behaviour("cgroup-v1.freezer.frozen", subject="impl")
def test_who_is_frozen_uses_no_cpu(make_v1: MakeV1) -> None:
    """A busy task gets none when the state is FROZEN, and some before and after."""
    group = make_v1("group", "freezer")
    pid = start_inside(group, burn_always)
    running = grows(pid)
    freezing.freeze(group)
    found = state(group)[0], grows(pid)
    freezing.thaw(group)
    thawed = grows(pid)
    end_by_kill(pid)
    assert (running, found, thawed) == (True, ("FROZEN", False), True)


@behaviour("cgroup-v1.freezer.hierarchical", subject="impl")
def test_freezing_reaches_descendants(make_v1: MakeV1) -> None:
    """A cgroup below a frozen one reads FROZEN by its parent's state, not by its own."""
    parent = make_v1("parent", "freezer")
    below = [make_v1(name, "freezer") for name in ("parent/child", "parent/child/grandchild")]
    assert [state(group) for group in below] == [["THAWED", "0", "0"]] * 2
    freezing.freeze(parent)
    assert state(parent) == ["FROZEN", "1", "0"]
    assert [state(group) for group in below] == [["FROZEN", "0", "1"]] * 2


@behaviour("cgroup-v1.freezer.child-thaw-no-effect", subject="impl")
def test_a_child_can_not_thaw_itself(make_v1: MakeV1) -> None:
    """It stays as its parent is, and the package says so."""
    child = make_v1("parent/child", "freezer")
    freezing.freeze(make_v1("parent", "freezer"))
    child.write("freezer.state", "THAWED")
    assert state(child)[0] == "FROZEN"
    with pytest.raises(TimeoutError) as refused:
        freezing.thaw(child, 0.0)
    assert "still frozen: an ancestor is" in refused.value.__notes__


@behaviour("cgroup-v1.freezer.bad-value-einval", subject="impl")
@pytest.mark.parametrize("word", ["FREEZING", "frozen", "thawed", "1"])
def test_states_that_can_not_be_written(make_v1: MakeV1, seen: Seen, word: str) -> None:
    """All but two words are refused."""
    group = make_v1("group", "freezer")
    assert seen.errno_of(group.write, "freezer.state", word) == "EINVAL"
    assert state(group)[0] == "THAWED"


@behaviour("cgroup-v1.freezer.root-has-no-file", subject="impl")
def test_the_root_can_not_be_frozen(make_v1: MakeV1) -> None:
    """It has no freezer.state."""
    root = make_v1("", "freezer")
    assert not Path(root.path, "freezer.state").exists()
    with pytest.raises(FileNotFoundError):
        freezing.freeze(root, 0.0)


@behaviour("cgroup-v1.freezer.attach-freezes", subject="impl")
def test_who_moves_in_is_frozen(make_v1: MakeV1) -> None:
    """A running task that is moved into a frozen cgroup runs no more."""
    cold = make_v1("cold", "freezer")
    freezing.freeze(cold)
    pid = start_inside(make_v1("warm", "freezer"), burn_always)
    running = grows(pid)
    cold.write("tasks", str(pid))
    freezing.freeze(cold)  # waits until all of it is
    stopped = not grows(pid)
    freezing.thaw(cold)
    end_by_kill(pid)
    assert (running, stopped) == (True, True)


@behaviour("cgroup-v1.freezer.invisible-to-parent", subject="impl")
def test_nobody_is_told(make_v1: MakeV1, bystander: Bystander) -> None:
    """Who waits for stopped and continued children hears of neither."""
    group = make_v1("group", "freezer")
    group.write("tasks", str(pid := bystander()))
    answers = []
    for act in (freezing.freeze, freezing.thaw):
        act(group)
        answers.append(os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))
    assert answers == [(0, 0), (0, 0)]


def fork_in_vain() -> None:
    """fork(2), which has to be refused."""
    try:
        if os.fork() == 0:
            os._exit(0)
    except BlockingIOError:  # EAGAIN
        return
    raise AssertionError("a child was made")


def full(make_v1: MakeV1, name: str = "group", limit: int = 1) -> Directory:
    group = make_v1(name, "pids")
    set_limits_v1(group, Limits(pids_max=limit))
    return group


@behaviour("cgroup-v1.pids.fork-eagain", subject="impl")
def test_fork_at_the_limit(make_v1: MakeV1) -> None:
    """fork(2) in a cgroup at its pids.max is refused with EAGAIN, and pids.events counts the attempt."""
    group = full(make_v1)
    assert table(Path(group.path, "pids.events")) == {"max": 0}
    assert run_inside(group, fork_in_vain) == 0
    assert table(Path(group.path, "pids.events")) == {"max": 1}
    found = pids.read(group.read_or_none)
    assert found is not None
    assert found.refused == 1


@behaviour("cgroup-v1.pids.attach-allowed", subject="impl")
def test_moving_in_is_not_limited(make_v1: MakeV1, bystander: Bystander) -> None:
    """Two tasks are where one is allowed."""
    group = full(make_v1)
    for _ in range(2):
        group.write("tasks", str(bystander()))
    assert [Path(group.path, name).read_text() for name in ("pids.current", "pids.max")] == ["2\n", "1\n"]


@behaviour("cgroup-v1.pids.most-stringent", subject="impl")
def test_limits_of_ancestors_hold(make_v1: MakeV1) -> None:
    """Without a limit of its own a child has its parent's."""
    full(make_v1, "parent")
    child = make_v1("parent/child", "pids")
    assert Path(child.path, "pids.max").read_text() == "max\n"
    assert run_inside(child, fork_in_vain) == 0


@behaviour("cgroup-v1.pids.zero", subject="impl")
def test_none_at_all(make_v1: MakeV1) -> None:
    """With 0 nobody forks, and who is inside goes on."""
    group = make_v1("group", "pids")

    def shut() -> None:
        set_limits_v1(group, Limits(pids_max=0))
        fork_in_vain()

    assert run_inside(group, shut) == 0
    assert Path(group.path, "pids.max").read_text() == "0\n"


@behaviour("cgroup-v1.pids.events-self-or-ancestor", subject="impl")
def test_who_counts(make_v1: MakeV1) -> None:
    """The cgroup of the fork counts it, also when the limit is an ancestor's."""
    full(make_v1, "parent")
    child = make_v1("parent/child", "pids")
    assert run_inside(child, fork_in_vain) == 0
    assert table(Path(child.path, "pids.events")) == {"max": 1}


@behaviour("cgroup-v1.pids.root-has-no-max", subject="impl")
def test_the_root_has_no_limit(make_v1: MakeV1) -> None:
    """pids.max is not there, and the package says so."""
    root = make_v1("", "pids")
    assert not Path(root.path, "pids.max").exists()
    with pytest.raises(NoControllerError):
        plan_v1(Limits(pids_max=1), lambda controller: root.read_or_none)


@behaviour("cgroup-v1.pids.current-includes-children", subject="impl")
def test_children_are_counted(make_v1: MakeV1, bystander: Bystander) -> None:
    """One task on each level are two of the parent."""
    for name in ("parent", "parent/child"):
        make_v1(name, "pids").write("tasks", str(bystander()))
    assert Path(make_v1("parent", "pids").path, "pids.current").read_text() == "2\n"
