"""Version 2, devices: rules as a program that is attached to a cgroup; acted on by impl.cgroups."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import run_inside
from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups.devices.attaching import read_programs, set_devices
from kernelproof.impl.cgroups.devices.rules import DeviceRule

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

NULL = os.makedev(1, 3)


def opened(directory: Directory, seen: Seen, *flags: int) -> list[str]:
    """What /dev/null says to a process that moves into a cgroup: called in a child."""
    directory.write("cgroup.procs", "0")
    return [seen.errno_of(os.open, "/dev/null", flag) for flag in flags]


@behaviour("cgroup-v2.device.no-files", subject="impl")
def test_devices_have_no_files(unified: Path, make: Make) -> None:
    """Neither the root nor a child has one."""
    make("child")
    names = [path.name for place in (unified, unified / "child") for path in place.iterdir()]
    assert [name for name in names if name.startswith("devices.")] == []


@behaviour("cgroup-v2.device.deny-eperm", subject="impl")
def test_no_device_at_all(make: Make, tmp_path: Path, in_child: InChild, seen: Seen) -> None:
    """Where no rule allows anything, opening and making one are refused."""
    child = make("child")
    set_devices(child, ())

    def attempt() -> list[str]:
        answers = opened(child, seen, os.O_RDONLY, os.O_RDWR)
        return [*answers, seen.errno_of(os.mknod, tmp_path / "null", stat.S_IFCHR | 0o600, NULL)]

    assert seen(in_child(attempt)) == ["EPERM"] * 3
    assert not (tmp_path / "null").exists()


@behaviour("cgroup-v2.device.regular-file-unaffected", subject="impl")
def test_files_are_no_devices(make: Make, tmp_path: Path) -> None:
    """Where no device can be opened files can."""
    child = make("child")
    set_devices(child, ())
    assert run_inside(child, lambda: (tmp_path / "file").write_text("x")) == 0
    assert (tmp_path / "file").read_text() == "x"


@behaviour("cgroup-v2.device.detach-restores", subject="impl")
def test_without_a_program_all_is_as_before(make: Make, in_child: InChild, seen: Seen) -> None:
    """When it is detached devices can be opened again."""
    child = make("child")
    set_devices(child, ())
    before = in_child(lambda: opened(child, seen, os.O_RDWR))
    for attached in read_programs(child):
        fd = bpf.open_program(attached.id)
        bpf.detach_program(child.fileno(), fd, bpf.AttachType.DEVICE)
        os.close(fd)
    after = in_child(lambda: opened(child, seen, os.O_RDWR))
    assert (before, after) == (["EPERM"], ["no error"])


@behaviour("cgroup-v2.device.context", subject="impl")
def test_what_a_program_is_told(make: Make, in_child: InChild, seen: Seen) -> None:
    """One rule for reading one device: reading passes, writing does not, nor does another device."""
    child = make("child")
    set_devices(child, (DeviceRule("c", 1, 3, "r"),))

    def attempt() -> list[str]:
        answers = opened(child, seen, os.O_RDONLY, os.O_RDWR, os.O_WRONLY)
        return [*answers, seen.errno_of(os.open, "/dev/zero", os.O_RDONLY)]

    assert seen(in_child(attempt)) == ["no error", "EPERM", "EPERM", "EPERM"]
