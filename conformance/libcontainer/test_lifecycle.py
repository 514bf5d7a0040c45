"""Operations of a container's life, their effects and their errors; its state."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import (
    ACCEPTED,
    PROC,
    REFUSED,
    bind,
    config,
    readable,
    tmpfs,
)

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.state.id")
def test_state_id(box: Box, seen: Seen) -> None:
    """The state holds the container's ID."""
    box.create(config("sleep", "1000"))
    found = box.state()["id"]
    box.delete(force=True)
    assert seen(found) == "box"


@behaviour("oci.state.oci-version")
def test_state_oci_version(box: Box, seen: Seen) -> None:
    """The state holds a version of the specification in SemVer's form."""
    box.create(config("sleep", "1000"))
    found = [part.isdigit() for part in box.state()["ociVersion"].partition("-")[0].partition("+")[0].split(".")]
    box.delete(force=True)
    assert seen(found) == [True, True, True]


@behaviour("oci.state.created")
def test_state_created(box: Box, seen: Seen) -> None:
    """The status of a container that was created is created."""
    box.create(config("sleep", "1000"))
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "created"


@behaviour("oci.state.running")
def test_state_running(box: Box, seen: Seen) -> None:
    """The status of a container that was started is running."""
    box.begin(config("sleep", "1000"))
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "running"


@behaviour("oci.state.stopped")
def test_state_stopped(box: Box, seen: Seen) -> None:
    """The status of a container whose program has ended is stopped."""
    box.begin(config("true"))
    box.wait()
    found = box.status()
    box.delete()
    assert seen(found) == "stopped"


@behaviour("oci.state.stopped-zombie")
def test_state_stopped_zombie(box: Box, seen: Seen) -> None:
    """The status of a container whose process has ended and was not waited for is stopped."""
    box.create(config("true"))
    pid = box.pid()
    box.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = box.status()
    box.wait()
    box.delete(force=True)
    assert seen(found) == "stopped"


@behaviour("oci.state.bundle")
def test_state_bundle(box: Box, seen: Seen) -> None:
    """The state holds the absolute path of the bundle."""
    box.create(config("sleep", "1000"))
    found = box.state()["bundle"] == str(box.bundle)
    box.delete(force=True)
    assert seen(found) is True


@behaviour("oci.state.annotations")
def test_state_annotations(box: Box, seen: Seen) -> None:
    """The state holds the annotations of the configuration."""
    box.create(config("sleep", "1000", annotations={"com.example.a": "b"}))
    found = box.state()["annotations"]
    box.delete(force=True)
    assert seen(found) == {"com.example.a": "b"}


@behaviour("oci.state.pid-of-created")
def test_state_pid_of_created(box: Box, seen: Seen) -> None:
    """The state of a created container holds the pid of a process that has not yet begun the user's program."""
    box.create(config("sleep", "1000"))
    with open(f"/proc/{box.pid()}/cmdline") as file:
        assert seen("sleep" in file.read()) is False
    box.delete(force=True)


@behaviour("oci.state.pid-of-running")
def test_state_pid_of_running(box: Box, seen: Seen) -> None:
    """The state of a running container holds the pid, as the host has it, of its program."""
    box.begin(config("sleep", "1000"))
    with open(f"/proc/{box.pid()}/cmdline") as file:
        found = file.read()
    box.delete(force=True)
    assert seen(found.split("\0")) == ["sleep", "1000", ""]


