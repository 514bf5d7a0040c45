"""Version 2: making and removing cgroups, their files, limits of depth and number; acted on by impl.cgroups."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.filesystem import filesystem_type
from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl.cgroups.directory import CGROUP2_MAGIC
from kernelproof.impl.cgroups.ending import remove
from kernelproof.impl.cgroups.errors import NoControllerError, StillBusyError
from kernelproof.impl.cgroups.layout import parse_controllers, parse_membership, read_layout

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


@behaviour("cgroup-v2.mount.magic", subject="impl")
def test_filesystem_has_its_number(unified: Path, top: Directory, seen: Seen) -> None:
    """fstatfs(2) gives the number, which is what the package looks at before it opens a hierarchy."""
    assert seen(filesystem_type(top.fileno())) == 0x63677270 == CGROUP2_MAGIC
    (hierarchy,) = (one for one in read_layout().hierarchies if one.mount_point == str(unified))
    with pytest.raises(NoControllerError):
        type(top).open(hierarchy._replace(mount_point="/proc"))


@behaviour("cgroup-v2.mount.single-hierarchy", subject="impl")
def test_second_mount_shows_the_same(unified: Path, make: Make, tmp_path: Path) -> None:
    """What is made at one mount is at the other."""
    again = tmp_path / "again"
    again.mkdir()
    mount("cgroup2", again, "cgroup2")
    make("seen-twice")
    assert (again / "seen-twice/cgroup.procs").exists()
    assert os.stat(again / "seen-twice").st_ino == os.stat(unified / "seen-twice").st_ino
    umount2(again)


@behaviour("cgroup-v2.mount.controllers-not-an-option", subject="impl")
def test_controllers_are_no_option(tmp_path: Path, seen: Seen) -> None:
    """A mount of cgroup2 with a controller's name is refused."""
    assert seen.errno_of(mount, "cgroup2", tmp_path, "cgroup2", 0, "memory") == "EINVAL"


