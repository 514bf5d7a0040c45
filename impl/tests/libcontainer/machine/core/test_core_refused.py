"""What a configuration asks and a host has not is told to who starts the container, with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import PIPE, Request, Runtime, lifecycle, running
from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.security.landlock import NEWEST, read_abi

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def policy() -> Landlock:
    """A policy that this kernel can't do all of, and that takes what there is."""
    if read_abi() >= NEWEST:
        pytest.skip("not applicable: this kernel can do all that a policy can ask")
    return Landlock(abi=NEWEST, strict=False, paths=(LandlockPath("/", ("execute", "read_file", "read_dir")),))


def test_who_starts_it_is_told(bundle: Any, cgroup2: Path, policy: Landlock) -> None:
    """start and run return what a best effort can't do here, each as a sentence."""
    config = bundle.config("true").replace(landlock=policy)
    text = dump(config, own=True).encode()
    states, request = str(bundle.states), Request("box", str(bundle.path))
    started = lifecycle.create(states, config, request, config_text=text)
    told = lifecycle.start(states, "box")
    assert told
    assert all(sentence.startswith("Landlock: ") for sentence in told)
    os.close(started.pidfd)
    assert running.await_end(started) == 0
    lifecycle.delete(states, "box")
    ran = lifecycle.run(states, config, Request("box", str(bundle.path), waits=False), config_text=text)
    assert ran.refused == told
    os.close(ran.pidfd)
    assert running.await_end(ran) == 0
    lifecycle.delete(states, "box")


def test_the_library_tells_it(bundle: Any, cgroup2: Path, policy: Landlock) -> None:
    """A process of the library has the sentences, the container's first one and that of an exec."""
    config = bundle.config("sleep", "1000").replace(landlock=policy)
    with Runtime(bundle.states) as runtime, runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
        assert container.process is not None
        before = container.process.refused
        container.start()
        told = container.process.refused
        assert (before, bool(told)) == ((), True)
        with container.exec(["true"]) as process:
            assert process.refused == told
            assert process.wait(20) == 0
    with Runtime(bundle.states) as runtime, runtime.create("box", bundle.config("true"), bundle=bundle.path) as plain:
        plain.start()
        assert plain.process is not None
        assert plain.process.refused == ()
