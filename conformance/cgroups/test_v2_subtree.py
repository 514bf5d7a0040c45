"""Version 2: controllers on the way down, freezing, events; acted on by impl.cgroups."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.cgroups import enabling, freezing
from kernelproof.impl.cgroups.ending import kill
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v2

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


def control(unified: Path, name: str = ".") -> set[str]:
    return set((unified / name / "cgroup.subtree_control").read_text().split())


def events(unified: Path, name: str) -> dict[str, str]:
    return dict(line.split() for line in (unified / name / "cgroup.events").read_text().splitlines())


@behaviour("cgroup-v2.subtree.starts-empty", subject="impl")
def test_nothing_is_given_on_at_first(unified: Path, top: Directory, make: Make) -> None:
    """A new cgroup gives nothing on, whatever it has."""
    enabling.enable(top, ["pids"])
    make("child")
    assert control(unified, "child") == set()


@behaviour("cgroup-v2.subtree.controllers-equal-parent", subject="impl")
def test_a_child_has_what_its_parent_gives(unified: Path, top: Directory, make: Make) -> None:
    """cgroup.controllers of the child is cgroup.subtree_control of the parent."""
    enabling.enable(top, ["pids", "memory"])
    make("child")
    assert set((unified / "child/cgroup.controllers").read_text().split()) == control(unified) == {"pids", "memory"}


@behaviour("cgroup-v2.subtree.disable-removes-files", subject="impl")
def test_files_go_with_the_controller(unified: Path, top: Directory, make: Make) -> None:
    """Taken away, it takes its files along."""
    enabling.enable(top, ["pids"])
    make("child")
    assert (unified / "child/pids.max").exists()
    enabling.disable(top, ["pids"])
    assert not (unified / "child/pids.max").exists()


@behaviour("cgroup-v2.subtree.unavailable-enoent", subject="impl")
def test_what_is_not_there_is_not_given_on(make: Make, seen: Seen) -> None:
    """The kernel refuses it, and so does the package before."""
    child = make("child")
    assert seen.errno_of(child.write, "cgroup.subtree_control", "+pids") == "ENOENT"
    with pytest.raises(NoControllerError, match="does not have pids itself"):
        enabling.enable(child, ["pids"])


@behaviour("cgroup-v2.subtree.disabled-not-reenabled-below", subject="impl")
def test_nothing_is_enabled_below_what_lacks_it(top: Directory, make: Make, seen: Seen) -> None:
    """A grandchild can't have what its parent was not given."""
    enabling.enable(top, ["pids"])
    make("child/grandchild")
    assert seen.errno_of(make("child/grandchild").write, "cgroup.subtree_control", "+pids") == "ENOENT"


@behaviour("cgroup-v2.subtree.disable-used-by-child-ebusy", subject="impl")
def test_what_is_given_on_below_stays(unified: Path, top: Directory, make: Make, seen: Seen) -> None:
    """It can't be taken away from a child that gives it on."""
    enabling.enable(top, ["pids"])
    enabling.enable(make("child"), ["pids"])
    assert seen.errno_of(enabling.disable, top, ["pids"]) == "EBUSY"
    assert control(unified) == {"pids"}


@behaviour("cgroup-v2.subtree.all-or-nothing", subject="impl")
def test_one_write_is_one_step(unified: Path, top: Directory, make: Make, seen: Seen) -> None:
    """Of two operations neither is done if one is refused."""
    enabling.enable(top, ["pids"])
    child = make("child")
    assert seen.errno_of(child.write, "cgroup.subtree_control", "+pids +memory") == "ENOENT"
    assert control(unified, "child") == set()


@behaviour("cgroup-v2.subtree.last-operation-wins", subject="impl")
@pytest.mark.parametrize(("text", "expected"), [("+pids -pids", set()), ("-pids +pids", {"pids"})], ids=["off", "on"])
def test_the_last_word_counts(unified: Path, top: Directory, text: str, expected: set[str]) -> None:
    """Of two operations on one controller the second is what holds."""
    before = {"pids"} - expected
    enabling.enable(top, before)
    assert control(unified) == before
    top.write("cgroup.subtree_control", text)
    assert control(unified) == expected


@behaviour("cgroup-v2.subtree.sign-required", subject="impl")
def test_a_name_alone_is_no_operation(top: Directory, seen: Seen) -> None:
    """Without + or - it is refused."""
    assert seen.errno_of(top.write, "cgroup.subtree_control", "pids") == "EINVAL"


@behaviour("cgroup-v2.subtree.no-internal-process-enable", subject="impl")
def test_who_has_processes_gives_nothing_on(top: Directory, make: Make, bystander: Bystander, seen: Seen) -> None:
    """A domain controller is refused; the package's error says what helps."""
    enabling.enable(top, ["memory"])
    busy = make("busy")
    busy.write("cgroup.procs", str(bystander()))
    assert seen.errno_of(busy.write, "cgroup.subtree_control", "+memory") == "EBUSY"
    with pytest.raises(OSError, match="busy") as refused:
        enabling.enable(busy, ["memory"])
    assert any("move them into a cgroup below it" in note for note in refused.value.__notes__)


