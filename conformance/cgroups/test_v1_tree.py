"""Version 1: who is where, and what can be done with the tree; acted on by impl.cgroups, seen in /proc."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import inherit_cpus
from kernelproof.impl._syscalls.credentials import setresgid, setresuid
from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.cgroups.ending import remove
from kernelproof.impl.cgroups.layout import read_membership

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, MakeV1
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

NAMED = "name=tried"
USER = 1234


def become_user() -> None:
    setgroups(())
    setresgid(USER, USER, USER)
    setresuid(USER, USER, USER)


def give(directory: Directory) -> Directory:
    for path in (directory.path, f"{directory.path}/tasks", f"{directory.path}/cgroup.procs"):
        os.chown(path, USER, USER)
    return directory


def places_of_threads(directory: Directory, file: str, value: str) -> list[str]:
    """Write to a file of a cgroup; where the first thread and another one are then. Called in a child.

    Args:
        directory: the cgroup.
        file: what is written to, by the other thread where the value is 0.
        value: "0", or "other" for the ID of the other thread.
    """
    ready, done = threading.Event(), threading.Event()

    def other() -> None:
        if value == "0":
            directory.write(file, "0")
        ready.set()
        done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    if value == "other":
        directory.write(file, str(thread.native_id))
    places = [_place(f"/proc/self/task/{tid}/cgroup") for tid in (os.getpid(), thread.native_id)]
    done.set()
    thread.join()
    return places


def _place(file: str) -> str:
    return next(line.split(":", 2)[2] for line in Path(file).read_text().splitlines() if f":{NAMED}:" in line)


@behaviour("cgroup-v1.tasks.moves-one-thread", subject="impl")
def test_tasks_takes_one_thread(make_v1: MakeV1, in_child: InChild) -> None:
    """The ID of a thread moves that one alone."""
    group = make_v1("group")
    assert in_child(lambda: places_of_threads(group, "tasks", "other")) == ["/", "/group"]


@behaviour("cgroup-v1.procs.moves-all-threads", subject="impl")
def test_procs_takes_all_threads(make_v1: MakeV1, in_child: InChild) -> None:
    """The ID of any thread moves them all."""
    group = make_v1("group")
    assert in_child(lambda: places_of_threads(group, "cgroup.procs", "other")) == ["/group", "/group"]


@behaviour("cgroup-v1.tasks.zero-is-writer", subject="impl")
def test_zero_is_the_writing_thread(make_v1: MakeV1, in_child: InChild) -> None:
    """In tasks it moves the thread that writes, and no other."""
    group = make_v1("group")
    assert in_child(lambda: places_of_threads(group, "tasks", "0")) == ["/", "/group"]


@behaviour("cgroup-v1.procs.zero-is-process", subject="impl")
def test_zero_is_the_writing_process(make_v1: MakeV1, in_child: InChild) -> None:
    """In cgroup.procs it moves all of its threads."""
    group = make_v1("group")
    assert in_child(lambda: places_of_threads(group, "cgroup.procs", "0")) == ["/group", "/group"]


@behaviour("cgroup-v1.tasks.one-at-a-time", subject="impl")
def test_two_at_once(make_v1: MakeV1, bystander: Bystander, cgroup_of: CgroupOf, seen: Seen) -> None:
    """The second of two PIDs in one write is not attached."""
    first, second = bystander(), bystander()
    seen.errno_of(make_v1("group").write, "tasks", f"{first} {second}")
    assert cgroup_of(second, NAMED) == "/"


@behaviour("cgroup-v1.tasks.nonexistent-esrch", subject="impl")
def test_a_process_that_is_not(make_v1: MakeV1, seen: Seen) -> None:
    """A PID that nobody has is refused."""
    group = inherit_cpus(make_v1("group", "cpuset"), make_v1("", "cpuset"))
    assert seen.errno_of(group.write, "tasks", "4194303") == "ESRCH"


@behaviour("cgroup-v1.tasks.garbage-eio", subject="impl")
def test_what_is_no_pid(make_v1: MakeV1, seen: Seen) -> None:
    """Text that begins with no digit is refused."""
    assert seen.errno_of(make_v1("group", "cpuset").write, "tasks", "x") == "EIO"


@behaviour("cgroup-v1.tree.internal-processes-allowed", subject="impl")
def test_processes_on_two_levels(make_v1: MakeV1, bystander: Bystander) -> None:
    """A cgroup and its child both have one."""
    pids = {name: bystander() for name in ("parent", "parent/child")}
    for name, pid in pids.items():
        make_v1(name).write("cgroup.procs", str(pid))
    found = {name: Path(make_v1(name).path, "tasks").read_text() for name in pids}
    assert found == {name: f"{pid}\n" for name, pid in pids.items()}


@behaviour("cgroup-v1.tree.rmdir-busy-ebusy", subject="impl")
def test_what_is_in_use_stays(make_v1: MakeV1, bystander: Bystander, seen: Seen) -> None:
    """rmdir(2) is refused while there is a child, and while there is a task; the package takes the child first."""
    root, parent = make_v1("", "cpuset"), make_v1("parent", "cpuset")
    make_v1("parent/child", "cpuset")
    answers = [seen.errno_of(root.remove_child, "parent")]
    remove(parent, "child")
    inherit_cpus(parent, root).write("tasks", str(bystander()))
    answers.append(seen.errno_of(root.remove_child, "parent"))
    assert seen(answers) == ["EBUSY", "EBUSY"]
    assert not Path(parent.path, "child").exists()


@behaviour("cgroup-v1.tree.mkdir-exists-eexist", subject="impl")
def test_a_name_is_taken(make_v1: MakeV1, seen: Seen) -> None:
    """mkdir(2) of what is there is refused."""
    make_v1("group", "cpuset")
    assert seen.errno_of(make_v1("", "cpuset").make, "group") == "EEXIST"


@behaviour("cgroup-v1.tree.rename-same-parent", subject="impl")
def test_another_name(make_v1: MakeV1, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """A cgroup can have one, and its processes say so."""
    group = make_v1("group")
    group.write("cgroup.procs", str(pid := bystander()))
    os.rename(group.path, f"{make_v1('').path}/renamed")
    assert cgroup_of(pid, NAMED) == "/renamed"
    assert [entry.cgroup for entry in read_membership(pid) if entry.name == "tried"] == ["/renamed"]


@behaviour("cgroup-v1.tree.rename-onto-existing-eexist", subject="impl")
def test_a_name_that_is_taken(make_v1: MakeV1, seen: Seen) -> None:
    """rename(2) onto another cgroup is refused."""
    assert seen.errno_of(os.rename, make_v1("one").path, make_v1("two").path) == "EEXIST"


@behaviour("cgroup-v1.tree.rename-other-parent-eio", subject="impl")
def test_another_parent(make_v1: MakeV1, seen: Seen) -> None:
    """rename(2) into another directory is refused."""
    assert seen.errno_of(os.rename, make_v1("one").path, f"{make_v1('two').path}/one") == "EIO"


@behaviour("cgroup-v1.tree.name-over-255", subject="impl")
def test_a_long_name(make_v1: MakeV1, seen: Seen) -> None:
    """256 bytes are refused."""
    make = make_v1("", "cpuset").make
    assert seen.errno_of(make, "n" * 256) == "ENAMETOOLONG"


@behaviour("cgroup-v1.tree.exactly-one", subject="impl")
def test_one_place_in_each_hierarchy(make_v1: MakeV1, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """A move in one hierarchy is none in the other."""
    pid = bystander()
    make_v1("one", "freezer").write("tasks", str(pid))
    make_v1("here", "pids").write("tasks", str(pid))
    make_v1("two", "freezer").write("tasks", str(pid))
    assert [cgroup_of(pid, name) for name in ("freezer", "pids")] == ["/two", "/here"]
    assert Path(make_v1("one", "freezer").path, "tasks").read_text() == ""


@behaviour("cgroup-v1.permission.foreign-process-eacces", subject="impl")
def test_a_process_of_another_user(make_v1: MakeV1, in_child: InChild, bystander: Bystander, seen: Seen) -> None:
    """Who owns tasks attaches no process of root."""
    group, pid = give(make_v1("group")), bystander()

    def attach() -> str:
        become_user()
        return seen.errno_of(group.write, "tasks", str(pid))

    assert seen(in_child(attach)) == "EACCES"


@behaviour("cgroup-v1.permission.no-containment", subject="impl")
def test_between_two_homes(make_v1: MakeV1, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """Who owns both moves between them, whoever owns what is above."""
    one, two = give(make_v1("one")), give(make_v1("two"))

    def move() -> list[str]:
        one.write("tasks", "0")
        become_user()
        two.write("tasks", "0")
        return [cgroup_of("self", NAMED)]

    assert in_child(move) == ["/two"]


@behaviour("cgroup-v1.namespace.root-view", subject="impl")
def test_a_namespace_begins_here(make_v1: MakeV1, in_child: InChild) -> None:
    """After unshare(CLONE_NEWCGROUP) each line ends in ":/"."""
    groups = [make_v1("group", data) for data in ("freezer", "none,name=tried")]

    def leave() -> list[list[str]]:
        for group in groups:
            group.write("cgroup.procs", "0")
        before = Path("/proc/self/cgroup").read_text().splitlines()
        unshare(CloneFlag.NEWCGROUP)
        return [before, Path("/proc/self/cgroup").read_text().splitlines()]

    before, after = in_child(leave)
    assert sum(line.endswith(":/group") for line in before) == 2
    assert [line for line in after if not line.endswith(":/")] == []
