"""Further processes in a running container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import REFUSED, config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def executed(box: Box, *args: str, process: Mapping[str, object] = MappingProxyType({}), **members: Any) -> list[str]:
    """What a further process writes in a running container."""
    whole = {"cwd": "/", "args": list(args), "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **process}
    box.begin(config("sleep", "1000", **members))
    try:
        return box.execute(whole).output.splitlines()
    finally:
        box.delete(force=True)


@behaviour("oci.exec.output")
def test_exec_output(box: Box, seen: Seen) -> None:
    """A further process runs the program that it is given."""
    assert seen(executed(box, "echo", "further")) == ["further"]


@behaviour("oci.exec.namespaces")
def test_exec_namespaces(box: Box, seen: Seen) -> None:
    """A further process is in the namespaces of the container's first one."""
    text = "for kind in net ipc uts mnt cgroup; do readlink /proc/self/ns/$kind; readlink /proc/1/ns/$kind; done"
    said = executed(box, "sh", "-c", text)
    assert seen((len(said), said[::2] == said[1::2])) == (10, True)


@behaviour("oci.exec.pid-namespace")
def test_exec_pid_namespace(box: Box, seen: Seen) -> None:
    """A further process is in the container's PID namespace: the first one is its process 1."""
    assert seen(executed(box, "cat", "/proc/1/comm")) == ["sleep"]


@behaviour("oci.exec.root")
def test_exec_root(box: Box, seen: Seen) -> None:
    """A further process has the container's root."""
    (box.rootfs / "mark").write_text("of the box")
    assert seen(executed(box, "cat", "/mark")) == ["of the box"]


