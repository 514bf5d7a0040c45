"""Version 2: what is mounted beside it, and what it says of itself; acted on by impl.cgroups and mount(2)."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import DEADLINE_SECONDS, burn_for, table
from kernelproof.impl._syscalls.inotify import Event, inotify_add_watch, inotify_init1
from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.cgroups import delegation, enabling, freezing
from kernelproof.impl.cgroups.ending import remove
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.layout import read_layout

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make, MountV1
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

ALWAYS = {"cpu.stat", "cpu.stat.local", "cpu.pressure", "memory.pressure", "io.pressure", "irq.pressure"}


@behaviour("cgroup-v2.mount.controller-bound-to-v1-missing", subject="impl")
def test_what_version_1_has(unified: Path, top: Directory, mount_v1: MountV1) -> None:
    """A controller of a version 1 hierarchy is not there; the package says who has it."""
    before = top.controllers()
    mount_v1("pids")
    assert "pids" in before
    assert "pids" not in (unified / "cgroup.controllers").read_text().split()
    assert read_layout().hierarchy("pids").version == 1
    with pytest.raises(NoControllerError, match="unmount the version 1 hierarchy"):
        enabling.enable(top, ["pids"])


@behaviour("cgroup-v2.mount.v1-mount-of-used-controller-ebusy", subject="impl")
def test_what_version_2_uses(make: Make, mount_v1: MountV1, seen: Seen) -> None:
    """A controller that is given on can't be mounted in version 1."""
    make("child", "pids")
    assert seen.errno_of(mount_v1, "pids") == "EBUSY"


@behaviour("cgroup-v2.mount.delegate-file", subject="impl")
def test_files_that_go_with_a_cgroup() -> None:
    """The three files of its processes and controllers are listed, and read by the package."""
    listed = Path("/sys/kernel/cgroup/delegate").read_text().splitlines()
    assert {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= set(listed)
    assert delegation.read_delegated_files() == tuple(listed)


@behaviour("cgroup-v2.mount.nsdelegate-ignored-elsewhere", subject="impl")
def test_an_option_of_the_first_namespace(unified: Path, tmp_path: Path, in_child: InChild) -> None:
    """From another cgroup namespace a mount with nsdelegate succeeds and sets nothing."""
    again = tmp_path / "again"
    again.mkdir()

    def options() -> set[str]:
        lines = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
        return {option for _, where, _, words, *_ in lines if where == str(unified) for option in words.split(",")}

    def elsewhere() -> bool:
        unshare(CloneFlag.NEWCGROUP | CloneFlag.NEWNS)
        mount("cgroup2", again, "cgroup2", 0, "nsdelegate")
        return "nsdelegate" in options()

    assert in_child(elsewhere) is False
    assert "nsdelegate" not in options()
    mount("cgroup2", again, "cgroup2", 0, "nsdelegate")
    assert "nsdelegate" in options()


@behaviour("cgroup-v2.files.core-prefix", subject="impl")
def test_names_of_the_files(unified: Path, make: Make) -> None:
    """All begin with "cgroup." but those that are there always."""
    make("child")
    names = {path.name for path in (unified / "child").iterdir()}
    assert {name for name in names if not name.startswith("cgroup.")} - ALWAYS == set()
    assert names == set(make("child").files())


@behaviour("cgroup-v2.procs.exec-keeps", subject="impl")
def test_another_program_in_the_same_place(make: Make, cgroup_of: CgroupOf) -> None:
    """After execve(2) the process is where it was."""
    directory = make("here")
    pid = os.fork()
    if pid == 0:
        try:
            directory.write("cgroup.procs", "0")
            os.execv("/bin/sh", ("sh", "-c", "kill -STOP $$"))
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, os.WUNTRACED)
    found = Path(f"/proc/{pid}/comm").read_text(), cgroup_of(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status)
    assert found == ("sh\n", "/here")


@behaviour("cgroup-v2.procs.any-tid-moves-process", subject="impl")
def test_any_thread_stands_for_all(make: Make, in_child: InChild) -> None:
    """The ID of a thread that is not the first moves the whole process."""
    directory = make("here")

    def move() -> list[str]:
        done = threading.Event()
        other = threading.Thread(target=done.wait)
        other.start()
        directory.write("cgroup.procs", str(other.native_id))
        lines = [Path(f"/proc/self/task/{tid}/cgroup").read_text() for tid in (os.getpid(), other.native_id)]
        done.set()
        other.join()
        return lines

    assert in_child(move) == ["0::/here\n", "0::/here\n"]


