"""What `process` of a configuration makes of the container's process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import REFUSED, config, value_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def limit_of(box: Box, name: str, kind: str, soft: int, hard: int) -> list[str]:
    """The soft and the hard limit, as /proc/PID/limits calls them, of a program that was given them."""
    limits = [{"type": kind, "soft": soft, "hard": hard}]
    return box.said("grep", name, "/proc/self/limits", process={"rlimits": limits})[len(name) :].split()[:2]


@behaviour("oci.process.cwd")
def test_process_cwd(box: Box, seen: Seen) -> None:
    """The container's program begins in the directory that process.cwd names."""
    assert seen(box.said("pwd", process={"cwd": "/tmp"})) == "/tmp\n"


@behaviour("oci.process.cwd-relative")
def test_process_cwd_relative(box: Box, seen: Seen) -> None:
    """A configuration whose process.cwd is not an absolute path is refused by create."""
    assert seen(box.answer(config("true", process={"cwd": "tmp"}))) == REFUSED


@behaviour("oci.process.cwd-required")
def test_process_cwd_required(box: Box, seen: Seen) -> None:
    """A configuration whose process.cwd is an empty text is refused by create."""
    assert seen(box.answer(config("true", process={"cwd": ""}))) == REFUSED


@behaviour("oci.process.args-are-argv")
def test_process_args_are_argv(box: Box, seen: Seen) -> None:
    """process.args is the program's whole argument vector, its name included."""
    assert seen(box.said("cat", "/proc/self/cmdline")) == "cat\0/proc/self/cmdline\0"


@behaviour("oci.process.args-empty")
def test_process_args_empty(box: Box, seen: Seen) -> None:
    """A configuration whose process.args is empty is refused by create."""
    assert seen(box.answer(config())) == REFUSED


@behaviour("oci.process.args-search")
def test_process_args_search(box: Box, seen: Seen) -> None:
    """A program named without a slash is looked up in the container's PATH."""
    (box.rootfs / "data/elsewhere").mkdir()
    (box.rootfs / "data/elsewhere/echo").symlink_to("/bin/busybox")
    (box.rootfs / "bin/echo").unlink()
    assert seen(box.said("echo", "found", process={"env": ["PATH=/data/elsewhere"]})) == "found\n"


@behaviour("oci.process.args-with-slash")
def test_process_args_with_slash(box: Box, seen: Seen) -> None:
    """A program named with a slash is not looked up in PATH."""
    assert seen(box.said("bin/echo", "here", process={"env": ["PATH=/nowhere"]})) == "here\n"


@behaviour("oci.process.args-missing")
def test_process_args_missing(box: Box, seen: Seen) -> None:
    """A program that is nowhere in the container is an error, at the start at the latest."""

    def begin() -> None:
        box.create(config("no-such-program"))
        box.start()

    assert seen(box.does(begin)) == REFUSED


@behaviour("oci.process.env")
def test_process_env(box: Box, seen: Seen) -> None:
    """Each entry of process.env is in the program's environment as it was written."""
    said = box.said("env", process={"env": ["PATH=/bin", "A=1=2", "EMPTY="]}).splitlines()
    assert seen([line for line in said if line.startswith(("A=", "EMPTY="))]) == ["A=1=2", "EMPTY="]


@behaviour("oci.process.env-alone")
def test_process_env_alone(box: Box, seen: Seen) -> None:
    """Nothing of the runtime's own environment is in the program's."""
    os.environ["OF_THE_RUNTIME"] = "1"
    said = box.said("/bin/env", process={"env": ["A=1"]}).splitlines()
    assert seen([line for line in said if not line.startswith(("A=", "HOME="))]) == []


@behaviour("oci.process.console-size-ignored")
def test_process_console_size_ignored(box: Box, seen: Seen) -> None:
    """consoleSize is ignored where terminal is not set."""
    assert seen(box.said("echo", "ran", process={"consoleSize": {"height": 10, "width": 20}})) == "ran\n"


@behaviour("oci.process.terminal-default")
def test_process_terminal_default(box: Box, seen: Seen) -> None:
    """Without terminal the program has no terminal on its standard streams."""
    ended = box.run(config("tty"))
    assert seen((ended.status, ended.output)) == (1, "not a tty\n")


@behaviour("oci.process.user-uid")
def test_process_user_uid(box: Box, seen: Seen) -> None:
    """The program runs with the user ID of process.user.uid."""
    assert seen(value_of(box, "Uid", user={"uid": 1234, "gid": 0})) == "1234 1234 1234 1234"


@behaviour("oci.process.user-gid")
def test_process_user_gid(box: Box, seen: Seen) -> None:
    """The program runs with the group ID of process.user.gid."""
    assert seen(value_of(box, "Gid", user={"uid": 0, "gid": 4321})) == "4321 4321 4321 4321"


@behaviour("oci.process.user-umask")
def test_process_user_umask(box: Box, seen: Seen) -> None:
    """The program begins with the file mode mask of process.user.umask."""
    assert seen(value_of(box, "Umask", user={"uid": 0, "gid": 0, "umask": 0o027})) == "0027"


