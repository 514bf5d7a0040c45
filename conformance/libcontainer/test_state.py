"""The state of a container: its members, and its status at every point of a life."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.configs import config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        behaviour_row("oci.state.id", "id", "box"),
        behaviour_row("oci.state.created", "status", "created"),
        behaviour_row("oci.state.annotations", "annotations", {"com.example.a": "b"}),
    ],
)
def test_state_of_created(box: Box, seen: Seen, member: str, value: str | Mapping[str, str]) -> None:
    """The state of a container that was created holds this."""
    box.create(config("sleep", "1000", annotations={"com.example.a": "b"}))
    found = box.state()[member]
    box.delete(force=True)
    assert seen(found) == value


@behaviour("oci.state.oci-version")
def test_version(box: Box, seen: Seen) -> None:
    """The state holds a version of the specification in SemVer's form."""
    box.create(config("sleep", "1000"))
    found = [part.isdigit() for part in box.state()["ociVersion"].partition("-")[0].partition("+")[0].split(".")]
    box.delete(force=True)
    assert seen(found) == [True, True, True]


@behaviour("oci.state.bundle")
def test_bundle(box: Box, seen: Seen) -> None:
    """The state holds the absolute path of the bundle."""
    box.create(config("sleep", "1000"))
    found = box.state()["bundle"] == str(box.bundle)
    box.delete(force=True)
    assert seen(found) is True


@behaviour("oci.state.running")
def test_status_of_running(box: Box, seen: Seen) -> None:
    """The status of a container that was started is running."""
    box.begin(config("sleep", "1000"))
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "running"


@behaviour("oci.state.stopped")
def test_status_of_stopped(box: Box, seen: Seen) -> None:
    """The status of a container whose program has ended is stopped."""
    box.begin(config("true"))
    box.wait()
    found = box.status()
    box.delete()
    assert seen(found) == "stopped"


@behaviour("oci.state.stopped-zombie")
def test_status_of_zombie(box: Box, seen: Seen) -> None:
    """The status of a container whose process has ended and was not waited for is stopped."""
    box.create(config("true"))
    pid = box.pid()
    box.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = box.status()
    box.wait()
    box.delete(force=True)
    assert seen(found) == "stopped"


@behaviour("oci.state.pid-of-created")
def test_pid_of_created(box: Box, seen: Seen) -> None:
    """The state of a created container holds the pid of a process that has not yet begun the user's program."""
    box.create(config("sleep", "1000"))
    found = Path(f"/proc/{box.pid()}/cmdline").read_text()
    box.delete(force=True)
    assert seen("sleep" in found) is False


@behaviour("oci.state.pid-of-running")
def test_pid_of_running(box: Box, seen: Seen) -> None:
    """The state of a running container holds the pid, as the host has it, of its program."""
    pid = box.begin(config("sleep", "1000"))
    found = Path(f"/proc/{pid}/cmdline").read_text()
    box.delete(force=True)
    assert seen(found.split("\0")) == ["sleep", "1000", ""]


@behaviour("oci.pause.status")
def test_status_of_paused(box: Box, seen: Seen) -> None:
    """The status of a paused container is paused."""
    box.begin(config("sleep", "1000"))
    box.pause()
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "paused"


@behaviour("oci.resume.status")
def test_status_of_resumed(box: Box, seen: Seen) -> None:
    """The status of a container that was paused and resumed is running."""
    box.begin(config("sleep", "1000"))
    box.pause()
    box.resume()
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "running"
