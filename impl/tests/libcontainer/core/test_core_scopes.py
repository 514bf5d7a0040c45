"""Scopes of systemd, planned without systemd: names, and what takes the place of the cgroup's operations."""

from __future__ import annotations

import errno
import os

import pytest

from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.libcontainer import Host, Request, plan_container
from kernelproof.impl.libcontainer.config.records import Config, Memory, Resources
from kernelproof.impl.libcontainer.controlgroups import EnterCgroup
from kernelproof.impl.libcontainer.executing import EnterCgroupOf
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.scopes import (
    EnterScope,
    SetScopeLimits,
    scope_limits,
    scope_name,
    split_scope,
)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (None, ("system.slice", "nsinit-box.scope")),
        ("work-web.slice:web:a", ("work-web.slice", "web-a.scope")),
        ("::a", ("system.slice", "a.scope")),
    ],
)
def test_names(path: str | None, names: tuple[str, str]) -> None:
    """cgroupsPath is slice:prefix:name, each but the last with a default."""
    assert scope_name(path, "box", is_user=False) == names


@pytest.mark.parametrize("path", ["", "/a/b", "a.slice:b", "a:b:c", "a--b.slice:x:y", "a.slice:x:", "a.slice:x:/"])
def test_what_is_no_name(path: str) -> None:
    """Another form, a slice that is none and a name that no unit can have are refused before anything is touched."""
    with pytest.raises(ValueError, match=r"slice:prefix:name|unit name|slice"):
        scope_name(path, "box", is_user=False)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("system.slice/web-a.scope", ("web-a.scope", "")),
        ("/user.slice/user@1.service/work.slice/a.scope/", ("a.scope", "")),
        ("a.scope/inner/x.scope", ("a.scope", "/inner/x.scope")),
    ],
)
def test_the_scope_of_a_cgroup(name: str, parts: tuple[str, str]) -> None:
    """The first scope on the way is the unit; what is below it was delegated."""
    assert split_scope(name) == parts
    with pytest.raises(ValueError, match="in no scope"):
        split_scope("system.slice/a.service")


def test_a_process_is_moved_by_systemd_where_the_caller_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """EACCES of a scope's cgroup is systemd's to settle; of another cgroup, and other errors, it is the error."""
    asked: list[tuple[object, ...]] = []
    names = {"cgroup": "user.slice/web-a.scope/inner"}

    def refuse(self: object, site: Site) -> None:
        raise PermissionError(errno.EACCES, "no", "cgroup.procs")

    def attach(name: str, pid: int, *, is_user: bool) -> None:
        asked.append((name, pid, is_user))

    class Found:
        @property
        def name(self) -> str:
            return names["cgroup"]

    monkeypatch.setattr(EnterCgroup, "do", refuse)
    monkeypatch.setattr("kernelproof.impl.libcontainer.scopes.attach", attach)
    monkeypatch.setattr("kernelproof.impl.libcontainer.executing.open_cgroup", lambda site: Found())
    site = Site()
    site.found["pid"] = 7
    EnterCgroupOf(1).do(site)
    assert asked == [("user.slice/web-a.scope/inner", 7, os.geteuid() != 0)]
    names["cgroup"] = "box"
    with pytest.raises(PermissionError):
        EnterCgroupOf(1).do(site)


def test_the_plan() -> None:
    """With systemd no cgroup is made before the process, and the limits go to both; disabled, there is neither."""
    config = Config.minimal("rootfs", ["true"])
    config = config.replace(linux=config.linux.replace(resources=Resources(memory=Memory(limit=1 << 20))))

    def kinds(manager: str) -> list[str]:
        plan = plan_container(config, Host(), Request("box", "/b", cgroup_manager=manager))
        words = ("group", "Limits", "Scope", "Cpus")
        return [type(one).__name__ for one in plan if any(word in type(one).__name__ for word in words)]

    assert kinds("cgroupfs") == ["MakeCgroup", "EnterCgroup", "UseAllCpus", "SetLimits"]
    assert kinds("systemd") == [EnterScope.__name__, "UseAllCpus", SetScopeLimits.__name__]
    assert kinds("disabled") == []


def test_systemd_and_the_files_get_the_same() -> None:
    """Whole percents of a CPU in both; a quota alone is one of the period that is set, and raw keys are told too."""
    asked = Limits(cpu_quota_microseconds=12_345)
    assert scope_limits(asked, "max 50000") == Limits(cpu_quota_microseconds=12_500, cpu_period_microseconds=50_000)
    assert scope_limits(asked, None) == Limits(cpu_quota_microseconds=13_000)
    asked = Limits(cpu_period_microseconds=20_000)
    assert scope_limits(asked, "10000 100000") == asked._replace(cpu_quota_microseconds=10_000)
    assert scope_limits(asked, "max 100000") == asked._replace(cpu_quota_microseconds=-1)
    raw = {"cpu.max": "1234 10000", "memory.high": "max", "memory.max": "8192", "cpu.weight": "7", "pids.max": "3"}
    left = {"memory.oom.group": "1", "memory.low": "8k", "io.max": "8:0 rbps=1", "memory.swap.max": ""}
    found = scope_limits(Limits(memory_max_bytes=4096, unified=raw | left), "max 100000")
    assert found == Limits(
        cpu_quota_microseconds=1300, cpu_period_microseconds=10_000, memory_high_bytes=-1, memory_max_bytes=8192,
        cpu_weight=7, pids_max=3, unified=left,
    )  # fmt: skip