@behaviour("cgroup-v2.mount.features-file", subject="impl")
def test_features_are_listed(tmp_path: Path) -> None:
    """nsdelegate is a line of its own, and what it names is an option that a mount takes."""
    assert "nsdelegate" in Path("/sys/kernel/cgroup/features").read_text().splitlines()
    mount("cgroup2", tmp_path, "cgroup2", 0, "nsdelegate")
    (line,) = (line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {tmp_path} " in line)
    assert "nsdelegate" in line.rpartition(" ")[2].split(",")
    umount2(tmp_path)


@behaviour("cgroup-v2.mount.proc-cgroups-meaningless", subject="impl")
def test_unified_controllers_have_hierarchy_0(top: Directory) -> None:
    """/proc/cgroups has 0 for each controller that the unified hierarchy has."""
    found = {entry.name: entry.hierarchy_id for entry in parse_controllers(Path("/proc/cgroups").read_text())}
    there = [name for name in top.controllers() if name in found]
    assert there
    assert {found[name] for name in there} == {0}


@behaviour("cgroup-v2.files.root-lacks-control", subject="impl")
def test_root_has_no_files_of_its_own_life(unified: Path, top: Directory, make: Make) -> None:
    """type, events, freeze and kill are in a child and not in the root."""
    names = {"cgroup.type", "cgroup.events", "cgroup.freeze", "cgroup.kill"}
    assert names & set(top.files()) == set()
    child = set(make("child").files())
    assert names - {"cgroup.kill"} <= child == {path.name for path in (unified / "child").iterdir()}


@behaviour("cgroup-v2.files.no-tasks-no-clone-children", subject="impl")
def test_files_of_version_1_are_gone(unified: Path, make: Make) -> None:
    """Neither the root nor a child has tasks, notify_on_release, release_agent or cgroup.clone_children."""
    make("child")
    gone = ("tasks", "notify_on_release", "release_agent", "cgroup.clone_children")
    assert not [name for name in gone if (unified / name).exists() or (unified / "child" / name).exists()]


@behaviour("cgroup-v2.files.cannot-be-removed", subject="impl")
def test_interface_files_stay(unified: Path, make: Make, seen: Seen) -> None:
    """unlink(2) of one is refused."""
    make("child")
    assert seen.errno_of((unified / "child/cgroup.procs").unlink) == "EPERM"


@behaviour("cgroup-v2.files.max-token", subject="impl")
def test_max_comes_back(unified: Path, top: Directory, make: Make) -> None:
    """max that was written is max that is read."""
    top.write("cgroup.subtree_control", "+pids")
    child = make("child")
    child.write("pids.max", "5")
    child.write("pids.max", "max")
    assert (unified / "child/pids.max").read_text() == "max\n"


@behaviour("cgroup-v2.hierarchy.mkdir-creates", subject="impl")
def test_a_new_cgroup_is_empty(unified: Path, make: Make) -> None:
    """It has no process and says populated 0."""
    make("child")
    assert (unified / "child/cgroup.procs").read_text() == ""
    assert "populated 0" in (unified / "child/cgroup.events").read_text().splitlines()


@behaviour("cgroup-v2.hierarchy.rmdir-with-child-ebusy", subject="impl")
def test_a_parent_stays(unified: Path, top: Directory, make: Make, seen: Seen) -> None:
    """rmdir(2) is refused while there is a child; the package takes the child first."""
    make("parent/child")
    assert seen.errno_of(top.remove_child, "parent") == "EBUSY"
    assert (unified / "parent/child").is_dir()
    remove(top, "parent")
    assert not (unified / "parent").exists()


@behaviour("cgroup-v2.hierarchy.rmdir-populated-ebusy", subject="impl")
def test_cgroup_with_a_process_stays(
    unified: Path, top: Directory, make: Make, bystander: Bystander, seen: Seen
) -> None:
    """rmdir(2) is refused while a process lives in it; the package names the process."""
    make("empty")
    make("populated").write("cgroup.procs", str(pid := bystander()))
    assert seen.errno_of(top.remove_child, "empty") == "no error"
    assert seen.errno_of(top.remove_child, "populated") == "EBUSY"
    assert (unified / "populated").is_dir()
    with pytest.raises(StillBusyError) as refused:
        remove(top, "populated", 0.0)
    assert [holder for holder, _, _ in refused.value.holders] == [pid]


@behaviour("cgroup-v2.hierarchy.rmdir-zombie-only", subject="impl")
def test_zombies_hold_nothing(unified: Path, top: Directory, make: Make) -> None:
    """rmdir(2) of a cgroup with an unreaped zombie succeeds."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    make("grave").write("cgroup.procs", str(pid))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    top.remove_child("grave")
    assert not (unified / "grave").exists()
    assert Path(f"/proc/{pid}/cgroup").read_text() == "0::/grave (deleted)\n"
    os.waitpid(pid, 0)


@behaviour("cgroup-v2.proc-file.deleted", subject="impl")
def test_a_zombie_shows_that_its_cgroup_is_gone(top: Directory, make: Make, seen: Seen) -> None:
    """/proc/PID/cgroup of a zombie whose cgroup was removed ends in " (deleted)"; the parser tells it apart."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    make("grave").write("cgroup.procs", str(pid))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    top.remove_child("grave")
    text = Path(f"/proc/{pid}/cgroup").read_text()
    os.waitpid(pid, 0)
    assert seen(text) == "0::/grave (deleted)\n"
    (parsed,) = parse_membership(text)
    assert (parsed.cgroup, parsed.is_deleted) == ("/grave", True)


@behaviour("cgroup-v2.hierarchy.name-collision", subject="impl")
def test_names_of_files_are_taken(make: Make, seen: Seen) -> None:
    """mkdir(2) with the name of an interface file is refused."""
    assert seen.errno_of(make("child").make, "cgroup.procs") == "EEXIST"


@behaviour("cgroup-v2.proc-file.format", subject="impl")
def test_one_line_of_a_process(make: Make, bystander: Bystander) -> None:
    """0, two colons and the path."""
    make("a/b").write("cgroup.procs", str(pid := bystander()))
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert [line for line in lines if line.startswith("0:")] == ["0::/a/b"]


@behaviour("cgroup-v2.limit.default-max", subject="impl")
def test_no_limit_at_first(unified: Path, make: Make) -> None:
    """Depth and number of descendants are max in a new cgroup."""
    make("child")
    files = ("cgroup.max.depth", "cgroup.max.descendants")
    assert [(unified / "child" / file).read_text() for file in files] == ["max\n", "max\n"]


@behaviour("cgroup-v2.limit.depth-zero-eagain", subject="impl")
def test_depth_zero(make: Make, seen: Seen) -> None:
    """No child can be made."""
    flat = make("flat")
    flat.write("cgroup.max.depth", "0")
    assert seen.errno_of(flat.make, "child") == "EAGAIN"


@behaviour("cgroup-v2.limit.depth-one", subject="impl")
def test_depth_one(unified: Path, make: Make, seen: Seen) -> None:
    """A child can be made, a grandchild cannot."""
    make("flat").write("cgroup.max.depth", "1")
    child = make("flat/child")
    assert seen.errno_of(child.make, "grandchild") == "EAGAIN"
    assert (unified / "flat/child").is_dir()


@behaviour("cgroup-v2.limit.descendants-eagain", subject="impl")
def test_two_descendants(make: Make, seen: Seen) -> None:
    """The third is refused, at any depth."""
    parent = make("parent")
    parent.write("cgroup.max.descendants", "2")
    deep = make("parent/one/two")
    assert seen.errno_of(parent.make, "three") == "EAGAIN"
    assert seen.errno_of(deep.make, "three") == "EAGAIN"


@behaviour("cgroup-v2.limit.below-current-allowed", subject="impl")
def test_a_limit_below_what_is_there(unified: Path, make: Make) -> None:
    """It can be set, and what is there stays."""
    parent = make("parent")
    make("parent/one/two")
    parent.write("cgroup.max.descendants", "1")
    assert (unified / "parent/cgroup.max.descendants").read_text() == "1\n"
    assert (unified / "parent/one/two").is_dir()


@behaviour("cgroup-v2.limit.ancestor-applies", subject="impl")
def test_limits_of_ancestors_hold_below(make: Make, seen: Seen) -> None:
    """A cgroup without limits of its own gets no child beyond its ancestor's."""
    make("top").write("cgroup.max.depth", "2")
    deep = make("top/one/two")
    assert seen.errno_of(deep.make, "three") == "EAGAIN"


@behaviour("cgroup-v2.limit.negative", subject="impl")
def test_a_negative_depth(make: Make, seen: Seen) -> None:
    """-1 is refused."""
    assert seen.errno_of(make("child").write, "cgroup.max.depth", "-1") == "ERANGE"


@behaviour("cgroup-v2.stat.nr-descendants", subject="impl")
def test_descendants_are_counted(unified: Path, top: Directory, make: Make) -> None:
    """nr_descendants is the number of live cgroups below."""
    make("parent/one/two")
    make("parent/three")
    assert "nr_descendants 3" in (unified / "parent/cgroup.stat").read_text().splitlines()
    with top.child("parent") as parent:
        remove(parent, "one")
    assert "nr_descendants 1" in (unified / "parent/cgroup.stat").read_text().splitlines()


@behaviour("cgroup-v2.procs.zero-moves-writer", subject="impl")
def test_zero_is_oneself(make: Make, top: Directory, cgroup_of: CgroupOf) -> None:
    """Writing 0 moves the writer."""
    make("here").write("cgroup.procs", "0")
    where = cgroup_of("self")
    top.write("cgroup.procs", "0")
    assert where == "/here"


@behaviour("cgroup-v2.procs.nonexistent-esrch", subject="impl")
def test_a_process_that_is_not(make: Make, seen: Seen) -> None:
    """A PID that nobody has is refused."""
    assert seen.errno_of(make("here").write, "cgroup.procs", "4194303") == "ESRCH"


@behaviour("cgroup-v2.procs.garbage-einval", subject="impl")
@pytest.mark.parametrize("text", ["x", "-1", "{pid} {pid}"], ids=["text", "negative", "two"])
def test_what_is_no_pid(make: Make, bystander: Bystander, cgroup_of: CgroupOf, seen: Seen, text: str) -> None:
    """It is refused, and moves nothing."""
    pid = bystander()
    assert seen.errno_of(make("here").write, "cgroup.procs", text.format(pid=pid)) == "EINVAL"
    assert cgroup_of(pid) == "/"


@behaviour("cgroup-v2.procs.zombie-not-listed", subject="impl")
def test_zombies_are_not_listed(unified: Path, make: Make) -> None:
    """A zombie is in no list, and the cgroup is not populated."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    grave = make("grave")
    grave.write("cgroup.procs", str(pid))
    assert grave.processes() == (pid,)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert grave.processes() == ()
    assert (unified / "grave/cgroup.procs").read_text() == ""
    os.waitpid(pid, 0)


@behaviour("cgroup-v2.procs.migration-leaves-children", subject="impl")
def test_children_stay_where_they_are(make: Make, bystander: Bystander, top: Directory, cgroup_of: CgroupOf) -> None:
    """Moving a process moves none of its children."""
    child = bystander()
    make("here").write("cgroup.procs", "0")
    places = cgroup_of("self"), cgroup_of(child)
    top.write("cgroup.procs", "0")
    assert places == ("/here", "/")
