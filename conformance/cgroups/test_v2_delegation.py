"""Version 2: cgroups that were given to a user, and what he may do there; acted on by impl.cgroups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.credentials import setresgid, setresuid
from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.cgroups.delegation import delegate, explain_migration

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

USER = 1234


def become_user() -> None:
    setgroups(())
    setresgid(USER, USER, USER)
    setresuid(USER, USER, USER)


@pytest.fixture
def nsdelegate(unified: Path, tmp_path: Path) -> None:
    """The mount option that makes cgroup namespaces the borders of delegation."""
    again = tmp_path / "again"
    again.mkdir()
    mount("cgroup2", again, "cgroup2", 0, "nsdelegate")


@behaviour("cgroup-v2.delegation.move-inside", subject="impl")
def test_a_user_at_home(make: Make, in_child: InChild, cgroup_of: CgroupOf) -> None:
    """Who was given a cgroup makes children and moves between them."""
    home = make("home")
    assert {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= set(delegate(home, USER, USER))

    def live() -> list[str]:
        home.write("cgroup.procs", "0")
        become_user()
        places = []
        for name in ("one", "two"):
            with home.make(name) as child:
                child.write("cgroup.procs", "0")
            places.append(cgroup_of("self"))
        return places

    assert in_child(live) == ["/home/one", "/home/two"]


@behaviour("cgroup-v2.delegation.new-owned-by-delegatee", subject="impl")
def test_who_makes_owns(unified: Path, make: Make, in_child: InChild) -> None:
    """What the user makes is his, with its files."""
    home = make("home")
    delegate(home, USER, USER)

    def build() -> None:
        become_user()
        home.make("own").close()

    in_child(build)
    own = unified / "home/own"
    assert {own.stat().st_uid, *(path.stat().st_uid for path in own.iterdir())} == {USER}


@behaviour("cgroup-v2.delegation.common-ancestor-eacces", subject="impl")
def test_between_two_homes(make: Make, top: Directory, in_child: InChild, seen: Seen) -> None:
    """Both are the user's, what is above both is not: the move is refused, and the package says why."""
    one, two = make("one"), make("two")
    for home in (one, two):
        delegate(home, USER, USER)

    def move() -> list[str | None]:
        one.write("cgroup.procs", "0")
        become_user()
        for home in (one, two):
            os.close(home.open_file("cgroup.procs", os.O_WRONLY))
        reason = explain_migration(one, two, top)
        return [seen.errno_of(two.write, "cgroup.procs", "0"), reason]

    answer, reason = in_child(move)
    assert seen(answer) == "EACCES"
    assert "common ancestor" in reason


@behaviour("cgroup-v2.delegation.pull-from-outside-eacces", subject="impl")
def test_nobody_comes_in_from_outside(make: Make, in_child: InChild, cgroup_of: CgroupOf, seen: Seen) -> None:
    """A process of the user that is not inside can't move in."""
    home = make("home")
    delegate(home, USER, USER)

    def move() -> list[str]:
        become_user()
        return [seen.errno_of(home.write, "cgroup.procs", "0"), cgroup_of("self")]

    assert seen(in_child(move)) == ["EACCES", "/"]


@behaviour("cgroup-v2.delegation.other-users-process", subject="impl")
def test_guests_can_be_moved(make: Make, in_child: InChild, bystander: Bystander, cgroup_of: CgroupOf) -> None:
    """Inside his cgroup the user moves processes of others too."""
    home = make("home")
    delegate(home, USER, USER)
    home.write("cgroup.procs", str(pid := bystander()))

    def move() -> None:
        become_user()
        with home.make("guests") as guests:
            guests.write("cgroup.procs", str(pid))

    in_child(move)
    assert os.stat(f"/proc/{pid}").st_uid == 0
    assert cgroup_of(pid) == "/home/guests"


@behaviour("cgroup-v2.delegation.control-files-eacces", subject="impl")
def test_limits_stay_with_the_giver(unified: Path, make: Make, in_child: InChild, seen: Seen) -> None:
    """pids.max of what was given can't be opened for writing."""
    home = make("home", "pids")
    assert "pids.max" not in delegate(home, USER, USER)

    def lift() -> str:
        become_user()
        return seen.errno_of(home.open_file, "pids.max", os.O_WRONLY)

    home.write("pids.max", "7")
    assert seen(in_child(lift)) == "EACCES"
    assert (unified / "home/pids.max").read_text() == "7\n"


@behaviour("cgroup-v2.delegation.nsdelegate-eperm", subject="impl")
def test_a_namespace_is_a_border(nsdelegate: None, make: Make, in_child: InChild, seen: Seen) -> None:
    """Limits of the namespace's root can't be set from inside, and processes can be moved there."""
    home = make("home", "pids")

    def inside() -> list[str]:
        home.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        limit = seen.errno_of(home.write, "pids.max", "7")
        return [limit, seen.errno_of(home.write, "cgroup.procs", "0")]

    assert seen(in_child(inside)) == ["EPERM", "no error"]


@behaviour("cgroup-v2.delegation.nsdelegate-core-files", subject="impl")
def test_core_files_of_the_border(nsdelegate: None, make: Make, in_child: InChild, seen: Seen) -> None:
    """cgroup.freeze and cgroup.max.depth of the namespace's root can't be written from inside."""
    home = make("home")

    def inside() -> list[str]:
        home.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        files = (("cgroup.freeze", "0"), ("cgroup.max.depth", "7"))
        return [seen.errno_of(home.write, *pair) for pair in files]

    listed = Path("/sys/kernel/cgroup/delegate").read_text().split()
    assert not {"cgroup.freeze", "cgroup.max.depth"} & set(listed)
    assert seen(in_child(inside)) == ["EPERM", "EPERM"]


@behaviour("cgroup-v2.delegation.nsdelegate-migrate-enoent", subject="impl")
def test_nobody_crosses_the_border(nsdelegate: None, make: Make, in_child: InChild, seen: Seen) -> None:
    """A process can't be moved out of the namespace's root from inside."""
    home, other = make("home"), make("other")

    def inside() -> str:
        home.write("cgroup.procs", "0")
        unshare(CloneFlag.NEWCGROUP)
        return seen.errno_of(other.write, "cgroup.procs", "0")

    assert seen(in_child(inside)) == "ENOENT"
