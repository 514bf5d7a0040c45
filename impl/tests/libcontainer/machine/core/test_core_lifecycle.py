"""A container's whole life by the functions that the command line calls, in this process, seen from outside."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.libcontainer import (
    ContainerExistsError,
    InvalidIdError,
    NoSuchContainerError,
    Request,
    StartError,
    WrongStatusError,
    lifecycle,
    running,
)
from kernelproof.impl.libcontainer.config.records import (
    Config,
    Hook,
    Hooks,
    Memory,
    Namespace,
    Pids,
    Process,
    Resources,
    Root,
)
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.controlgroups import MakeCgroup
from kernelproof.impl.tests.libcontainer.machine.core.conftest import KINDS

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


def create(bundle: Any, config: Config, identifier: str = "box", **options: Any) -> lifecycle.Started:
    text = dump(config, own=True).encode()
    request = Request(identifier, str(bundle.path), **options)
    return lifecycle.create(str(bundle.states), config, request, config_text=text)


def end(started: lifecycle.Started) -> int:
    os.close(started.pidfd)
    return running.await_end(started)


def status(bundle: Any, identifier: str = "box") -> object:
    return lifecycle.read_state(str(bundle.states), identifier)["status"]


def test_whole_life(bundle: Any, cgroups: str) -> None:
    """Created, started, ended, deleted; its pid, its namespaces and its cgroup are those that the state tells."""
    states = str(bundle.states)
    started = create(bundle, bundle.config("sleep", "1000"))
    state = lifecycle.read_state(states, "box")
    pid = state["pid"]
    assert isinstance(pid, int)
    assert (state["id"], state["status"], state["bundle"]) == ("box", "created", str(bundle.path))
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    membership = Path(f"/proc/{pid}/cgroup").read_text()
    assert "/box\n" in membership
    lifecycle.start(states, "box")
    assert status(bundle) == "running"
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    (inside,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid")]
    assert inside.split()[-1] == "1"
    with pytest.raises(WrongStatusError, match="running"):
        lifecycle.delete(states, "box")
    lifecycle.kill(states, "box", signal.SIGKILL)
    assert end(started) == 128 + signal.SIGKILL
    assert status(bundle) == "stopped"
    assert lifecycle.read_state(states, "box")["pid"] == 0
    lifecycle.delete(states, "box")
    with pytest.raises(NoSuchContainerError):
        lifecycle.read_state(states, "box")


def test_a_cgroup_that_was_used_before(bundle: Any, cgroup2: Path) -> None:
    """In a cgroup that is there, and on which cgroup.kill was written, a container lives; the cgroup stays."""
    place = cgroup2 / "used"
    place.mkdir()
    if (place / "cgroup.kill").exists():
        (place / "cgroup.kill").write_text("1")
    config = bundle.config("sleep", "1000")
    started = create(bundle, config.replace(linux=config.linux.replace(cgroups_path="/used")))
    lifecycle.start(str(bundle.states), "box")
    pid = lifecycle.read_state(str(bundle.states), "box")["pid"]
    assert (place / "cgroup.procs").read_text() == f"{pid}\n"
    lifecycle.kill(str(bundle.states), "box", signal.SIGKILL)
    assert end(started) == 128 + signal.SIGKILL
    lifecycle.delete(str(bundle.states), "box")
    place.rmdir()


def test_a_frozen_cgroup(bundle: Any, cgroups: str) -> None:
    """In one that is frozen no container is made: its process would stop on the way; the error says what helps."""
    with Cgroup.create("cold") as cold:
        cold.freeze()
        config = bundle.config("true")
        with pytest.raises(StartError, match=r"the cgroup is frozen.*\(EBUSY\)\. Thaw it") as failed:
            create(bundle, config.replace(linux=config.linux.replace(cgroups_path="/cold")))
        assert failed.value.path == "cold"
        cold.thaw()
        cold.remove()


def test_a_zombie_has_stopped(bundle: Any, cgroup2: Path) -> None:
    """A first process that nobody waited for has stopped, and can't be signalled."""
    started = create(bundle, bundle.config("true"))
    lifecycle.start(str(bundle.states), "box")
    os.waitid(os.P_PIDFD, started.pidfd, os.WEXITED | os.WNOWAIT)
    assert status(bundle) == "stopped"
    with pytest.raises(WrongStatusError, match="stopped"):
        lifecycle.kill(str(bundle.states), "box", signal.SIGTERM)
    assert end(started) == 0
    lifecycle.delete(str(bundle.states), "box")


