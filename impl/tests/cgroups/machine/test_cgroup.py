"""One cgroup of either version from its making to its removal, on a real kernel."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import (
    BelowUsageError,
    Cgroup,
    Layout,
    LimitError,
    Limits,
    NoControllerError,
    StillBusyError,
    read_layout,
)
from kernelproof.impl.cgroups.ending import all_processes

pytestmark = pytest.mark.machine

Mount = Callable[..., Path]


@pytest.fixture(params=["v2", "v1"])
def layout(request: pytest.FixtureRequest, hierarchy: Mount) -> Layout:
    """The hierarchies of one version."""
    if request.param == "v2":
        hierarchy("v2")
    else:
        for controller in ("cpu", "cpuacct", "pids", "freezer", "blkio"):
            hierarchy("v1", controller)
    return read_layout()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def where(pid: int) -> set[str]:
    return {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}


def test_whole_life(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """Made with its parents, entered, limited, frozen, killed, removed; the kernel says so each time."""
    tops = [Path(hierarchy.mount_point) for hierarchy in layout.hierarchies]
    with Cgroup.create("web/worker", layout) as cgroup:
        assert all((top / "web/worker/cgroup.procs").exists() for top in tops)
        cgroup.add(sleeper.pid)
        assert where(sleeper.pid) == {"/web/worker"}
        assert cgroup.processes() == (sleeper.pid,)
        (applied,) = cgroup.set(Limits(pids_max=7))
        assert applied.effective == "7\n"
        pids = next(top for top in tops if (top / "web/worker/pids.max").exists())
        assert (pids / "web/worker/pids.max").read_text() == "7\n"
        with cgroup.frozen():
            assert Path(f"/proc/{sleeper.pid}/wchan").read_text() != "" or cgroup.version == 1
            if cgroup.version == 2:
                assert "frozen 1" in (tops[0] / "web/worker/cgroup.events").read_text()
        found = cgroup.read_stats()
        assert found.pids is not None
        assert found.pids.current == 1
        assert found.cpu is not None
        with pytest.raises(StillBusyError) as busy:
            cgroup.remove(timeout_seconds=0.1)
        assert busy.value.errno == errno.EBUSY
        assert [pid for pid, _, _ in busy.value.holders] == [sleeper.pid]
        cgroup.kill()
        assert sleeper.wait(timeout=10) == -signal.SIGKILL
        cgroup.remove()
        assert not cgroup.exists()
    assert all(not (top / "web/worker").exists() and (top / "web").exists() for top in tops)


def test_kill_gets_what_forks(layout: Layout) -> None:
    """Nobody is left of a process that forks as fast as it can."""
    program = "import os\nwhile True:\n    if os.fork(): os.wait()\n"
    with Cgroup.create("bomb", layout) as cgroup, subprocess.Popen([sys.executable, "-c", program]) as process:
        cgroup.set(Limits(pids_max=40))
        cgroup.add(process.pid)
        cgroup.kill()
        assert process.wait(timeout=10) == -signal.SIGKILL
        assert cgroup.processes() == ()
        cgroup.remove()


def test_a_threaded_cgroup_is_killed_too(hierarchy: Mount, sleeper: subprocess.Popen[bytes]) -> None:
    """The kernel lists no processes of it and takes no cgroup.kill: who has a thread in it is found, and killed."""
    hierarchy("v2")
    with Cgroup.create("domain", controllers=[]) as domain, domain.child("threads", controllers=[]) as threads:
        domain.add(sleeper.pid)
        threads.make_threaded()
        threads.add_thread(sleeper.pid)
        with pytest.raises(OSError, match="not supported"):
            threads.processes()
        assert all_processes(threads.directory) == all_processes(domain.directory) == (sleeper.pid,)
        threads.kill()
        assert sleeper.wait(timeout=10) == -signal.SIGKILL
        domain.remove()


def test_a_tree_is_removed_from_below(layout: Layout) -> None:
    """Cgroups below go first."""
    with Cgroup.create("a/b/c", layout) as deep, Cgroup.open("a", layout) as top:
        assert top.children() == ("b",)
        top.remove()
        assert not deep.exists()
    assert not any(Path(hierarchy.mount_point, "a").exists() for hierarchy in layout.hierarchies)


def test_a_failed_making_leaves_nothing(hierarchy: Mount) -> None:
    """A cgroup above that holds processes may give no controllers on: an error that says what helps, nothing made."""
    top = hierarchy("v2")
    layout = read_layout()
    with Cgroup.create("busy", layout, controllers=["pids"]) as busy:
        busy.add(0)
        before = (top / "cgroup.subtree_control").read_text()
        with pytest.raises(OSError, match="busy") as refused:
            Cgroup.create("busy/below", layout, controllers=["memory", "pids"])
        assert refused.value.errno == errno.EBUSY
        assert any("move them into a cgroup below it" in note for note in refused.value.__notes__)
        assert (top / "cgroup.subtree_control").read_text() == before
        assert not (top / "busy/below").exists()
        with Cgroup.open("/", layout) as root:
            root.add(0)
        busy.remove()


def test_memory_limits_are_told_as_the_kernel_keeps_them(hierarchy: Mount) -> None:
    """A limit is cut to whole pages; one below usage is refused with nothing written."""
    top = hierarchy("v2")
    with Cgroup.create("limited", read_layout(), controllers=["memory"]) as cgroup:
        (applied,) = cgroup.set(Limits(memory_max_bytes=(1 << 26) + 1))
        assert (applied.write.value, applied.effective) == ("67108865", "67108864\n")
        file = top / "limited/memory.max"
        cgroup.add(0)
        blob = bytearray(os.urandom(1)) * (4 << 20)
        with pytest.raises(BelowUsageError, match="below the usage"):
            cgroup.set(Limits(memory_max_bytes=4096))
        assert file.read_text() == "67108864\n"
        assert len(blob) == 4 << 20
        with Cgroup.open("/", read_layout()) as root:
            root.add(0)
        cgroup.remove()


def test_quotas_to_the_end_of_what_the_kernel_takes(layout: Layout) -> None:
    """The most that is taken here is taken by the kernel too; what a set burst forbids is told by its file."""
    most = (1 << 44) - 1
    with Cgroup.create("limited", layout, controllers=["cpu"]) as cgroup:
        cgroup.set(Limits(cpu_quota_microseconds=most))
        cgroup.set(Limits(cpu_quota_microseconds=-1))
        with pytest.raises(LimitError, match=str(most)):
            cgroup.set(Limits(cpu_quota_microseconds=most + 1))
        if not any("burst" in name for name in cgroup.directory_of("cpu").files()):
            return  # before Linux 5.14
        cgroup.set(Limits(cpu_quota_microseconds=50_000, cpu_burst_microseconds=50_000))
        with pytest.raises(LimitError, match=r"at least the burst of 50000 in cpu\..*burst"):
            cgroup.set(Limits(cpu_quota_microseconds=20_000))
        cgroup.set(Limits(cpu_quota_microseconds=20_000, cpu_burst_microseconds=20_000))
        with pytest.raises(LimitError, match=r"the quota of 20000 in cpu\..*: set cpu_quota_microseconds too"):
            cgroup.set(Limits(cpu_burst_microseconds=30_000))
        cgroup.set(Limits(cpu_quota_microseconds=50_000, cpu_burst_microseconds=50_000))


def _remove_files_too(cgroup: Cgroup) -> None:
    shutil.rmtree(cgroup.directory.path)


@pytest.mark.rule("C9", ours=lambda cgroup: cgroup.remove(0.1), wrong=_remove_files_too, raises=OSError)
def test_a_removal_that_fails_names_who_is_inside(
    subject: Callable[[Cgroup], None], hierarchy: Mount, sleeper: subprocess.Popen[bytes]
) -> None:
    """The error has the process, its state and its name."""
    hierarchy("v2")
    with Cgroup.create("box", read_layout()) as cgroup:
        cgroup.add(sleeper.pid)
        with pytest.raises(StillBusyError) as busy:
            subject(cgroup)
        ((pid, state, name),) = busy.value.holders
        assert (pid, state) == (sleeper.pid, "S")
        assert name.startswith("python")


def test_names_that_lead_out(layout: Layout) -> None:
    """`..` is refused before the kernel is asked, and a missing controller is named."""
    for name in ("../x", "a/../b", "a//b", "."):
        with pytest.raises(LimitError):
            Cgroup.create(name, layout)
    with pytest.raises((NoControllerError, OSError)):
        Cgroup.create("x", layout, controllers=["nothing"])
    assert not any(Path(hierarchy.mount_point, "x").exists() for hierarchy in layout.hierarchies)


def test_own_cgroup(layout: Layout) -> None:
    """The cgroup of a process is found, in every hierarchy."""
    with Cgroup.create("mine", layout) as made:
        made.add(0)
        with Cgroup.of_process("self", layout) as found:
            assert found.name == "/mine"
            assert len(found.places) == len(layout.hierarchies)
            assert os.getpid() in found.processes()
        with Cgroup.open("/", layout) as root:
            root.add(0)
        made.remove()


def test_later_one_of_its_name_stays(layout: Layout) -> None:
    """What somebody removed and made anew is not the old one's to remove, in any hierarchy."""
    tops = [Path(hierarchy.mount_point) for hierarchy in layout.hierarchies]
    with Cgroup.create("web/worker", layout) as old:
        for top in tops:
            (top / "web/worker").rmdir()
            (top / "web/worker").mkdir()
        old.remove()
        assert all((top / "web/worker").is_dir() for top in tops)
    with Cgroup.open("web", layout) as web:
        web.remove()
    assert not any((top / "web").exists() for top in tops)


def test_half_a_path_is_unmade(hierarchy: Mount) -> None:
    """Of a path that a limit of depth cuts short nothing is left: no cgroup, no controller, no descriptor."""
    top = hierarchy("v2")
    with Cgroup.create("box", read_layout(), controllers=()) as box:
        (top / "box/cgroup.max.depth").write_text("1")
        (top / "cgroup.subtree_control").write_text("+pids")
        held = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="Resource temporarily unavailable") as refused:
            Cgroup.create("box/a/b", read_layout(), controllers=("pids",))
        assert refused.value.errno == errno.EAGAIN
        assert refused.value.filename == f"{top}/box/a/b"
        assert os.listdir("/proc/self/fd") == held
        assert box.children() == ()
        assert (top / "box/cgroup.subtree_control").read_text().strip() == ""
        assert (top / "cgroup.subtree_control").read_text() == "pids\n"
        box.remove()
