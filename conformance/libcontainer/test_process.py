"""What `process` of a configuration makes of the container's process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.observing import value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.process.cwd")
def test_cwd(box: Box, seen: Seen) -> None:
    """The container's program begins in the directory that process.cwd names."""
    assert seen(box.said("pwd", process={"cwd": "/tmp"})) == "/tmp\n"


@behaviour("oci.process.args-are-argv")
def test_args_are_argv(box: Box, seen: Seen) -> None:
    """process.args is the program's whole argument vector, its name included."""
    assert seen(box.said("cat", "/proc/self/cmdline")) == "cat\0/proc/self/cmdline\0"


@behaviour("oci.process.args-search")
def test_args_search(box: Box, seen: Seen) -> None:
    """A program named without a slash is looked up in the container's PATH."""
    (box.rootfs / "data/elsewhere").mkdir()
    (box.rootfs / "data/elsewhere/echo").symlink_to("/bin/busybox")
    (box.rootfs / "bin/echo").unlink()
    assert seen(box.said("echo", "found", process={"env": ["PATH=/data/elsewhere"]})) == "found\n"


@behaviour("oci.process.args-with-slash")
def test_args_with_slash(box: Box, seen: Seen) -> None:
    """A program named with a slash is not looked up in PATH."""
    assert seen(box.said("bin/echo", "here", process={"env": ["PATH=/nowhere"]})) == "here\n"


@behaviour("oci.process.env")
def test_env(box: Box, seen: Seen) -> None:
    """Each entry of process.env is in the program's environment as it was written."""
    said = box.said("env", process={"env": ["PATH=/bin", "A=1=2", "EMPTY="]}).splitlines()
    assert seen([line for line in said if line.startswith(("A=", "EMPTY="))]) == ["A=1=2", "EMPTY="]


@behaviour("oci.process.env-alone")
def test_env_alone(box: Box, seen: Seen) -> None:
    """Nothing of the runtime's own environment is in the program's."""
    os.environ["OF_THE_RUNTIME"] = "1"
    said = box.said("/bin/env", process={"env": ["A=1"]}).splitlines()
    assert seen([line for line in said if not line.startswith(("A=", "HOME="))]) == []


@behaviour("oci.process.terminal-default")
def test_terminal_default(box: Box, seen: Seen) -> None:
    """Without terminal the program has no terminal on its standard streams."""
    ended = box.run(config("tty"))
    assert seen((ended.status, ended.output)) == (1, "not a tty\n")


@pytest.mark.parametrize(
    ("line", "members", "value"),
    [
        behaviour_row("oci.process.user-uid", "Uid", {"user": {"uid": 1234, "gid": 0}}, "1234 1234 1234 1234"),
        behaviour_row("oci.process.user-gid", "Gid", {"user": {"uid": 0, "gid": 4321}}, "4321 4321 4321 4321"),
        behaviour_row("oci.process.user-umask", "Umask", {"user": {"uid": 0, "gid": 0, "umask": 0o027}}, "0027"),
        behaviour_row(
            "oci.process.user-groups", "Groups", {"user": {"uid": 0, "gid": 0, "additionalGids": [5, 77]}}, "5 77"
        ),
        behaviour_row("oci.process.no-new-privileges", "NoNewPrivs", {"noNewPrivileges": True}, "1"),
        behaviour_row("oci.process.new-privileges", "NoNewPrivs", {}, "0"),
    ],
)
def test_status(box: Box, seen: Seen, line: str, members: dict[str, object], value: str) -> None:
    """The program's line of /proc/PID/status is what the members of process say."""
    assert seen(value_of(box, line, **members)) == value


@behaviour("oci.process.user-no-groups")
def test_user_no_groups(box: Box, seen: Seen) -> None:
    """Without additionalGids the program has none of the runtime's supplementary groups."""
    os.setgroups([4, 44])
    assert seen([group for group in value_of(box, "Groups").split() if group in ("4", "44")]) == []


@behaviour("oci.process.oom-score-adj")
def test_oom_score_adj(box: Box, seen: Seen) -> None:
    """oomScoreAdj is written to the process's oom_score_adj."""
    assert seen(box.said("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 123})) == "123\n"


@behaviour("oci.process.oom-score-adj-zero")
def test_oom_score_adj_zero(box: Box, seen: Seen) -> None:
    """An oomScoreAdj of 0 is set too, whatever the runtime's own value is."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("55")
    assert seen(box.said("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 0})) == "0\n"


@pytest.mark.parametrize(
    ("kind", "line", "soft", "hard"),
    [
        behaviour_row("oci.rlimits.nofile", "RLIMIT_NOFILE", "Max open files", 99, 100),
        behaviour_row("oci.rlimits.nproc", "RLIMIT_NPROC", "Max processes", 3999, 4000),
        behaviour_row("oci.rlimits.core", "RLIMIT_CORE", "Max core file size", 0, 0),
        behaviour_row("oci.rlimits.fsize", "RLIMIT_FSIZE", "Max file size", 1073741823, 1073741824),
        behaviour_row("oci.rlimits.memlock", "RLIMIT_MEMLOCK", "Max locked memory", 65535, 65536),
        behaviour_row("oci.rlimits.stack", "RLIMIT_STACK", "Max stack size", 4194303, 4194304),
        behaviour_row("oci.rlimits.cpu", "RLIMIT_CPU", "Max cpu time", 899, 900),
        behaviour_row("oci.rlimits.sigpending", "RLIMIT_SIGPENDING", "Max pending signals", 76, 77),
        behaviour_row("oci.rlimits.msgqueue", "RLIMIT_MSGQUEUE", "Max msgqueue size", 81919, 81920),
    ],
)
def test_rlimit(box: Box, seen: Seen, kind: str, line: str, soft: int, hard: int) -> None:
    """A limit of this kind has the soft and the hard value that it is given, as /proc/PID/limits tells."""
    limits = [{"type": kind, "soft": soft, "hard": hard}]
    said = box.said("grep", line, "/proc/self/limits", process={"rlimits": limits})
    assert seen(said[len(line) :].split()[:2]) == [str(soft), str(hard)]


NOFILE = {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}


@pytest.mark.parametrize(
    "process",
    [
        behaviour_row("oci.process.cwd-relative", {"cwd": "tmp"}),
        behaviour_row("oci.process.cwd-required", {"cwd": ""}),
        behaviour_row("oci.process.args-empty", {"args": []}),
        behaviour_row("oci.rlimits.unknown", {"rlimits": [{"type": "RLIMIT_UNKNOWN", "soft": 1, "hard": 1}]}),
        behaviour_row("oci.rlimits.duplicate", {"rlimits": [NOFILE, {**NOFILE, "soft": 32}]}),
    ],
)
def test_refused(box: Box, seen: Seen, process: dict[str, object]) -> None:
    """A working directory that is none, an empty args, and limits that are unknown or double are refused by create."""
    assert seen(box.answer(config("true", process=process))) == REFUSED
