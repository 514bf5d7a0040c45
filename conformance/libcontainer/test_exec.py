"""Further processes in a running container."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import config, process_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

KILL_ALONE = {"capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}}


def executed(box: Box, process: Sequence[str] | Mapping[str, Any], /, **members: Any) -> list[str]:
    """What a further process writes in a running container; `members` as for `config`."""
    box.begin(config("sleep", "1000", **members))
    try:
        return box.execute(process).output.splitlines()
    finally:
        box.delete(force=True)


def line_of_status(name: str) -> list[str]:
    """A program that writes a line of its /proc/PID/status."""
    return ["grep", f"^{name}:", "/proc/self/status"]


@pytest.mark.parametrize(
    ("args", "members", "lines"),
    [
        behaviour_row("oci.exec.output", ["echo", "further"], {}, ["further"]),
        behaviour_row("oci.exec.pid-namespace", ["cat", "/proc/1/comm"], {}, ["sleep"]),
        behaviour_row("oci.exec.cwd", ["pwd"], {"cwd": "/tmp"}, ["/tmp"]),
        behaviour_row("oci.exec.env", ["sh", "-c", "echo $A"], {"env": ["PATH=/bin", "A=1"]}, ["1"]),
        behaviour_row("oci.exec.uid", ["id", "-u"], {"user": {"uid": 12, "gid": 0}}, ["12"]),
        behaviour_row("oci.exec.gid", ["id", "-g"], {"user": {"uid": 0, "gid": 34}}, ["34"]),
        behaviour_row(
            "oci.exec.groups",
            line_of_status("Groups"),
            {"user": {"uid": 0, "gid": 0, "additionalGids": [5, 6]}},
            ["Groups:\t5 6 "],
        ),
        behaviour_row(
            "oci.exec.umask", line_of_status("Umask"), {"user": {"uid": 0, "gid": 0, "umask": 0o077}}, ["Umask:\t0077"]
        ),
        behaviour_row(
            "oci.exec.no-new-privileges", line_of_status("NoNewPrivs"), {"noNewPrivileges": True}, ["NoNewPrivs:\t1"]
        ),
        behaviour_row(
            "oci.exec.rlimits",
            ["sh", "-c", "ulimit -Sn; ulimit -Hn"],
            {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]},
            ["50", "60"],
        ),
        behaviour_row("oci.exec.oom-score", ["cat", "/proc/self/oom_score_adj"], {"oomScoreAdj": 321}, ["321"]),
        behaviour_row("oci.exec.bounding", line_of_status("CapBnd"), KILL_ALONE, ["CapBnd:\t0000000000000020"]),
        behaviour_row("oci.exec.inheritable", line_of_status("CapInh"), KILL_ALONE, ["CapInh:\t0000000000000000"]),
    ],
)
def test_process_of_its_own(
    box: Box, seen: Seen, args: list[str], members: Mapping[str, object], lines: list[str]
) -> None:
    """A further process that is given in full is as its own process says, not as the container's."""
    assert seen(executed(box, process_of(*args, **members))) == lines


@pytest.mark.parametrize(
    ("of_container", "text", "lines"),
    [
        behaviour_row("oci.exec.inherits-user", {"user": {"uid": 55, "gid": 66}}, "id -u; id -g", ["55", "66"]),
        behaviour_row("oci.exec.inherits-env", {"env": ["PATH=/bin", "OF_THE_BOX=1"]}, "echo $OF_THE_BOX", ["1"]),
    ],
)
def test_process_of_the_container(
    box: Box, seen: Seen, of_container: Mapping[str, object], text: str, lines: list[str]
) -> None:
    """A further process that is given by its words alone is as the container's process says."""
    assert seen(executed(box, ["sh", "-c", text], process=of_container)) == lines


@behaviour("oci.exec.namespaces")
def test_namespaces(box: Box, seen: Seen) -> None:
    """A further process is in the namespaces of the container's first one."""
    text = "for kind in net ipc uts mnt cgroup; do readlink /proc/self/ns/$kind; readlink /proc/1/ns/$kind; done"
    said = executed(box, process_of("sh", "-c", text))
    assert seen((len(said), said[::2] == said[1::2])) == (10, True)


@behaviour("oci.exec.root")
def test_root(box: Box, seen: Seen) -> None:
    """A further process has the container's root."""
    (box.rootfs / "mark").write_text("of the box")
    assert seen(executed(box, process_of("cat", "/mark"))) == ["of the box"]


@behaviour("oci.exec.status")
def test_status(box: Box, seen: Seen) -> None:
    """The exit status of a further process is that of exec."""
    box.begin(config("sleep", "1000"))
    found = box.execute(["sh", "-c", "exit 42"]).status
    box.delete(force=True)
    assert seen(found) == 42


@behaviour("oci.exec.missing-program")
def test_missing_program(box: Box, seen: Seen) -> None:
    """exec of a program that is not in the container is an error."""
    box.begin(config("sleep", "1000"))
    answer = box.does(lambda: box.execute(["no-such-program"]))
    box.delete(force=True)
    assert seen(answer) == REFUSED


@behaviour("oci.exec.no-hooks")
def test_no_hooks(box: Box, seen: Seen) -> None:
    """No hook is called for a further process."""
    hooks = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo called >> /data/log"]}]}
    executed(box, process_of("true"), hooks=hooks)
    assert seen((box.rootfs / "data/log").read_text()) == "called\n"


@behaviour("oci.exec.dies-with-container")
def test_dies_with_container(box: Box, seen: Seen) -> None:
    """A further process ends with the container."""
    box.begin(config("sleep", "1000"))
    box.execute(["sh", "-c", "sleep 2000 > /dev/null 2>&1 < /dev/null &"])
    box.delete(force=True)
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in os.listdir("/proc") if pid.isdigit()]
    assert seen(any("2000" in command for command in commands)) is False
