"""Version 1: hierarchies that are mounted, and what /proc says of them; acted on by mount(2), read by impl.cgroups."""

from __future__ import annotations

import os
import re
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import DEADLINE_SECONDS
from kernelproof.impl._syscalls.filesystem import filesystem_type
from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl.cgroups.directory import CGROUP1_MAGIC, Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.layout import Hierarchy, parse_controllers, parse_membership, read_layout, read_membership

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1, MountV1
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

NAMED = "none,name=tried"


def lines() -> list[str]:
    return Path("/proc/self/cgroup").read_text().splitlines()


def listed(name: str) -> bool:
    return any(line.split(":")[1] == name for line in lines())


@behaviour("cgroup-v1.mount.named", subject="impl")
def test_named_hierarchy(make_v1: MakeV1, in_child: InChild) -> None:
    """The data "none,name=x" mounts a hierarchy without controllers, which /proc/PID/cgroup calls "name=x"."""
    group = make_v1("group", "none,name=tracker")
    controllers = {entry.name for entry in parse_controllers(Path("/proc/cgroups").read_text())}
    assert {name.split(".")[0] for name in group.files()}.isdisjoint(controllers)

    def move() -> list[str]:
        before = Path("/proc/self/cgroup").read_text()
        group.write("cgroup.procs", "0")
        return [before, Path("/proc/self/cgroup").read_text()]

    before, after = in_child(move)
    assert re.search(r"^[1-9]\d*:name=tracker:/$", before, re.MULTILINE)
    assert re.search(r"^[1-9]\d*:name=tracker:/group$", after, re.MULTILINE)
    assert [entry.cgroup for entry in parse_membership(after) if entry.name == "tracker"] == ["/group"]


@behaviour("cgroup-v1.mount.no-controller-no-name-ebusy", subject="impl")
def test_all_that_there_is(mount_v1: MountV1, seen: Seen) -> None:
    """Without a controller and a name all are meant, of which one is elsewhere."""
    mount_v1("freezer")
    assert seen.errno_of(mount_v1, "") == "EBUSY"


@behaviour("cgroup-v1.mount.same-set-reuses", subject="impl")
def test_the_same_set_again(mount_v1: MountV1) -> None:
    """What is made in one is in the other; the package takes them for one hierarchy with two mounts."""
    first, second = mount_v1("freezer"), mount_v1("freezer")
    with Directory.open(Hierarchy(1, ("freezer",), "", str(first), "/", is_read_only=False)) as root:
        root.make("group").close()
    assert (second / "group").is_dir()
    found = [one.mount_point for one in read_layout().hierarchies if one.controllers == ("freezer",)]
    assert sorted(found) == sorted([str(first), str(second)])


@behaviour("cgroup-v1.mount.overlapping-set-ebusy", subject="impl")
def test_a_set_that_overlaps(mount_v1: MountV1, seen: Seen) -> None:
    """cpu with cpuacct can't be mounted while cpu is alone elsewhere."""
    mount_v1("cpu")
    assert seen.errno_of(mount_v1, "cpu,cpuacct") == "EBUSY"


@behaviour("cgroup-v1.mount.none-needs-name", subject="impl")
def test_nothing_at_all(mount_v1: MountV1, seen: Seen) -> None:
    """none without a name is refused."""
    assert seen.errno_of(mount_v1, "none") == "EINVAL"


@behaviour("cgroup-v1.mount.name-characters", subject="impl")
@pytest.mark.parametrize("name", ["a b", "a/b", "a:b", "ä"], ids=["space", "slash", "colon", "umlaut"])
def test_names_that_are_none(mount_v1: MountV1, seen: Seen, name: str) -> None:
    """A character that is no letter, digit, "_", "." or "-" is refused."""
    assert seen.errno_of(mount_v1, f"none,name={name}") == "EINVAL"
    mount_v1("none,name=Az09_.-")


@behaviour("cgroup-v1.mount.name-with-other-set-ebusy", subject="impl")
def test_a_name_is_one_hierarchy_s(mount_v1: MountV1, seen: Seen) -> None:
    """With another set of controllers it is refused."""
    mount_v1(NAMED)
    assert seen.errno_of(mount_v1, "freezer,name=tried") == "EBUSY"


@behaviour("cgroup-v1.mount.all-with-none-refused", subject="impl")
def test_all_and_none(mount_v1: MountV1, seen: Seen) -> None:
    """Both words at once are refused."""
    assert seen.errno_of(mount_v1, "all,none") == "EINVAL"


@behaviour("cgroup-v1.mount.release-agent-twice", subject="impl")
def test_two_agents(mount_v1: MountV1, seen: Seen) -> None:
    """release_agent given twice is refused."""
    assert seen.errno_of(mount_v1, f"{NAMED},release_agent=/bin/true,release_agent=/bin/false") == "EINVAL"


@behaviour("cgroup-v1.mount.unknown-controller", subject="impl")
@pytest.mark.parametrize("name", ["io", "nosuch"])
def test_a_controller_that_is_not(mount_v1: MountV1, seen: Seen, name: str) -> None:
    """One that only version 2 has, and one that nobody has, are refused; the package says what there is."""
    assert seen.errno_of(mount_v1, name) == "EINVAL"
    with pytest.raises(NoControllerError):
        read_layout().hierarchy(name)


@behaviour("cgroup-v1.mount.no-v1-disabled", subject="impl")
def test_names_can_be_switched_off(mount_v1: MountV1, seen: Seen) -> None:
    """With cgroup_no_v1=named no named hierarchy can be mounted."""
    assert seen.errno_of(mount_v1, NAMED) != "no error"