@behaviour("oci.exec.cwd")
def test_exec_cwd(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the cwd of its own process, not the container's."""
    assert seen(executed(box, "pwd", process={"cwd": "/tmp"})) == ["/tmp"]


@behaviour("oci.exec.env")
def test_exec_env(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the env of its own process, not the container's."""
    assert seen(executed(box, "sh", "-c", "echo $A", process={"env": ["PATH=/bin", "A=1"]})) == ["1"]


@behaviour("oci.exec.uid")
def test_exec_uid(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the uid of its own process, not the container's."""
    assert seen(executed(box, "id", "-u", process={"user": {"uid": 12, "gid": 0}})) == ["12"]


@behaviour("oci.exec.gid")
def test_exec_gid(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the gid of its own process, not the container's."""
    assert seen(executed(box, "id", "-g", process={"user": {"uid": 0, "gid": 34}})) == ["34"]


@behaviour("oci.exec.groups")
def test_exec_groups(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the groups of its own process, not the container's."""
    assert seen(
        executed(
            box,
            "grep",
            "^Groups:",
            "/proc/self/status",
            process={"user": {"uid": 0, "gid": 0, "additionalGids": [5, 6]}},
        )
    ) == ["Groups:\t5 6 "]


@behaviour("oci.exec.umask")
def test_exec_umask(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the umask of its own process, not the container's."""
    assert seen(
        executed(box, "grep", "^Umask:", "/proc/self/status", process={"user": {"uid": 0, "gid": 0, "umask": 63}})
    ) == ["Umask:\t0077"]


@behaviour("oci.exec.no-new-privileges")
def test_exec_no_new_privileges(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the no new privileges of its own process, not the container's."""
    assert seen(executed(box, "grep", "^NoNewPrivs:", "/proc/self/status", process={"noNewPrivileges": True})) == [
        "NoNewPrivs:\t1"
    ]


@behaviour("oci.exec.rlimits")
def test_exec_rlimits(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the rlimits of its own process, not the container's."""
    assert seen(
        executed(
            box,
            "sh",
            "-c",
            "ulimit -Sn; ulimit -Hn",
            process={"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]},
        )
    ) == ["50", "60"]


@behaviour("oci.exec.oom-score")
def test_exec_oom_score(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the oom score of its own process, not the container's."""
    assert seen(executed(box, "cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 321})) == ["321"]


@behaviour("oci.exec.bounding")
def test_exec_bounding(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the bounding of its own process, not the container's."""
    assert seen(
        executed(
            box,
            "grep",
            "^CapBnd:",
            "/proc/self/status",
            process={"capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}},
        )
    ) == ["CapBnd:\t0000000000000020"]


@behaviour("oci.exec.inheritable")
def test_exec_inheritable(box: Box, seen: Seen) -> None:
    """A further process that is given in full has the inheritable of its own process, not the container's."""
    assert seen(
        executed(
            box,
            "grep",
            "^CapInh:",
            "/proc/self/status",
            process={"capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}},
        )
    ) == ["CapInh:\t0000000000000000"]


@behaviour("oci.exec.status")
def test_exec_status(box: Box, seen: Seen) -> None:
    """The exit status of a further process is that of exec."""
    box.begin(config("sleep", "1000"))
    found = box.execute(["sh", "-c", "exit 42"]).status
    box.delete(force=True)
    assert seen(found) == 42


@behaviour("oci.exec.inherits-user")
def test_exec_inherits_user(box: Box, seen: Seen) -> None:
    """A further process that is given by its words alone has the user of the container's process."""
    box.begin(config("sleep", "1000", process={"user": {"uid": 55, "gid": 66}}))
    found = box.execute(["sh", "-c", "id -u; id -g"]).output
    box.delete(force=True)
    assert seen(found) == "55\n66\n"


@behaviour("oci.exec.inherits-env")
def test_exec_inherits_env(box: Box, seen: Seen) -> None:
    """A further process that is given by its words alone has the environment of the container's process."""
    box.begin(config("sleep", "1000", process={"env": ["PATH=/bin", "OF_THE_BOX=1"]}))
    found = box.execute(["sh", "-c", "echo $OF_THE_BOX"]).output
    box.delete(force=True)
    assert seen(found) == "1\n"


@behaviour("oci.exec.missing-program")
def test_exec_missing_program(box: Box, seen: Seen) -> None:
    """exec of a program that is not in the container is an error."""
    box.begin(config("sleep", "1000"))
    answer = box.does(lambda: box.execute(["no-such-program"]))
    box.delete(force=True)
    assert seen(answer) == REFUSED


@behaviour("oci.exec.stopped")
def test_exec_stopped(box: Box, seen: Seen) -> None:
    """exec in a stopped container is an error."""
    box.begin(config("true"))
    box.wait()
    answer = box.does(lambda: box.execute(["true"]))
    box.delete()
    assert seen(answer) == REFUSED


@behaviour("oci.exec.unknown")
def test_exec_unknown(box: Box, seen: Seen) -> None:
    """exec in a container that does not exist is an error."""
    assert seen(box.does(lambda: box.execute(["true"], "nobody"))) == REFUSED


@behaviour("oci.exec.paused")
def test_exec_paused(box: Box, seen: Seen) -> None:
    """exec in a paused container is an error."""
    box.begin(config("sleep", "1000"))
    box.pause()
    answer = box.does(lambda: box.execute(["true"]))
    box.delete(force=True)
    assert seen(answer) == REFUSED


@behaviour("oci.exec.no-hooks")
def test_exec_no_hooks(box: Box, seen: Seen) -> None:
    """No hook is called for a further process."""
    hooks = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo called >> /data/log"]}]}
    executed(box, "true", hooks=hooks)
    assert seen((box.rootfs / "data/log").read_text()) == "called\n"


@behaviour("oci.exec.dies-with-container")
def test_exec_dies_with_container(box: Box, seen: Seen) -> None:
    """A further process ends with the container."""
    box.begin(config("sleep", "1000"))
    box.execute(["sh", "-c", "sleep 2000 > /dev/null 2>&1 < /dev/null &"])
    box.delete(force=True)
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in os.listdir("/proc") if pid.isdigit()]
    assert seen(any("2000" in command for command in commands)) is False
