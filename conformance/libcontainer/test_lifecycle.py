"""Operations of a container's life and their effects: create, start, kill, delete."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import ACCEPTED, REFUSED
from kernelproof.conformance.libcontainer.configs import DEV, PROC, bind, config, tmpfs
from kernelproof.conformance.libcontainer.hosting import readable

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.create.program-not-run")
def test_create_runs_no_program(box: Box, seen: Seen) -> None:
    """create makes a process in namespaces of its own, and does not run the program; start does."""
    box.create(config("touch", "/data/ran"))
    inside, outside = (os.stat(f"/proc/{pid}/ns/pid").st_ino for pid in (box.pid(), "self"))
    before = (box.rootfs / "data/ran").exists()
    box.start()
    box.wait()
    after = (box.rootfs / "data/ran").exists()
    box.delete(force=True)
    assert (inside != outside, after) == (True, True)
    assert seen(before) is False


@behaviour("oci.create.failing-leaves-nothing")
def test_failing_create_leaves_no_container(box: Box, seen: Seen) -> None:
    """A create that fails leaves no container."""
    assert box.answer(config("true", mounts=[bind("missing", "/data")])) == REFUSED
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.create.failing-leaves-no-mount")
def test_failing_create_leaves_no_mount(box: Box, seen: Seen) -> None:
    """A create that fails leaves the host's mounts as they were; with all of its sources it does not fail."""
    mounts = [PROC, DEV, tmpfs("/tmp"), bind("source", "/data")]
    before = Path("/proc/self/mountinfo").read_text()
    assert box.answer(config("true", mounts=mounts)) == REFUSED
    after = Path("/proc/self/mountinfo").read_text()
    (box.bundle / "source").mkdir()
    assert box.answer(config("true", mounts=mounts)) == ACCEPTED
    assert seen(after == before) is True


@behaviour("oci.create.later-changes")
def test_later_changes(box: Box, seen: Seen) -> None:
    """What changes in config.json after create has no effect on the container."""
    box.create(config("echo", "as created"))
    box.write(config("echo", "as changed"))
    box.start()
    box.wait()
    found = box.output()
    box.delete()
    assert seen(found) == "as created\n"


@behaviour("oci.start.runs-program")
def test_start_runs_program(box: Box, seen: Seen) -> None:
    """start runs the program that the configuration names."""
    box.create(config("echo", "run by start"))
    box.start()
    box.wait()
    found = box.output()
    box.delete()
    assert seen(found) == "run by start\n"


@behaviour("oci.kill.signal")
def test_kill_sends_signal(box: Box, seen: Seen) -> None:
    """kill sends the signal that it is given to the container's process."""
    os.mkfifo(box.rootfs / "data/ready")
    box.create(config("sh", "-c", "trap 'exit 7' USR1; echo ready > /data/ready; while true; do sleep 1; done"))
    ready = os.open(box.rootfs / "data/ready", os.O_RDONLY | os.O_NONBLOCK)
    box.start()
    assert readable(ready)
    box.kill(signal.SIGUSR1)
    found = box.wait()
    box.delete()
    assert seen(found) == 7


@behaviour("oci.kill.kills")
def test_kill_ends_container(box: Box, seen: Seen) -> None:
    """kill with SIGKILL ends a running container."""
    box.begin(config("sleep", "1000"))
    box.kill(signal.SIGKILL)
    found = (box.wait(), box.status())
    box.delete()
    assert seen(found) == (128 + signal.SIGKILL, "stopped")


@behaviour("oci.kill.created")
def test_kill_of_created(box: Box, seen: Seen) -> None:
    """kill reaches the process of a created container."""
    box.create(config("sleep", "1000"))
    box.kill(signal.SIGKILL)
    found = box.wait()
    box.delete(force=True)
    assert seen(found) == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    "word",
    [
        behaviour_row("oci.kill.by-name", "KILL"),
        behaviour_row("oci.kill.by-long-name", "SIGKILL"),
        behaviour_row("oci.kill.by-small-letters", "kill"),
        behaviour_row("oci.kill.by-number", "9"),
    ],
)
def test_kill_by_word(box: Box, seen: Seen, word: str) -> None:
    """kill takes a signal by this word."""
    box.begin(config("sleep", "1000"))
    box.kill(word)
    found = box.wait()
    box.delete()
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.delete.stopped")
def test_delete_of_stopped(box: Box, seen: Seen) -> None:
    """A stopped container that was deleted is gone."""
    box.begin(config("true"))
    box.wait()
    box.delete()
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.delete.id-again")
def test_id_again(box: Box, seen: Seen) -> None:
    """The ID of a deleted container can be used again."""
    box.said("true")
    assert seen(box.said("echo", "again")) == "again\n"


@behaviour("oci.delete.root-stays")
def test_root_stays(box: Box, seen: Seen) -> None:
    """delete leaves the root file system of the bundle, which create did not make."""
    box.said("touch", "/data/kept")
    assert seen((box.rootfs / "data/kept").exists()) is True


@behaviour("oci.delete.force-running")
def test_delete_by_force_of_running(box: Box, seen: Seen) -> None:
    """delete by force ends a running container and removes it."""
    box.begin(config("sleep", "1000"))
    box.delete(force=True)
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.delete.force-unknown")
def test_delete_by_force_of_unknown(box: Box, seen: Seen) -> None:
    """delete by force of a container that does not exist is no error, and touches no other; an existing one ends."""
    pid = box.begin(config("sleep", "1000"))
    answer = box.does(lambda: box.delete("nobody", force=True))
    others = (box.status(), box.pid() == pid)
    box.delete(force=True)
    assert (others, box.does(box.state)) == (("running", True), REFUSED)
    assert seen(answer) == ACCEPTED


@behaviour("oci.delete.namespaces")
def test_namespaces_end(box: Box, seen: Seen) -> None:
    """The namespaces of a deleted container end with it."""
    pid = box.begin(config("sleep", "1000"))
    box.delete(force=True)
    assert seen(os.path.exists(f"/proc/{pid}/ns/pid")) is False