@behaviour("cgroup-v2.subtree.no-internal-process-move", subject="impl")
def test_who_gives_on_takes_no_process(
    top: Directory, make: Make, bystander: Bystander, cgroup_of: CgroupOf, seen: Seen
) -> None:
    """Moving a process into a cgroup that gives memory on is refused."""
    enabling.enable(top, ["memory"])
    giver = make("giver")
    enabling.enable(giver, ["memory"])
    pid = bystander()
    assert seen.errno_of(giver.write, "cgroup.procs", str(pid)) == "EBUSY"
    assert cgroup_of(pid) == "/"


@behaviour("cgroup-v2.subtree.populated-may-have-children", subject="impl")
def test_processes_on_two_levels(unified: Path, make: Make, bystander: Bystander) -> None:
    """Without controllers a cgroup and its child can both hold processes."""
    make("parent").write("cgroup.procs", str(bystander()))
    make("parent/child").write("cgroup.procs", str(bystander()))
    assert [len((unified / name / "cgroup.procs").read_text().split()) for name in ("parent", "parent/child")] == [1, 1]


@behaviour("cgroup-v2.subtree.root-exempt", subject="impl")
def test_the_root_may_do_both(unified: Path, top: Directory) -> None:
    """It holds processes and gives memory on."""
    enabling.enable(top, ["memory"])
    assert control(unified) == {"memory"}
    assert str(os.getpid()) in (unified / "cgroup.procs").read_text().split()


@behaviour("cgroup-v2.events.keys", subject="impl")
def test_two_lines_of_events(unified: Path, make: Make) -> None:
    """populated and frozen, each 0 or 1."""
    make("child")
    found = events(unified, "child")
    assert {"populated", "frozen"} <= set(found)
    assert set(found.values()) <= {"0", "1"}


@behaviour("cgroup-v2.events.poll-pri", subject="impl")
def test_a_change_of_events_wakes_poll(unified: Path, make: Make, bystander: Bystander) -> None:
    """Once read, the file gives POLLPRI and POLLERR when populated changes."""
    child = make("child")
    with (unified / "child/cgroup.events").open() as file:
        file.read()
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        assert poll.poll(0) == []
        child.write("cgroup.procs", str(bystander()))
        assert poll.poll(10_000) == [(file.fileno(), select.POLLPRI | select.POLLERR)]


@behaviour("cgroup-v2.events.sibling-untouched", subject="impl")
def test_one_of_two_children_is_enough(unified: Path, make: Make, bystander: Bystander) -> None:
    """The parent stays populated while another child has a process."""
    pids = {name: bystander() for name in ("one", "two")}
    for name, pid in pids.items():
        make(f"parent/{name}").write("cgroup.procs", str(pid))
    kill(make("parent/one"))
    assert [events(unified, name)["populated"] for name in ("parent", "parent/one", "parent/two")] == ["1", "0", "1"]


@behaviour("cgroup-v2.events.zombies-do-not-populate", subject="impl")
def test_zombies_do_not_populate(unified: Path, make: Make) -> None:
    """With nothing but a zombie populated is 0."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    make("grave").write("cgroup.procs", str(pid))
    assert events(unified, "grave")["populated"] == "1"
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert events(unified, "grave")["populated"] == "0"
    os.waitpid(pid, 0)


@behaviour("cgroup-v2.freeze.default-zero", subject="impl")
def test_nothing_is_frozen_at_first(unified: Path, make: Make) -> None:
    """cgroup.freeze of a new cgroup is 0."""
    make("child")
    assert (unified / "child/cgroup.freeze").read_text() == "0\n"


@behaviour("cgroup-v2.freeze.bad-value", subject="impl")
def test_a_freeze_of_two(make: Make, seen: Seen) -> None:
    """2 is refused."""
    assert seen.errno_of(make("child").write, "cgroup.freeze", "2") == "ERANGE"


@behaviour("cgroup-v2.freeze.descendants", subject="impl")
def test_descendants_freeze_along(unified: Path, make: Make) -> None:
    """They say frozen 1 while their own cgroup.freeze stays 0."""
    make("parent/child")
    freezing.freeze(make("parent"))
    assert events(unified, "parent/child")["frozen"] == "1"
    assert (unified / "parent/child/cgroup.freeze").read_text() == "0\n"


@behaviour("cgroup-v2.freeze.child-cannot-thaw", subject="impl")
def test_a_child_can_not_thaw_itself(unified: Path, make: Make) -> None:
    """It stays frozen as its parent is, and the package says so."""
    child = make("parent/child")
    freezing.freeze(make("parent"))
    child.write("cgroup.freeze", "0")
    assert events(unified, "parent/child")["frozen"] == "1"
    with pytest.raises(TimeoutError) as refused:
        freezing.thaw(child, 0.0)
    assert "still frozen: an ancestor is" in refused.value.__notes__


@behaviour("cgroup-v2.freeze.kill-works", subject="impl")
def test_a_frozen_process_can_be_killed(unified: Path, make: Make) -> None:
    """SIGKILL ends it without thawing."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    child = make("child")
    child.write("cgroup.procs", str(pid))
    freezing.freeze(child)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert (unified / "child/cgroup.freeze").read_text() == "1\n"


