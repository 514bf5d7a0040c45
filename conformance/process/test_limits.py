"""Limits of a process: who changes them, and what they stop."""

from __future__ import annotations

import mmap
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.conftest import NOBODY, become_plain
from kernelproof.conformance.process.children import make_process
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.limits import INFINITY, Resource, prlimit
from kernelproof.impl._syscalls.signals import Disposition, set_disposition
from kernelproof.impl._syscalls.waiting import wait4

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, Companion, InChild, OutputOf, Unprivileged
    from kernelproof.conformance.seen import Seen

MEBIBYTE = 1 << 20
TITLES = {Resource.NOFILE: "Max open files", Resource.CORE: "Max core file size"}


def shown(resource: Resource, pid: int | str = "self", text: str = "") -> list[str]:
    """Soft and hard limit as /proc/PID/limits tells them."""
    title = TITLES[resource]
    lines = (text or Path(f"/proc/{pid}/limits").read_text()).splitlines()
    (line,) = (line for line in lines if line.startswith(title))
    return line.removeprefix(title).split()[:2]


@behaviour("process.rlimit.inherited")
def test_limits_of_children_and_programs(
    in_child: InChild, companion: Companion, output_of: OutputOf, seen: Seen
) -> None:
    """fork and execve keep limits."""

    def look() -> list[Any]:
        prlimit(0, Resource.NOFILE, (123, 456))
        child = companion(lambda talk: talk.ask(shown(Resource.NOFILE))).hear()
        program = output_of(lambda: execve("/bin/cat", ["cat", "/proc/self/limits"]))
        return [child, shown(Resource.NOFILE, text=program)]

    assert seen(in_child(look)) == [["123", "456"]] * 2


@behaviour("process.rlimit.soft-above-hard")
def test_soft_above_hard(in_child: InChild, seen: Seen) -> None:
    """A soft limit above the hard one gives EINVAL and changes nothing."""

    def change() -> list[Any]:
        answers = [seen.errno_of(prlimit, 0, Resource.NOFILE, limits) for limits in ((100, 100), (101, 100))]
        return [*answers, shown(Resource.NOFILE)]

    assert seen(in_child(change)) == ["no error", "EINVAL", ["100", "100"]]


