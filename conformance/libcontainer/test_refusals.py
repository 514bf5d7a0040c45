"""Operations at a moment that is none for them: on no container, a stopped one, a running one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@pytest.mark.parametrize(
    "operation",
    [
        behaviour_row("oci.state.unknown", lambda box: box.state("nobody")),
        behaviour_row("oci.start.unknown", lambda box: box.start("nobody")),
        behaviour_row("oci.kill.unknown", lambda box: box.kill(id="nobody")),
        behaviour_row("oci.exec.unknown", lambda box: box.execute(["true"], "nobody")),
        behaviour_row("oci.pause.unknown", lambda box: box.pause("nobody")),
        behaviour_row("oci.update.unknown", lambda box: box.command("update", "--pids-limit", "10", "nobody")),
        behaviour_row("oci.delete.unknown", lambda box: box.delete("nobody")),
    ],
)
def test_unknown_container(box: Box, seen: Seen, operation: Callable[[Box], object]) -> None:
    """The operation on a container that does not exist is an error."""
    assert seen(box.does(lambda: operation(box))) == REFUSED


@pytest.mark.parametrize(
    "operation",
    [
        behaviour_row("oci.create.id-taken-by-stopped", lambda box: box.create(config("true"))),
        behaviour_row("oci.start.stopped", lambda box: box.start()),
        behaviour_row("oci.kill.stopped", lambda box: box.kill()),
        behaviour_row("oci.exec.stopped", lambda box: box.execute(["true"])),
        behaviour_row("oci.pause.stopped", lambda box: box.pause()),
        behaviour_row("oci.resume.stopped", lambda box: box.resume()),
    ],
)
def test_stopped_container(box: Box, seen: Seen, operation: Callable[[Box], object]) -> None:
    """The operation on a container whose program has ended, create with its ID too, is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(lambda: operation(box))
    box.delete()
    assert seen(answer) == REFUSED


@pytest.mark.parametrize(
    "operation",
    [
        behaviour_row("oci.create.id-taken", lambda box: box.create(config("true"))),
        behaviour_row("oci.start.started", lambda box: box.start()),
        behaviour_row("oci.kill.unknown-signal", lambda box: box.kill("UNHEARD")),
        behaviour_row("oci.delete.running", lambda box: box.delete()),
    ],
)
def test_running_container(box: Box, seen: Seen, operation: Callable[[Box], object]) -> None:
    """The operation on a running container, create with its ID too, is an error, and the container goes on."""
    pid = box.begin(config("sleep", "1000"))
    answer = box.does(lambda: operation(box))
    found = (answer, box.status(), box.pid() == pid)
    box.delete(force=True)
    assert seen(found) == (REFUSED, "running", True)


@pytest.mark.parametrize(
    "operation",
    [
        behaviour_row("oci.exec.paused", lambda box: box.execute(["true"])),
        behaviour_row("oci.delete.paused", lambda box: box.delete()),
    ],
)
def test_paused_container(box: Box, seen: Seen, operation: Callable[[Box], object]) -> None:
    """The operation on a paused container is an error."""
    box.begin(config("sleep", "1000"))
    box.pause()
    answer = box.does(lambda: operation(box))
    box.delete(force=True)
    assert seen(answer) == REFUSED


@pytest.mark.parametrize(
    "id",
    [
        behaviour_row("oci.create.id-empty", ""),
        behaviour_row("oci.create.id-climbs", "../box"),
        behaviour_row("oci.create.id-slash", "a/b"),
    ],
)
def test_id_that_is_none(box: Box, seen: Seen, id: str) -> None:
    """create with an ID that names no file of the root directory is an error."""
    assert seen(box.does(lambda: box.create(config("true"), id))) == REFUSED


@pytest.mark.parametrize(
    ("program", "members"),
    [
        behaviour_row("oci.start.no-process", "true", ["process"]),
        behaviour_row("oci.process.args-missing", "no-such-program", []),
    ],
)
def test_nothing_to_run(box: Box, seen: Seen, program: str, members: list[str]) -> None:
    """A container without a process, or whose program is nowhere in it, is not started."""
    wanted = config(program)
    for member in members:
        del wanted[member]

    def begin() -> None:
        box.create(wanted)
        box.start()

    assert seen(box.does(begin)) == REFUSED


@behaviour("oci.create.config-missing")
def test_config_is_missing(box: Box, seen: Seen) -> None:
    """create of a bundle without config.json is an error."""
    (box.bundle / "config.json").mkdir()
    answer = box.does(lambda: box.command("create", "--bundle", str(box.bundle), "box"))
    assert seen(answer) == REFUSED