@behaviour("cgroup-v2.freeze.mkdir-allowed", subject="impl")
def test_a_frozen_cgroup_gets_children(unified: Path, make: Make) -> None:
    """A child can be made in it."""
    freezing.freeze(make("parent"))
    make("parent/child")
    assert (unified / "parent/child").is_dir()


@behaviour("cgroup-v2.freeze.rmdir-allowed", subject="impl")
def test_a_frozen_cgroup_can_go(unified: Path, top: Directory, make: Make) -> None:
    """An empty one can be removed."""
    freezing.freeze(make("child"))
    top.remove_child("child")
    assert not (unified / "child").exists()


@behaviour("cgroup-v2.kill.other-values-refused", subject="impl")
@pytest.mark.parametrize("text", ["0", "2"])
def test_a_kill_of_something_else(make: Make, bystander: Bystander, seen: Seen, text: str) -> None:
    """It is refused, and the process lives."""
    child = make("child")
    child.write("cgroup.procs", str(pid := bystander()))
    assert seen.errno_of(child.write, "cgroup.kill", text) == "ERANGE"
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)


@behaviour("cgroup-v2.kill.write-only", subject="impl")
def test_kill_can_not_be_read(unified: Path, make: Make, seen: Seen) -> None:
    """Its mode is 0200, and reading is refused even to root."""
    child = make("child")
    assert (unified / "child/cgroup.kill").stat().st_mode & 0o7777 == 0o200
    assert seen.errno_of(child.read, "cgroup.kill") != "no error"


@behaviour("cgroup-v2.kill.frozen", subject="impl")
def test_kill_ends_what_is_frozen(make: Make) -> None:
    """cgroup.kill ends a frozen process."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    child = make("child")
    child.write("cgroup.procs", str(pid))
    freezing.freeze(child)
    child.write("cgroup.kill", "1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@behaviour("cgroup-v2.pids.max-fork-eagain", subject="impl")
def test_no_more_processes(top: Directory, make: Make, in_child: InChild, seen: Seen) -> None:
    """With as many processes as allowed, fork(2) is refused."""
    enabling.enable(top, ["pids"])
    child = make("child")

    def fork() -> str | None:
        child.write("pids.max", "1")
        child.write("cgroup.procs", "0")
        try:
            if os.fork() == 0:
                os._exit(0)
        except BlockingIOError:
            return "EAGAIN"
        return None

    assert seen(in_child(fork)) == "EAGAIN"


@behaviour("cgroup-v2.pids.attach-over-limit", subject="impl")
def test_moving_in_is_not_limited(unified: Path, top: Directory, make: Make, bystander: Bystander) -> None:
    """A process can be moved into a cgroup that is full."""
    enabling.enable(top, ["pids"])
    child = make("child")
    child.write("pids.max", "1")
    for _ in range(2):
        child.write("cgroup.procs", str(bystander()))
    assert (unified / "child/pids.current").read_text() == "2\n"


@behaviour("cgroup-v2.pids.lower-than-current", subject="impl")
def test_a_limit_below_what_is_there_kills_nobody(
    unified: Path, top: Directory, make: Make, bystander: Bystander
) -> None:
    """It can be set, and all live on."""
    enabling.enable(top, ["pids"])
    child = make("child")
    pids = [bystander(), bystander()]
    for pid in pids:
        child.write("cgroup.procs", str(pid))
    child.write("pids.max", "1")
    assert sorted(child.processes()) == sorted(pids)
    assert (unified / "child/pids.max").read_text() == "1\n"


@behaviour("cgroup-v2.pids.bad-value-einval", subject="impl")
@pytest.mark.parametrize("text", ["-1", "many"])
def test_what_is_no_number_of_processes(unified: Path, top: Directory, make: Make, seen: Seen, text: str) -> None:
    """It is refused by the kernel, and a negative number by the package; the limit stays."""
    enabling.enable(top, ["pids"])
    child = make("child")
    child.write("pids.max", "9")
    assert seen.errno_of(child.write, "pids.max", text) == "EINVAL"
    assert (unified / "child/pids.max").read_text() == "9\n"
    with pytest.raises(LimitError):
        plan_v2(Limits(pids_max=-2), child.read_or_none)


@behaviour("cgroup-v2.pids.hierarchical", subject="impl")
def test_limits_of_ancestors_hold(top: Directory, make: Make, in_child: InChild, seen: Seen) -> None:
    """fork(2) is refused by the limit of an ancestor."""
    enabling.enable(top, ["pids"])
    parent = make("parent")
    enabling.enable(parent, ["pids"])
    parent.write("pids.max", "1")
    child = make("parent/child")

    def fork() -> str | None:
        child.write("cgroup.procs", "0")
        try:
            if os.fork() == 0:
                os._exit(0)
        except BlockingIOError:
            return "EAGAIN"
        return None

    assert child.read("pids.max") == "max\n"
    assert seen(in_child(fork)) == "EAGAIN"