@behaviour("cgroup-v1.mount.source-shown", subject="impl")
def test_the_source_is_any_text(tmp_path: Path) -> None:
    """It is the first field of the line in /proc/mounts."""
    mount("any-text", tmp_path, "cgroup", 0, NAMED)
    found = [line.split(" ")[0] for line in Path("/proc/mounts").read_text().splitlines() if f" {tmp_path} " in line]
    umount2(tmp_path)
    assert found == ["any-text"]


@behaviour("cgroup-v1.mount.umount-with-children-keeps", subject="impl")
def test_a_hierarchy_with_children_stays(tmp_path: Path) -> None:
    """It is in /proc/self/cgroup when it is not mounted any more."""
    mount("cgroup", tmp_path, "cgroup", 0, NAMED)
    (tmp_path / "child").mkdir()
    umount2(tmp_path)
    assert listed("name=tried")
    assert [entry.name for entry in read_membership() if entry.name] == ["tried"]
    assert [one for one in read_layout().hierarchies if one.name == "tried"] == []


@behaviour("cgroup-v1.mount.mounted-again-shows-children", subject="impl")
def test_a_hierarchy_comes_back(tmp_path: Path, mount_v1: MountV1) -> None:
    """Mounted again, it has its child."""
    mount("cgroup", tmp_path, "cgroup", 0, NAMED)
    (tmp_path / "child").mkdir()
    umount2(tmp_path)
    assert (mount_v1(NAMED) / "child").is_dir()


@behaviour("cgroup-v1.mount.umount-without-children-ends", subject="impl")
def test_a_hierarchy_without_children_goes(tmp_path: Path) -> None:
    """With its last mount its line goes."""
    mount("cgroup", tmp_path, "cgroup", 0, NAMED)
    before = listed("name=tried")
    umount2(tmp_path)
    # The kernel tells nobody when it has taken the hierarchy down, which it does a moment later.
    deadline = time.monotonic() + DEADLINE_SECONDS
    while listed("name=tried") and time.monotonic() < deadline:
        select.poll().poll(10)
    assert before
    assert not listed("name=tried")


@behaviour("cgroup-v1.mount.magic", subject="impl")
def test_filesystem_has_its_number(make_v1: MakeV1, seen: Seen) -> None:
    """fstatfs(2) gives the number that the package looks at."""
    assert seen(filesystem_type(make_v1("").fileno())) == 0x27E0EB == CGROUP1_MAGIC


@behaviour("cgroup-v1.proc.cgroup-line", subject="impl")
def test_a_line_for_each_hierarchy(make_v1: MakeV1, in_child: InChild) -> None:
    """Number, controllers with commas, and a path that may have a colon itself."""
    group = make_v1("a:b", "cpu,cpuacct")

    def move() -> list[str]:
        group.write("cgroup.procs", "0")
        return lines()

    (line,) = (line for line in in_child(move) if "cpu" in line.split(":")[1])
    number, controllers, path = line.split(":", 2)
    assert int(number) > 0
    assert set(controllers.split(",")) == {"cpu", "cpuacct"}
    assert path == "/a:b"
    (parsed,) = parse_membership(line)
    assert (parsed.hierarchy_id, set(parsed.controllers), parsed.cgroup) == (int(number), {"cpu", "cpuacct"}, "/a:b")


@behaviour("cgroup-v1.proc.cgroups-hierarchy-id", subject="impl")
def test_one_number_for_a_hierarchy(make_v1: MakeV1) -> None:
    """/proc/cgroups and /proc/self/cgroup have the same one."""
    make_v1("", "freezer")
    (line,) = (line for line in lines() if line.split(":")[1] == "freezer")
    words = next(line.split() for line in Path("/proc/cgroups").read_text().splitlines() if line.startswith("freezer"))
    assert words[1] == line.split(":")[0] != "0"
    (entry,) = (one for one in parse_controllers(Path("/proc/cgroups").read_text()) if one.name == "freezer")
    assert entry.hierarchy_id == int(words[1])


@behaviour("cgroup-v1.files.sane-behavior", subject="impl")
def test_behaviour_is_not_sane(make_v1: MakeV1) -> None:
    """cgroup.sane_behavior of the root is 0."""
    assert Path(make_v1("").path, "cgroup.sane_behavior").read_text() == "0\n"


@behaviour("cgroup-v1.files.release-agent-root-only", subject="impl")
def test_one_agent_a_hierarchy(make_v1: MakeV1) -> None:
    """release_agent is in the root and nowhere else."""
    assert [Path(make_v1(name).path, "release_agent").exists() for name in ("", "child")] == [True, False]


@behaviour("cgroup-v1.files.create-eacces", subject="impl")
def test_no_file_can_be_made(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused."""
    path = Path(make_v1("child", "cpuset").path, "new")
    assert seen.errno_of(path.touch) == "EACCES"


@behaviour("cgroup-v1.files.unlink-eperm", subject="impl")
def test_no_file_can_go(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused."""
    path = Path(make_v1("child", "cpuset").path, "cpuset.cpus")
    assert seen.errno_of(path.unlink) == "EPERM"
    assert path.exists()


@behaviour("cgroup-v1.xattr.trusted", subject="impl")
def test_trusted_attributes(make_v1: MakeV1) -> None:
    """One can be set on a cgroup, and read."""
    child = make_v1("child")
    os.setxattr(child.fileno(), "trusted.tried", b"value")
    assert os.getxattr(child.path, "trusted.tried") == b"value"


@behaviour("cgroup-v1.xattr.user", subject="impl")
def test_attributes_of_users(make_v1: MakeV1, seen: Seen) -> None:
    """None can be set on a cgroup."""
    assert seen.errno_of(os.setxattr, make_v1("child").path, "user.tried", b"value") != "no error"