@behaviour("oci.process.user-groups")
def test_process_user_groups(box: Box, seen: Seen) -> None:
    """The groups of process.user.additionalGids are supplementary groups of the program."""
    assert seen(value_of(box, "Groups", user={"uid": 0, "gid": 0, "additionalGids": [5, 77]})) == "5 77"


@behaviour("oci.process.user-no-groups")
def test_process_user_no_groups(box: Box, seen: Seen) -> None:
    """Without additionalGids the program has none of the runtime's supplementary groups."""
    os.setgroups([4, 44])
    assert seen([group for group in value_of(box, "Groups").split() if group in ("4", "44")]) == []


@behaviour("oci.process.no-new-privileges")
def test_process_no_new_privileges(box: Box, seen: Seen) -> None:
    """With noNewPrivileges the program can't gain privileges."""
    assert seen(value_of(box, "NoNewPrivs", noNewPrivileges=True)) == "1"


@behaviour("oci.process.new-privileges")
def test_process_new_privileges(box: Box, seen: Seen) -> None:
    """Without noNewPrivileges the program is not kept from gaining privileges."""
    assert seen(value_of(box, "NoNewPrivs")) == "0"


@behaviour("oci.process.oom-score-adj")
def test_process_oom_score_adj(box: Box, seen: Seen) -> None:
    """oomScoreAdj is written to the process's oom_score_adj."""
    assert seen(box.said("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 123})) == "123\n"


@behaviour("oci.process.oom-score-adj-zero")
def test_process_oom_score_adj_zero(box: Box, seen: Seen) -> None:
    """An oomScoreAdj of 0 is set too, whatever the runtime's own value is."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("55")
    assert seen(box.said("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": 0})) == "0\n"


@behaviour("oci.rlimits.nofile")
def test_rlimits_nofile(box: Box, seen: Seen) -> None:
    """RLIMIT_NOFILE sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max open files", "RLIMIT_NOFILE", 99, 100)) == ["99", "100"]


@behaviour("oci.rlimits.nproc")
def test_rlimits_nproc(box: Box, seen: Seen) -> None:
    """RLIMIT_NPROC sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max processes", "RLIMIT_NPROC", 3999, 4000)) == ["3999", "4000"]


@behaviour("oci.rlimits.core")
def test_rlimits_core(box: Box, seen: Seen) -> None:
    """RLIMIT_CORE sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max core file size", "RLIMIT_CORE", 0, 0)) == ["0", "0"]


@behaviour("oci.rlimits.fsize")
def test_rlimits_fsize(box: Box, seen: Seen) -> None:
    """RLIMIT_FSIZE sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max file size", "RLIMIT_FSIZE", 1073741823, 1073741824)) == ["1073741823", "1073741824"]


@behaviour("oci.rlimits.memlock")
def test_rlimits_memlock(box: Box, seen: Seen) -> None:
    """RLIMIT_MEMLOCK sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max locked memory", "RLIMIT_MEMLOCK", 65535, 65536)) == ["65535", "65536"]


@behaviour("oci.rlimits.stack")
def test_rlimits_stack(box: Box, seen: Seen) -> None:
    """RLIMIT_STACK sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max stack size", "RLIMIT_STACK", 4194303, 4194304)) == ["4194303", "4194304"]


@behaviour("oci.rlimits.cpu")
def test_rlimits_cpu(box: Box, seen: Seen) -> None:
    """RLIMIT_CPU sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max cpu time", "RLIMIT_CPU", 899, 900)) == ["899", "900"]


@behaviour("oci.rlimits.sigpending")
def test_rlimits_sigpending(box: Box, seen: Seen) -> None:
    """RLIMIT_SIGPENDING sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max pending signals", "RLIMIT_SIGPENDING", 76, 77)) == ["76", "77"]


@behaviour("oci.rlimits.msgqueue")
def test_rlimits_msgqueue(box: Box, seen: Seen) -> None:
    """RLIMIT_MSGQUEUE sets the soft and the hard limit that getrlimit gives for it."""
    assert seen(limit_of(box, "Max msgqueue size", "RLIMIT_MSGQUEUE", 81919, 81920)) == ["81919", "81920"]


@behaviour("oci.rlimits.unknown")
def test_rlimits_unknown(box: Box, seen: Seen) -> None:
    """A resource that the kernel does not know is refused by create."""
    assert (
        seen(box.answer(config("true", process={"rlimits": [{"type": "RLIMIT_UNKNOWN", "soft": 1, "hard": 1}]})))
        == REFUSED
    )


@behaviour("oci.rlimits.duplicate")
def test_rlimits_duplicate(box: Box, seen: Seen) -> None:
    """Two limits of one resource are refused by create."""
    limit = {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}
    assert seen(box.answer(config("true", process={"rlimits": [limit, {**limit, "soft": 32}]}))) == REFUSED