@behaviour("process.rlimit.raise-hard-eperm")
def test_raising_the_hard_limit(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_RESOURCE the hard limit can be lowered, and not raised again: EPERM."""

    def change() -> list[str]:
        return [seen.errno_of(prlimit, 0, Resource.NOFILE, limits) for limits in ((10, 100), (10, 101))]

    assert in_child(change) == ["no error", "no error"]
    assert seen(unprivileged(change)) == ["no error", "EPERM"]


@behaviour("process.rlimit.nofile-nr-open")
def test_highest_limit_of_descriptors(in_child: InChild, seen: Seen) -> None:
    """A hard limit of descriptors above fs.nr_open gives EPERM, to root too."""
    highest = int(Path("/proc/sys/fs/nr_open").read_text())
    answers = in_child(
        lambda: [seen.errno_of(prlimit, 0, Resource.NOFILE, (100, hard)) for hard in (highest, highest + 1)]
    )
    assert seen(answers) == ["no error", "EPERM"]


@behaviour("process.rlimit.nofile-emfile")
def test_no_descriptor_at_or_above_the_limit(in_child: InChild, seen: Seen) -> None:
    """With RLIMIT_NOFILE 20 no descriptor above 19 comes to be: dup(2) is refused with EMFILE."""

    def duplicate_until_refused() -> list[Any]:
        os.closerange(20, 1024)
        prlimit(0, Resource.NOFILE, (20, 20))
        answer = "no error"
        while answer == "no error":
            answer = seen.errno_of(os.dup, 0)
        return [answer, max(fd for fd in range(1024) if os.path.lexists(f"/proc/self/fd/{fd}"))]

    assert seen(in_child(duplicate_until_refused)) == ["EMFILE", 19]


@behaviour("process.rlimit.nproc-eagain")
def test_limit_of_processes(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """A user that has as many processes as RLIMIT_NPROC can't fork: EAGAIN; root can."""

    def fork() -> list[str]:
        answers = []
        for number in (2, 1):  # this process is one
            prlimit(0, Resource.NPROC, (number, number))
            answers.append(seen.errno_of(make_process))
        return answers

    assert in_child(fork) == ["no error", "no error"]
    assert seen(unprivileged(fork, 4243)) == ["no error", "EAGAIN"]


@behaviour("process.rlimit.fsize")
@pytest.mark.parametrize("how", ["ignored", "caught", "default"])
def test_limit_of_a_file(how: str, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """A write beyond RLIMIT_FSIZE sends SIGXFSZ, and where that does not end the process it gives EFBIG."""

    def write(talk: Any) -> None:
        prlimit(0, Resource.FSIZE, (100, 100))
        if how == "caught":
            signal.signal(signal.SIGXFSZ, lambda number, _: talk.say(number))
        else:
            set_disposition(signal.SIGXFSZ, Disposition.IGN if how == "ignored" else Disposition.DFL)
        fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
        talk.say(os.write(fd, b"x" * 200))
        talk.say(seen.errno_of(os.write, fd, b"x"))

    child = companion(write)
    assert child.hear() == 100
    answers: dict[str, list[Any]] = {"ignored": ["EFBIG"], "caught": [signal.SIGXFSZ, "EFBIG"], "default": []}
    expected = answers[how]
    told = [child.hear() for _ in expected]
    ended = wait4(child.pid)[1]
    assert seen([told, ended]) == [expected, signal.SIGXFSZ if how == "default" else 0]
    assert (tmp_path / "file").stat().st_size == 100


@behaviour("process.rlimit.as-enomem")
def test_limit_of_address_space(in_child: InChild, seen: Seen) -> None:
    """mmap beyond RLIMIT_AS gives ENOMEM."""

    def map_memory() -> str:
        return seen.errno_of(lambda: mmap.mmap(-1, 256 * MEBIBYTE).close())

    def limited() -> list[str]:
        before = map_memory()
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        prlimit(0, Resource.AS, (in_use + 64 * MEBIBYTE, INFINITY))
        return [before, map_memory()]

    assert seen(in_child(limited)) == ["no error", "ENOMEM"]


@behaviour("process.rlimit.cpu-sigxcpu")
def test_soft_limit_of_cpu_time(companion: Companion, seen: Seen) -> None:
    """Who uses up the soft limit of CPU time gets SIGXCPU."""

    def burn(talk: Any) -> None:
        signal.signal(signal.SIGXCPU, lambda number, _: talk.ask([number, round(time.process_time())]))
        prlimit(0, Resource.CPU, (1, INFINITY))
        while True:
            pass

    assert seen(companion(burn).hear()) == [signal.SIGXCPU, 1]


@behaviour("process.rlimit.cpu-sigkill")
def test_hard_limit_of_cpu_time(companion: Companion, seen: Seen) -> None:
    """Who uses up the hard limit of CPU time is ended by SIGKILL."""

    def burn(talk: Any) -> None:
        set_disposition(signal.SIGXCPU, Disposition.IGN)
        prlimit(0, Resource.CPU, (1, 1))
        while True:
            pass

    assert seen(wait4(companion(burn).pid)[1]) == signal.SIGKILL


@behaviour("process.rlimit.prlimit-esrch")
def test_limits_of_nobody(companion: Companion, seen: Seen) -> None:
    """A pid that no process has gives ESRCH."""
    pid = companion(lambda talk: None).pid
    wait4(pid)
    assert seen.errno_of(prlimit, pid, Resource.NOFILE) == "ESRCH"


@behaviour("process.rlimit.prlimit-eperm")
def test_limits_of_another_user(
    bystander: Bystander, companion: Companion, in_child: InChild, unprivileged: Unprivileged, seen: Seen
) -> None:
    """Without CAP_SYS_RESOURCE the limits of a process of other uids stay: EPERM; those of one's own change."""
    theirs = bystander()

    def live(talk: Any) -> None:
        become_plain(NOBODY)
        talk.ask()

    own = companion(live)
    own.hear()
    answers = unprivileged(lambda: [seen.errno_of(prlimit, pid, Resource.CORE, (0, 0)) for pid in (own.pid, theirs)])
    assert seen(answers) == ["no error", "EPERM"]
    assert shown(Resource.CORE, own.pid) == ["0", "0"] != shown(Resource.CORE, theirs)