def test_status_decides(bundle: Any, cgroups: str) -> None:
    """What a status does not allow is refused without effect: start twice, resume the running, exec in the paused."""
    states = str(bundle.states)
    started = create(bundle, bundle.config("sleep", "1000"))
    with pytest.raises(ContainerExistsError, match="box"):
        create(bundle, bundle.config("true"))
    lifecycle.start(states, "box")
    with pytest.raises(WrongStatusError, match="running"):
        lifecycle.start(states, "box")
    with pytest.raises(WrongStatusError, match="running"):
        lifecycle.resume(states, "box")
    lifecycle.pause(states, "box")
    assert status(bundle) == "paused"
    with pytest.raises(WrongStatusError, match="paused"):
        running.execute(states, "box", Process("/", ("true",), ("PATH=/bin",)))
    lifecycle.resume(states, "box")
    assert status(bundle) == "running"
    lifecycle.pause(states, "box")
    lifecycle.delete(states, "box", force=True)
    assert end(started) == 128 + signal.SIGKILL
    lifecycle.delete(states, "box", force=True)  # one that is gone is no error then


@pytest.mark.parametrize("identifier", ["", ".", "..", "a/b", ".hidden", "x" * 300, "a b", "ü"])
def test_names(bundle: Any, identifier: str) -> None:
    """What can't be a name is refused before anything is made."""
    with pytest.raises(InvalidIdError):
        create(bundle, bundle.config("true"), identifier)
    assert not bundle.states.exists()


def test_the_longest_identifier(bundle: Any, cgroup2: Path) -> None:
    """255 bytes, as long as a file's name can be, are one for everything that has it, the keyring too."""
    started = create(bundle, bundle.config("true"), "x" * 255)
    lifecycle.start(str(bundle.states), "x" * 255)
    assert end(started) == 0
    lifecycle.delete(str(bundle.states), "x" * 255)


def test_errors_come_from_create(bundle: Any, cgroup2: Path) -> None:
    """A program that is missing or is none, and a root that is missing, are told by create, which leaves nothing."""
    (bundle.rootfs / "bin/plain").write_text("no program")
    for args, number, words in (
        (("missing",), errno.ENOENT, "executable file not found"),
        (("/bin/missing",), errno.ENOENT, "no such file or directory"),
        (("plain",), errno.EACCES, "permission denied"),
        (("/bin",), errno.EACCES, "permission denied"),
    ):
        with pytest.raises(StartError, match=words) as failed:
            create(bundle, bundle.config(*args))
        assert (failed.value.stage, failed.value.call, failed.value.errno) == ("root", "FindProgram", number)
        assert args[0] in failed.value.path
    with pytest.raises(StartError) as failed:
        create(bundle, bundle.config("true").replace(root=Root("nowhere")))
    assert failed.value.path == str(bundle.path / "nowhere")


def test_program_from_the_working_directory(bundle: Any, cgroup2: Path) -> None:
    """A relative program, by its own name or by PATH, is the one of the working directory, also of exec."""
    states = str(bundle.states)
    (bundle.rootfs / "app").mkdir()
    program = bundle.rootfs / "app/prog"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    for args, env in ((("./prog",), "PATH=/bin"), (("../app/prog",), "PATH=/bin"), (("prog",), "PATH=.:/bin")):
        started = create(bundle, bundle.config().replace(process=Process("/app", args, (env,))))
        lifecycle.start(states, "box")
        assert end(started) == 7
        lifecycle.delete(states, "box")
    with pytest.raises(StartError, match=r"FindProgram \./prog: no such file .*; the working directory is / \(ENOENT"):
        create(bundle, bundle.config("./prog"))
    started = create(bundle, bundle.config("sleep", "1000"))
    lifecycle.start(states, "box")
    assert end(running.execute(states, "box", Process("/app", ("./prog",), ("PATH=/bin",)))) == 7
    lifecycle.delete(states, "box", force=True)
    assert end(started) == 128 + signal.SIGKILL


