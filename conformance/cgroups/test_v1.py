"""Version 1: controllers that every kernel still has there, each in a hierarchy that the test mounts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MountV1
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen


@behaviour("cgroup-v1.mount.named", subject="stand-in")
def test_named_hierarchy(mount_v1: MountV1, in_child: InChild) -> None:
    """The data "none,name=x" mounts a hierarchy without controllers, which /proc/PID/cgroup calls "name=x"."""
    hierarchy = mount_v1("none,name=tracker")
    (hierarchy / "group").mkdir()
    controllers = {line.split("\t")[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:]}
    files = {path.name.split(".")[0] for path in (hierarchy / "group").iterdir()}
    assert files.isdisjoint(controllers)

    def lines() -> list[str]:
        before = Path("/proc/self/cgroup").read_text()
        (hierarchy / "group/cgroup.procs").write_text("0")
        return [before, Path("/proc/self/cgroup").read_text()]

    before, after = in_child(lines)
    assert re.search(r"^[1-9]\d*:name=tracker:/$", before, re.MULTILINE)
    assert re.search(r"^[1-9]\d*:name=tracker:/group$", after, re.MULTILINE)


@behaviour("cgroup-v1.pids.fork-eagain", subject="stand-in")
def test_fork_at_the_limit(mount_v1: MountV1, in_child: InChild, seen: Seen) -> None:
    """fork(2) in a cgroup at its pids.max is refused with EAGAIN, and pids.events counts the attempt."""
    group = mount_v1("pids") / "group"
    group.mkdir()
    (group / "pids.max").write_text("1")
    assert (group / "pids.events").read_text() == "max 0\n"

    def fork_at_limit() -> str:
        (group / "cgroup.procs").write_text("0")
        return seen.errno_of(fork_and_reap)

    def fork_and_reap() -> None:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    answer = in_child(fork_at_limit)
    assert seen(answer) == "EAGAIN"
    assert (group / "pids.events").read_text() == "max 1\n"


@behaviour("cgroup-v1.devices.allow-one", subject="stand-in")
def test_one_device_for_reading(mount_v1: MountV1, in_child: InChild, seen: Seen) -> None:
    """Where all devices are denied but "c 1:3 rm", /dev/null opens for reading and not for writing."""
    group = mount_v1("devices") / "group"
    group.mkdir()

    def open_each() -> list[str]:
        (group / "cgroup.procs").write_text("0")
        return [
            seen.errno_of(os.open, path, flags)
            for path, flags in (
                ("/dev/null", os.O_RDONLY),
                ("/dev/null", os.O_WRONLY),
                ("/dev/null", os.O_RDWR),
                ("/dev/zero", os.O_RDONLY),
            )
        ]

    assert in_child(open_each) == ["no error"] * 4
    (group / "devices.deny").write_text("a")
    (group / "devices.allow").write_text("c 1:3 rm")
    answers = in_child(open_each)
    assert seen(answers) == ["no error", "EPERM", "EPERM", "EPERM"]


@behaviour("cgroup-v1.freezer.hierarchical", subject="stand-in")
def test_freezing_reaches_descendants(mount_v1: MountV1) -> None:
    """A cgroup below a frozen one reads FROZEN by its parent's state, not by its own."""
    parent = mount_v1("freezer") / "parent"
    below = [parent / "child", parent / "child/grandchild"]
    for cgroup in (parent, *below):
        cgroup.mkdir()

    def state(cgroup: Path) -> list[str]:
        files = ("freezer.state", "freezer.self_freezing", "freezer.parent_freezing")
        return [(cgroup / name).read_text().strip() for name in files]

    assert [state(cgroup) for cgroup in below] == [["THAWED", "0", "0"]] * 2
    (parent / "freezer.state").write_text("FROZEN")
    assert state(parent) == ["FROZEN", "1", "0"]
    assert [state(cgroup) for cgroup in below] == [["FROZEN", "0", "1"]] * 2


@behaviour("cgroup-v1.cpu.minimum-1ms", subject="stand-in")
def test_smallest_quota_and_period(mount_v1: MountV1, seen: Seen) -> None:
    """A quota or a period of 999 microseconds is refused with EINVAL, one of 1000 is accepted."""
    group = mount_v1("cpu") / "group"
    group.mkdir()
    files = [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    default = ["-1\n", "100000\n"]
    assert [file.read_text() for file in files] == default

    answers = [seen.errno_of(file.write_text, "999") for file in files]
    assert seen(answers) == ["EINVAL", "EINVAL"]
    assert [file.read_text() for file in files] == default
    assert [seen.errno_of(file.write_text, "1000") for file in files] == ["no error", "no error"]
    assert [file.read_text() for file in files] == ["1000\n", "1000\n"]
