"""What `process` of a configuration makes of the container's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.process.cwd")
def test_cwd(box: Box, seen: Seen) -> None:
    """The program begins in `cwd`."""
    assert seen(box.said("pwd", process={"cwd": "/tmp"})) == "/tmp\n"


@behaviour("oci.process.cwd-relative")
def test_relative_cwd(box: Box, seen: Seen) -> None:
    """A `cwd` that is not absolute is refused."""
    assert seen(box.answer(config("true", process={"cwd": "tmp"}))) == "refused"


@behaviour("oci.state.pid-of-created")
def test_pid_of_created(box: Box, seen: Seen) -> None:
    """The state of a created container has the pid of its process, which lives and runs no program of the user's."""
    box.create(config("sleep", "1000"))
    with open(f"/proc/{box.pid()}/cmdline") as file:
        assert seen("sleep" in file.read()) is False
    box.delete(force=True)