def test_errors_of_the_last_moment_come_from_start(bundle: Any, cgroup2: Path) -> None:
    """A script whose interpreter is missing is told by start, with the interpreter's name."""
    script = bundle.rootfs / "bin/script"
    script.write_text("#!/bin/nothing -x\n")
    script.chmod(0o755)
    started = create(bundle, bundle.config("script"))
    with pytest.raises(StartError, match=r"its interpreter '/bin/nothing' is missing") as failed:
        lifecycle.start(str(bundle.states), "box")
    assert (failed.value.stage, failed.value.errno, failed.value.path) == ("final", errno.ENOENT, "/bin/script")
    assert end(started) == 1
    lifecycle.delete(str(bundle.states), "box")


def test_further_processes(bundle: Any, cgroups: str) -> None:
    """One is in the container's namespaces and cgroup, its status is passed on, and it ends with the container."""
    states = str(bundle.states)
    started = create(bundle, bundle.config("sleep", "1000"))
    lifecycle.start(states, "box")
    first = lifecycle.read_state(states, "box")["pid"]
    process = Process("/tmp", ("sh", "-c", "exit 7"), ("PATH=/bin",))
    assert end(running.execute(states, "box", process)) == 7
    second = running.execute(states, "box", Process("/tmp", ("sleep", "1000"), ("PATH=/bin",)))
    pid = running._pid_of(second)
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{first}/ns/{kind}")
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{first}/cgroup").read_text()
    assert os.readlink(f"/proc/{pid}/cwd") == "/tmp"
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    with pytest.raises(StartError, match="executable file not found"):
        running.execute(states, "box", Process("/", ("missing",), ("PATH=/bin",)))
    lifecycle.kill(states, "box", signal.SIGKILL)
    assert end(second) == 128 + signal.SIGKILL  # until its parent waited for it the first process does not end
    assert end(started) == 128 + signal.SIGKILL
    lifecycle.delete(states, "box")


@pytest.mark.parametrize("joined", ["", "uts"])
@pytest.mark.parametrize("kinds", [KINDS, (*KINDS, "user"), ("mount",)], ids=["usual", "user", "least"])
def test_a_caller_without_standard_input(bundle: Any, cgroup2: Path, kinds: tuple[str, ...], joined: str) -> None:
    """Descriptors that are made for a container may have the number 0: it is waited for, and removed, all the same."""
    if "user" in kinds:
        os.chown(bundle.rootfs, 100_000, 100_000)
    config = bundle.config("sh", "-c", "exit 7", kinds=[kind for kind in kinds if kind != joined])
    if joined:
        linux = config.linux
        config = config.replace(
            linux=linux.replace(namespaces=(*linux.namespaces, Namespace(joined, f"/proc/1/ns/{joined}")))
        )
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.close(0)
            started = create(bundle, config)
            lifecycle.start(str(bundle.states), "box")
            status = end(started)
            lifecycle.delete(str(bundle.states), "box")
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert os.listdir(bundle.states) == []


