"""What is done of a container's limits while its process is at work, and that the rest does not depend on it."""

from __future__ import annotations

import errno
import os

import pytest

from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.devices import attaching
from kernelproof.impl.libcontainer import limiting
from kernelproof.impl.libcontainer.config.resources import DeviceRule, Memory, Resources
from kernelproof.impl.libcontainer.controlgroups import SetLimits
from kernelproof.impl.libcontainer.operations import Site

RESOURCES = Resources(devices=(DeviceRule(allow=True, type="c", major=1, minor=3, access="r"),))


def open_null() -> int:
    """A descriptor in the place of a program's."""
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def is_open(fd: int) -> bool:
    """Whether it is one of this process."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_only_version_2_has_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no rules, or a file takes them, nothing is loaded."""
    asked: list[object] = []
    monkeypatch.setattr(attaching, "load_rules", asked.append)
    assert limiting.prepare_limits(Resources(memory=Memory(limit=1 << 20)), 2) is None
    assert limiting.prepare_limits(RESOURCES, 1) is None
    assert asked == []
    monkeypatch.setattr(attaching, "load_rules", lambda rules: len(rules))
    assert limiting.prepare_limits(RESOURCES, 2) == len(limiting.device_rules(RESOURCES))


def test_what_is_refused_is_told_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the kernel is met again by the operation itself, which says which one it is."""

    def refuse(rules: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(attaching, "load_rules", refuse)
    assert limiting.prepare_limits(RESOURCES, 2) is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_program_is_closed_whatever_happens(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed on once, and is no descriptor of the site any more."""
    cgroup = object.__new__(Cgroup)
    monkeypatch.setattr(Cgroup, "version", 2)
    fd = open_null()
    given: list[int | None] = []

    def set_limits(one: Cgroup, resources: Resources, *, loaded: int | None) -> None:
        given.append(loaded)
        assert loaded is not None
        assert is_open(loaded)
        if fails:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(limiting, "prepare_limits", lambda resources, version: fd)
    monkeypatch.setattr(limiting, "set_limits", set_limits)
    site = Site()
    site.found["cgroup"] = cgroup
    operation = SetLimits(RESOURCES)
    operation.prepare(site)
    assert fd in site.descriptors.values()
    if fails:
        with pytest.raises(OSError, match="Invalid argument"):
            operation.do(site)
    else:
        operation.do(site)
    assert (given, site.descriptors, is_open(fd)) == ([fd], {}, False)


def test_a_site_that_is_given_up_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process dies before the limits' turn."""
    fd = open_null()
    monkeypatch.setattr(Cgroup, "version", 2)
    monkeypatch.setattr(limiting, "prepare_limits", lambda resources, version: fd)
    site = Site()
    site.found["cgroup"] = object.__new__(Cgroup)
    SetLimits(RESOURCES).prepare(site)
    site.close()
    assert not is_open(fd)
