"""Rules about devices on a real kernel, seen from a process inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import Cgroup, read_layout
from kernelproof.impl.cgroups.devices.attaching import read_programs, set_devices
from kernelproof.impl.cgroups.devices.rules import DeviceRule

pytestmark = pytest.mark.machine

_PROBE = """
import json, os, sys
cgroups, paths = json.loads(sys.argv[1])
for cgroup in cgroups:
    with open(cgroup, "w") as file:
        file.write("0")
answers = []
for path, flags in paths:
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        answers.append(error.errno)
    else:
        answers.append(0)
print(json.dumps(answers))
"""


def opened_inside(cgroup: Cgroup, *wanted: tuple[str, int]) -> list[int]:
    files = [os.path.join(place.directory.path, "cgroup.procs") for place in cgroup.places]
    command = [sys.executable, "-I", "-S", "-c", _PROBE, json.dumps([files, wanted])]
    return list(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout))


ASKED = (("/dev/null", os.O_RDONLY), ("/dev/null", os.O_WRONLY), ("/dev/zero", os.O_RDONLY), ("/dev/full", os.O_RDONLY))


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_rules_hold_and_are_replaced(hierarchy: Callable[..., Path], version: str) -> None:
    """A process opens what the rules allow and gets EPERM for the rest; new rules take the old ones' place."""
    hierarchy(*(("v1", "devices") if version == "v1" else ("v2",)))
    with Cgroup.create("box", read_layout()) as cgroup:
        set_devices(cgroup.directory, [DeviceRule.parse("c 1:3 r"), DeviceRule.parse("c 1:5 rwm")])
        assert opened_inside(cgroup, *ASKED) == [0, 1, 0, 1]
        set_devices(cgroup.directory, [DeviceRule.parse("c 1:3 rw"), DeviceRule.parse("c 1:7 r")])
        assert opened_inside(cgroup, *ASKED) == [0, 0, 1, 0]
        if version == "v2":
            (attached,) = read_programs(cgroup.directory)
            assert attached.name == "kp_devices"
            assert len(attached.instructions) > 10
        set_devices(cgroup.directory, [DeviceRule.parse("a")])
        assert opened_inside(cgroup, *ASKED) == [0, 0, 0, 0]
        cgroup.remove()


def test_five_hundred_rules_load(hierarchy: Callable[..., Path]) -> None:
    """The verifier takes a program of 500 rules, and the last one is asked."""
    hierarchy("v2")
    with Cgroup.create("box", read_layout()) as cgroup:
        rules = [DeviceRule("c", major, minor, "rw") for major in range(2, 27) for minor in range(20)]
        set_devices(cgroup.directory, [*rules, DeviceRule.parse("c 1:3 r")])
        assert opened_inside(cgroup, *ASKED) == [0, 1, 1, 1]
        cgroup.remove()