def test_user_namespace(bundle: Any, cgroup2: Path) -> None:
    """Root of a mapped container is an ordinary user outside, and all its namespaces belong to its user namespace."""
    os.chown(bundle.rootfs, 100_000, 100_000)
    started = create(bundle, bundle.config("sleep", "1000", kinds=(*KINDS, "user")))
    lifecycle.start(str(bundle.states), "box")
    pid = running._pid_of(started)
    assert os.stat(f"/proc/{pid}").st_uid == 100_000
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "100000", "65536"]
    second = running.execute(str(bundle.states), "box", Process("/", ("sleep", "1000"), ("PATH=/bin",)))
    assert os.readlink(f"/proc/{running._pid_of(second)}/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
    lifecycle.kill(str(bundle.states), "box", signal.SIGKILL)
    assert (end(second), end(started)) == (137, 137)
    lifecycle.delete(str(bundle.states), "box")


def test_limits(bundle: Any, cgroup2: Path) -> None:
    """Limits are the cgroup's; one task is enough to begin with a limit of one."""
    resources = Resources(memory=Memory(limit=64 << 20), pids=Pids(1))
    started = create(bundle, bundle.config("sleep", "1000", resources=resources))
    lifecycle.start(str(bundle.states), "box")
    assert (cgroup2 / "box/memory.max").read_text() == f"{64 << 20}\n"
    assert (cgroup2 / "box/pids.max").read_text() == "1\n"
    lifecycle.delete(str(bundle.states), "box", force=True)
    assert end(started) == 137


def test_hooks_in_order(bundle: Any, cgroup2: Path, tmp_path: Path) -> None:
    """The six kinds are run in their order, each with the state that its moment has, from where it must be run."""
    log = tmp_path / "log"
    inner = bundle.rootfs / "log"

    def hook(kind: str, file: str = str(log)) -> tuple[Hook, ...]:
        script = f"echo {kind} $(cat | tr -d ' \"' | tr ',' '\\n' | grep -e '^status' -e '^{{*pid') >> {file}"
        return (Hook("/bin/sh", ("sh", "-c", script)),)

    hooks = Hooks(
        prestart=hook("prestart"),
        create_runtime=hook("createRuntime"),
        create_container=hook("createContainer"),
        start_container=(Hook("/bin/sh", ("sh", "-c", "echo startContainer > /log"), ("PATH=/bin",)),),
        poststart=hook("poststart"),
        poststop=hook("poststop"),
    )
    started = create(bundle, bundle.config("sleep", "1000").replace(hooks=hooks))
    pid = running._pid_of(started)
    assert not inner.exists()
    lifecycle.start(str(bundle.states), "box")
    assert inner.read_text() == "startContainer\n"
    lifecycle.delete(str(bundle.states), "box", force=True)
    assert end(started) == 137
    words = [line.split()[0] for line in log.read_text().splitlines()]
    assert words == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    told = dict(line.split(" ", 1) for line in log.read_text().splitlines())
    assert "status:creating" in told["prestart"]
    assert f"pid:{pid}" in told["createRuntime"]
    assert "pid:1}" in told["createContainer"].split()
    assert "status:running" in told["poststart"]
    assert "status:stopped" in told["poststop"]


def test_a_hook_that_fails_ends_the_start(bundle: Any, cgroup2: Path) -> None:
    """Its kind, path, status and words are in the error, and nothing is left; so for one that takes too long."""
    bad = Hook("/bin/sh", ("sh", "-c", "echo no space >&2; exit 3"))
    last = Hook("/bin/sh", ("sh", "-c", f"touch {bundle.path}/last"))
    with pytest.raises(StartError, match=r"createRuntime hook /bin/sh exited with 3; it said: no space"):
        create(bundle, bundle.config("true").replace(hooks=Hooks(create_runtime=(bad,), poststop=(last,))))
    assert (bundle.path / "last").exists()
    slow = Hook("/bin/sh", ("sh", "-c", "sleep 100 & sleep 100"), timeout=1)
    with pytest.raises(StartError, match=r"createContainer hook /bin/sh was killed after its 1 s"):
        create(bundle, bundle.config("true").replace(hooks=Hooks(create_container=(slow,))))


def test_making_cut_off_before_the_cgroup_of_others_was_looked_at(
    bundle: Any, cgroup2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that is killed there leaves a state that names the cgroup: who is in it outlives a forced deletion."""
    folder = cgroup2 / "box"
    folder.mkdir()
    stranger = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        (folder / "cgroup.procs").write_text(str(stranger.pid))
        monkeypatch.setattr(MakeCgroup, "do", lambda self, site: os.kill(os.getpid(), signal.SIGKILL))
        runtime = os.fork()
        if not runtime:
            create(bundle, bundle.config("sleep", "1000"))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(runtime, 0)[1]) == -signal.SIGKILL
        assert status(bundle) == "creating"
        lifecycle.delete(str(bundle.states), "box", force=True)
        assert stranger.poll() is None
        assert (folder / "cgroup.procs").read_text() == f"{stranger.pid}\n"
    finally:
        stranger.kill()
        stranger.wait()
        folder.rmdir()