@behaviour("oci.state.unknown")
def test_state_unknown(box: Box, seen: Seen) -> None:
    """The state of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.state("nobody"))) == REFUSED


@behaviour("oci.create.program-not-run")
def test_create_program_not_run(box: Box, seen: Seen) -> None:
    """create does not run the program."""
    box.create(config("touch", "/data/ran"))
    found = (box.rootfs / "data/ran").exists()
    box.delete(force=True)
    assert seen(found) is False


@behaviour("oci.create.id-taken")
def test_create_id_taken(box: Box, seen: Seen) -> None:
    """create with an ID that is taken is an error, and the container that has it goes on."""
    pid = box.begin(config("sleep", "1000"))
    answer = box.does(lambda: box.create(config("true")))
    found = (answer, box.status(), box.pid() == pid)
    box.delete(force=True)
    assert seen(found) == (REFUSED, "running", True)


@behaviour("oci.create.id-taken-by-stopped")
def test_create_id_taken_by_stopped(box: Box, seen: Seen) -> None:
    """The ID of a stopped container is taken until it is deleted."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(lambda: box.create(config("true")))
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.create.id-empty")
def test_create_id_empty(box: Box, seen: Seen) -> None:
    """create with the ID "" is an error."""
    assert seen(box.does(lambda: box.create(config("true"), ""))) == REFUSED


@behaviour("oci.create.id-climbs")
def test_create_id_climbs(box: Box, seen: Seen) -> None:
    """create with the ID "../box" is an error."""
    assert seen(box.does(lambda: box.create(config("true"), "../box"))) == REFUSED


@behaviour("oci.create.id-slash")
def test_create_id_slash(box: Box, seen: Seen) -> None:
    """create with the ID "a/b" is an error."""
    assert seen(box.does(lambda: box.create(config("true"), "a/b"))) == REFUSED


@behaviour("oci.create.failing-leaves-nothing")
def test_create_failing_leaves_nothing(box: Box, seen: Seen) -> None:
    """A create that fails leaves no container."""
    box.answer(config("true", mounts=[bind("missing", "/data")]))
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.create.failing-leaves-no-mount")
def test_create_failing_leaves_no_mount(box: Box, seen: Seen) -> None:
    """A create that fails leaves the host's mounts as they were."""
    with open("/proc/self/mountinfo") as file:
        before = file.read()
    box.answer(config("true", mounts=[PROC, tmpfs("/tmp"), bind("missing", "/data")]))
    with open("/proc/self/mountinfo") as file:
        assert seen(file.read() == before) is True


@behaviour("oci.create.config-missing")
def test_create_config_missing(box: Box, seen: Seen) -> None:
    """create of a bundle without config.json is an error."""
    (box.bundle / "config.json").mkdir()
    answer = box.does(lambda: box.command("create", "--bundle", str(box.bundle), "box"))
    assert seen(answer) == REFUSED


@behaviour("oci.create.later-changes")
def test_create_later_changes(box: Box, seen: Seen) -> None:
    """What changes in config.json after create has no effect on the container."""
    box.create(config("echo", "as created"))
    box.write(config("echo", "as changed"))
    box.start()
    box.wait()
    found = box.output()
    box.delete()
    assert seen(found) == "as created\n"


@behaviour("oci.start.no-process")
def test_start_no_process(box: Box, seen: Seen) -> None:
    """A container without process is not started."""
    wanted = config("true")
    del wanted["process"]

    def begin() -> None:
        box.create(wanted)
        box.start()

    assert seen(box.does(begin)) == REFUSED


@behaviour("oci.start.runs-program")
def test_start_runs_program(box: Box, seen: Seen) -> None:
    """start runs the program that the configuration names."""
    box.create(config("echo", "run by start"))
    box.start()
    box.wait()
    found = box.output()
    box.delete()
    assert seen(found) == "run by start\n"


@behaviour("oci.start.unknown")
def test_start_unknown(box: Box, seen: Seen) -> None:
    """start of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.start("nobody"))) == REFUSED


@behaviour("oci.start.started")
def test_start_started(box: Box, seen: Seen) -> None:
    """start of a running container is an error, and it goes on."""
    pid = box.begin(config("sleep", "1000"))
    answer = box.does(box.start)
    found = (answer, box.status(), box.pid() == pid)
    box.delete(force=True)
    assert seen(found) == (REFUSED, "running", True)


@behaviour("oci.start.stopped")
def test_start_stopped(box: Box, seen: Seen) -> None:
    """start of a stopped container is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(box.start)
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.kill.signal")
def test_kill_signal(box: Box, seen: Seen) -> None:
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
def test_kill_kills(box: Box, seen: Seen) -> None:
    """kill with SIGKILL ends a running container."""
    box.begin(config("sleep", "1000"))
    box.kill(signal.SIGKILL)
    found = (box.wait(), box.status())
    box.delete()
    assert seen(found) == (128 + signal.SIGKILL, "stopped")


