"""Version 1: the program that runs when a cgroup has emptied; acted on by impl.cgroups, seen by what it writes."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import DEADLINE_SECONDS, run_inside
from kernelproof.impl.cgroups.ending import remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.cgroups.conftest import MakeV1


class Told(Protocol):
    def __call__(self) -> str: ...


@pytest.fixture
def told(make_v1: MakeV1, tmp_path: Path) -> Iterator[Told]:
    """Make a program the agent of the hierarchy; return the argument that it is run with next."""
    pipe, program = tmp_path / "pipe", tmp_path / "agent"
    os.mkfifo(pipe)
    program.write_text(f'#!/bin/sh\necho "$#:$1" > {pipe}\n')
    program.chmod(0o755)
    make_v1("").write("release_agent", str(program))
    fd = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)

    def wait() -> str:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(DEADLINE_SECONDS * 1000) != [], "the agent did not run"
        return os.read(fd, 4096).decode()

    yield wait
    os.close(fd)


@behaviour("cgroup-v1.release.agent-runs", subject="impl")
def test_the_last_one_leaves(make_v1: MakeV1, told: Told) -> None:
    """The agent runs, and its only argument is the path from the root of the hierarchy."""
    group = make_v1("outer/group")
    group.write("notify_on_release", "1")
    assert run_inside(group, lambda: None) == 0
    assert told() == "1:/outer/group\n"


@behaviour("cgroup-v1.release.rmdir-of-last-child", subject="impl")
def test_the_last_child_goes(make_v1: MakeV1, told: Told) -> None:
    """The agent runs for the cgroup that it was in."""
    parent = make_v1("parent")
    make_v1("parent/child")
    parent.write("notify_on_release", "1")
    remove(parent, "child")
    assert told() == "1:/parent\n"


@behaviour("cgroup-v1.release.zero-is-silent", subject="impl")
def test_without_notification(make_v1: MakeV1, told: Told) -> None:
    """Of two cgroups that empty the agent runs for the one that asks for it."""
    silent, loud = make_v1("silent"), make_v1("loud")
    loud.write("notify_on_release", "1")
    for group in (silent, loud):
        assert run_inside(group, lambda: None) == 0
    assert told() == "1:/loud\n"


@behaviour("cgroup-v1.release.inherited", subject="impl")
@pytest.mark.parametrize("value", ["0", "1"])
def test_a_new_cgroup_does_as_its_parent(make_v1: MakeV1, value: str) -> None:
    """It has the same notify_on_release."""
    make_v1("parent").write("notify_on_release", value)
    assert Path(make_v1("parent/child").path, "notify_on_release").read_text() == f"{value}\n"


@behaviour("cgroup-v1.release.root-zero", subject="impl")
def test_a_new_hierarchy_is_silent(make_v1: MakeV1) -> None:
    """notify_on_release of its root is 0."""
    assert Path(make_v1("").path, "notify_on_release").read_text() == "0\n"


@behaviour("cgroup-v1.release.agent-empty-default", subject="impl")
def test_a_new_hierarchy_has_no_agent(make_v1: MakeV1) -> None:
    """release_agent is empty but for the end of its line."""
    assert Path(make_v1("").path, "release_agent").read_text().strip() == ""


@behaviour("cgroup-v1.release.mount-option", subject="impl")
def test_an_agent_from_the_beginning(make_v1: MakeV1) -> None:
    """The option of the mount is in the file."""
    root = make_v1("", "none,name=tried,release_agent=/bin/agent")
    assert Path(root.path, "release_agent").read_text() == "/bin/agent\n"