@behaviour("cgroup-v2.procs.zombie-cannot-be-moved", subject="impl")
def test_zombies_stay_where_they_are(make: Make, seen: Seen) -> None:
    """Whatever the write says, a zombie is where it was."""
    grave, other = make("grave"), make("other")
    pid = os.fork()
    if pid == 0:
        signal.pause()
    grave.write("cgroup.procs", str(pid))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    seen.errno_of(other.write, "cgroup.procs", str(pid))
    text = Path(f"/proc/{pid}/cgroup").read_text()
    os.waitpid(pid, 0)
    assert seen(text) == "0::/grave\n"


@behaviour("cgroup-v2.events.inotify-modify", subject="impl")
def test_a_change_of_events_is_a_modification(unified: Path, make: Make, bystander: Bystander) -> None:
    """inotify tells IN_MODIFY of cgroup.events when populated changes."""
    child = make("child")
    fd = inotify_init1()
    watch = inotify_add_watch(fd, unified / "child/cgroup.events", Event.MODIFY)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    child.write("cgroup.procs", str(bystander()))
    assert poll.poll(DEADLINE_SECONDS * 1000) != []
    data = os.read(fd, 4096)
    os.close(fd)
    assert int.from_bytes(data[:4], "little") == watch
    assert int.from_bytes(data[4:8], "little") == Event.MODIFY


@behaviour("cgroup-v2.events.ancestors-notified", subject="impl")
def test_every_ancestor_that_empties_says_so(unified: Path, make: Make, bystander: Bystander) -> None:
    """The end of the last process wakes who waits on each ancestor that is empty then, and no other."""
    names = ("outer/parent/leaf", "outer/parent", "outer")
    pid = bystander()
    make("outer/other").write("cgroup.procs", str(bystander()))
    make("outer/parent/leaf").write("cgroup.procs", str(pid))
    files = [(unified / name / "cgroup.events").open() for name in names]
    polls = []
    for file in files:
        file.read()
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        polls.append(poll)
    os.kill(pid, signal.SIGKILL)
    answers = [bool(poll.poll(DEADLINE_SECONDS * 1000)) for poll in polls[:2]]
    last = bool(polls[2].poll(0))
    for file in files:
        file.close()
    assert [*answers, last] == [True, True, False]


@behaviour("cgroup-v2.stat.dying", subject="impl")
def test_removed_but_referenced(unified: Path, make: Make) -> None:
    """A removed cgroup that a zombie refers to is dying, and no descendant any more."""
    parent = make("parent")
    pid = os.fork()
    if pid == 0:
        signal.pause()
    make("parent/grave").write("cgroup.procs", str(pid))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    before = table(unified / "parent/cgroup.stat")
    remove(parent, "grave")
    after = table(unified / "parent/cgroup.stat")
    os.waitpid(pid, 0)
    assert (before["nr_descendants"], before["nr_dying_descendants"]) == (1, 0)
    assert (after["nr_descendants"], after["nr_dying_descendants"]) == (0, 1)


@behaviour("cgroup-v2.stat.local-frozen-usec", subject="impl")
def test_time_in_the_cold_is_counted(unified: Path, make: Make, bystander: Bystander) -> None:
    """frozen_usec grows while a cgroup or its ancestor is frozen, and stands still otherwise."""
    parent, child = make("parent"), make("parent/child")
    child.write("cgroup.procs", str(bystander()))
    file = unified / "parent/child/cgroup.stat.local"

    def spent() -> int:
        before = table(file)["frozen_usec"]
        burn_for(0.02)
        return table(file)["frozen_usec"] - before

    found = [spent()]
    for directory in (child, parent):
        freezing.freeze(directory)
        found.append(spent())
        freezing.thaw(directory)
        found.append(spent())
    assert [found[index] for index in (0, 2, 4)] == [0, 0, 0]
    assert all(20_000 <= found[index] < 200_000 for index in (1, 3))