@behaviour("oci.kill.created")
def test_kill_created(box: Box, seen: Seen) -> None:
    """kill reaches the process of a created container."""
    box.create(config("sleep", "1000"))
    box.kill(signal.SIGKILL)
    found = box.wait()
    box.delete(force=True)
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.kill.stopped")
def test_kill_stopped(box: Box, seen: Seen) -> None:
    """kill of a stopped container is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(box.kill)
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.kill.unknown")
def test_kill_unknown(box: Box, seen: Seen) -> None:
    """kill of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.kill(id="nobody"))) == REFUSED


@behaviour("oci.kill.by-name")
def test_kill_by_name(box: Box, seen: Seen) -> None:
    """kill takes the signal KILL."""
    box.begin(config("sleep", "1000"))
    box.kill("KILL")
    found = box.wait()
    box.delete()
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.kill.by-long-name")
def test_kill_by_long_name(box: Box, seen: Seen) -> None:
    """kill takes the signal SIGKILL."""
    box.begin(config("sleep", "1000"))
    box.kill("SIGKILL")
    found = box.wait()
    box.delete()
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.kill.by-small-letters")
def test_kill_by_small_letters(box: Box, seen: Seen) -> None:
    """kill takes the signal kill."""
    box.begin(config("sleep", "1000"))
    box.kill("kill")
    found = box.wait()
    box.delete()
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.kill.by-number")
def test_kill_by_number(box: Box, seen: Seen) -> None:
    """kill takes the signal 9."""
    box.begin(config("sleep", "1000"))
    box.kill("9")
    found = box.wait()
    box.delete()
    assert seen(found) == 128 + signal.SIGKILL


@behaviour("oci.kill.unknown-signal")
def test_kill_unknown_signal(box: Box, seen: Seen) -> None:
    """kill with a name that no signal has is an error, and the container goes on."""
    box.begin(config("sleep", "1000"))
    answer = box.does(lambda: box.kill("UNHEARD"))
    found = (answer, box.status())
    box.delete(force=True)
    assert seen(found) == (REFUSED, "running")


@behaviour("oci.delete.running")
def test_delete_running(box: Box, seen: Seen) -> None:
    """delete of a running container is an error, and it goes on."""
    box.begin(config("sleep", "1000"))
    answer = box.does(box.delete)
    found = (answer, box.status())
    box.delete(force=True)
    assert seen(found) == (REFUSED, "running")


