"""Facts of a host, read from folders that stand for its file systems; and what is measured, in the engines' form."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.cgroups.controllers.cpu import CpuStats
from kernelproof.impl.cgroups.stats import Stats
from kernelproof.impl.libcontainer.config.legacy_writing import to_legacy
from kernelproof.impl.libcontainer.config.records import Config, Root
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.nsinit.measures import describe_stats


@pytest.mark.parametrize(
    ("files", "version"),
    [
        (("cgroup.controllers", "cgroup.procs"), 2),
        (("unified/cgroup.procs", "memory/cgroup.procs"), 1),
        (("memory/notes",), 0),
        ((), 0),
    ],
    ids=["unified", "version 1", "other folders", "empty"],
)
def test_version_of_cgroups(tmp_path: Path, files: tuple[str, ...], version: int) -> None:
    """Version 2 has cgroup.controllers at its top, version 1 a folder that is a hierarchy; else nothing is mounted."""
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert read_host(cgroups=str(tmp_path)).cgroup_version == version
    assert read_host(cgroups=str(tmp_path / "missing")).cgroup_version == 0


def test_security_modules(tmp_path: Path) -> None:
    """Where securityfs is mounted its list counts; elsewhere no module is found that this host does not show."""
    (tmp_path / "lsm").write_text("lockdown,capability,landlock\n")
    assert read_host(security=str(tmp_path)).security_modules == ("lockdown", "capability", "landlock")
    shown = {
        "selinux": Path("/sys/fs/selinux/enforce").exists(),
        "apparmor": Path("/sys/module/apparmor/parameters/enabled").exists(),
    }
    found = read_host(security=str(tmp_path / "missing")).security_modules
    assert ("selinux" in found) == shown["selinux"]
    assert shown["apparmor"] or "apparmor" not in found


def test_what_was_not_measured_is_nothing() -> None:
    """Times that the kernel does not tell are 0 nanoseconds, those that it tells a thousand times its microseconds."""
    bare = describe_stats(Stats(CpuStats(7, None, None, None, None, None), None, None, (), None, (), (), (), {}))["cpu"]
    assert bare == {
        "usage": {"total": 7000, "percpu": [], "kernel": 0, "user": 0},
        "throttling": {"periods": 0, "throttledPeriods": 0, "throttledTime": 0},
    }


def test_folder_of_2014_has_no_name_of_its_root() -> None:
    """A root that is the folder itself is not written, nor one that is not there; any other is."""
    without = to_legacy(Config("1.0.2"))
    assert to_legacy(Config("1.0.2", Root("."))) == without
    assert to_legacy(Config("1.0.2", Root("/r"))) != without
