"""What happens to a container is told when it happens, on either version of cgroups, in the library and by nsinit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import Request, lifecycle, running
from kernelproof.impl.libcontainer.config.records import Memory, Resources
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.events import ENDED, OOM, OOM_KILL, PAUSED, RESUMED, Watch
from kernelproof.impl.tests.libcontainer.machine.nsinit.command import CODE

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]

GREEDY = ("sh", "-c", "(x=greedy; while :; do x=$x$x; done); exit 0")


def create(bundle: Any, *args: str) -> lifecycle.Started:
    """A container that may have 16 MiB of memory."""
    config = bundle.config(*args, resources=Resources(memory=Memory(limit=16 << 20, swap=16 << 20)))
    text = dump(config, own=True).encode()
    return lifecycle.create(str(bundle.states), config, Request("box", str(bundle.path)), config_text=text)


def end(started: lifecycle.Started) -> int:
    os.close(started.pidfd)
    return running.await_end(started)


def test_out_of_memory(bundle: Any, cgroups: str) -> None:
    """A process that takes more memory than the container may have is told, and the end is the last event."""
    started = create(bundle, *GREEDY)
    with Watch.open(started.state) as watch:
        lifecycle.start(str(bundle.states), "box")
        kinds = [event.kind for event in watch.events(60)]
    assert end(started) == 0
    assert kinds[-1] == ENDED
    assert OOM in kinds
    assert cgroups == "v1" or OOM_KILL in kinds
    lifecycle.delete(str(bundle.states), "box")


def test_a_pause(bundle: Any, cgroup2: Path) -> None:
    """A pause and its end are events, and a watch that begins after the container's end says only that."""
    started = create(bundle, "sleep", "1000")
    states = str(bundle.states)
    with Watch.open(started.state) as watch:
        lifecycle.start(states, "box")
        lifecycle.pause(states, "box")
        assert next(watch.events(60)).kind == PAUSED
        lifecycle.resume(states, "box")
        assert next(watch.events(60)).kind == RESUMED
    lifecycle.kill(states, "box", 9)
    assert end(started) == 137
    with Watch.open(started.state) as watch:
        assert [event.kind for event in watch.events(60)] == [ENDED]
    lifecycle.delete(states, "box")


def test_nsinit_prints_them(bundle: Any, cgroups: str) -> None:
    """`nsinit events` prints a measurement, then out of memory as engines know it, and ends with the container."""
    started = create(bundle, *GREEDY)
    words = [sys.executable, "-c", CODE, "--root", str(bundle.states), "events", "--interval", "1h", "box"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        lifecycle.start(str(bundle.states), "box")
        others = [json.loads(line) for line in watching.stdout]
    assert watching.returncode == 0
    assert end(started) == 0
    assert (first["type"], first["data"]["memory"]["usage"]["limit"]) == ("stats", 16 << 20)
    assert {"type": "oom", "id": "box"}.items() <= others[0].items()
    lifecycle.delete(str(bundle.states), "box")