@behaviour("oci.delete.unknown")
def test_delete_unknown(box: Box, seen: Seen) -> None:
    """delete of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.delete("nobody"))) == REFUSED


@behaviour("oci.delete.stopped")
def test_delete_stopped(box: Box, seen: Seen) -> None:
    """A stopped container that was deleted is gone."""
    box.begin(config("true"))
    box.wait()
    box.delete()
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.delete.id-again")
def test_delete_id_again(box: Box, seen: Seen) -> None:
    """The ID of a deleted container can be used again."""
    box.said("true")
    assert seen(box.said("echo", "again")) == "again\n"


@behaviour("oci.delete.root-stays")
def test_delete_root_stays(box: Box, seen: Seen) -> None:
    """delete leaves the root file system of the bundle, which create did not make."""
    box.said("touch", "/data/kept")
    assert seen((box.rootfs / "data/kept").exists()) is True


@behaviour("oci.delete.force-running")
def test_delete_force_running(box: Box, seen: Seen) -> None:
    """delete by force ends a running container and removes it."""
    box.begin(config("sleep", "1000"))
    box.delete(force=True)
    assert seen(box.does(box.state)) == REFUSED


@behaviour("oci.delete.force-unknown")
def test_delete_force_unknown(box: Box, seen: Seen) -> None:
    """delete by force of a container that does not exist is no error."""
    assert seen(box.does(lambda: box.delete("nobody", force=True))) == ACCEPTED


@behaviour("oci.delete.namespaces")
def test_delete_namespaces(box: Box, seen: Seen) -> None:
    """The namespaces of a deleted container end with it."""
    pid = box.begin(config("sleep", "1000"))
    box.delete(force=True)
    assert seen(os.path.exists(f"/proc/{pid}/ns/pid")) is False


@behaviour("oci.pause.status")
def test_pause_status(box: Box, seen: Seen) -> None:
    """The status of a paused container is paused."""
    box.begin(config("sleep", "1000"))
    box.pause()
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "paused"


@behaviour("oci.pause.stopped")
def test_pause_stopped(box: Box, seen: Seen) -> None:
    """pause of a stopped container is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(box.pause)
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.pause.unknown")
def test_pause_unknown(box: Box, seen: Seen) -> None:
    """pause of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.pause("nobody"))) == REFUSED


@behaviour("oci.resume.status")
def test_resume_status(box: Box, seen: Seen) -> None:
    """The status of a container that was paused and resumed is running."""
    box.begin(config("sleep", "1000"))
    box.pause()
    box.resume()
    found = box.status()
    box.delete(force=True)
    assert seen(found) == "running"


@behaviour("oci.resume.stopped")
def test_resume_stopped(box: Box, seen: Seen) -> None:
    """resume of a stopped container is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(box.resume)
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.delete.paused")
def test_delete_paused(box: Box, seen: Seen) -> None:
    """delete of a paused container without force is an error."""
    box.begin(config("sleep", "1000"))
    box.pause()
    answer = box.does(box.delete)
    box.delete(force=True)
    assert seen(answer) == REFUSED


@behaviour("oci.list.containers")
def test_list_containers(box: Box, seen: Seen) -> None:
    """list shows every container of the root directory with its status."""
    box.create(config("sleep", "1000"), "one")
    box.begin(config("sleep", "1000"), "two")
    found = sorted((one["id"], one["status"]) for one in json.loads(box.command("list", "--format", "json")))
    box.delete("one", force=True)
    box.delete("two", force=True)
    assert seen(found) == [("one", "created"), ("two", "running")]


@behaviour("oci.list.quiet")
def test_list_quiet(box: Box, seen: Seen) -> None:
    """list --quiet prints IDs alone, one a line."""
    box.create(config("sleep", "1000"), "one")
    found = box.command("list", "--quiet")
    box.delete("one", force=True)
    assert seen(found) == "one\n"


@behaviour("oci.ps.json")
def test_ps_json(box: Box, seen: Seen) -> None:
    """ps --format json prints the pids of the container's processes, as the host has them."""
    pid = box.begin(config("sleep", "1000"))
    found = json.loads(box.command("ps", "--format", "json", "box")) == [pid]
    box.delete(force=True)
    assert seen(found) is True


@behaviour("oci.spec.writes")
def test_spec_writes(box: Box, seen: Seen) -> None:
    """spec writes a config.json that create takes, but for its terminal."""
    folder = box.bundle / "fresh"
    folder.mkdir()
    box.command("spec", "--bundle", str(folder))
    wanted = json.loads((folder / "config.json").read_text())
    wanted["process"]["terminal"] = False
    assert seen(box.answer(wanted)) == ACCEPTED


@behaviour("oci.spec.exists")
def test_spec_exists(box: Box, seen: Seen) -> None:
    """spec does not replace a config.json."""
    folder = box.bundle / "fresh"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    answer = box.does(lambda: box.command("spec", "--bundle", str(folder)))
    assert seen((answer, (folder / "config.json").read_text())) == (REFUSED, "{}")
