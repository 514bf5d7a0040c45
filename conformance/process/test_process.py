"""Exit statuses, sessions, signals and limits of a process, observed through /proc."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen


def fields_of_stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on: the name before may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@behaviour("process.wait.exit-status-8-bits", subject="stand-in")
def test_parent_sees_eight_bits(seen: Seen) -> None:
    """Of the exit status 300 the parent sees the low 8 bits, 44."""
    pid = os.fork()
    if pid == 0:
        os._exit(300)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    zombie_exit_code = int(fields_of_stat(pid)[49])
    _, status = os.waitpid(pid, 0)
    assert seen(os.WEXITSTATUS(status)) == 44
    assert zombie_exit_code == status == 44 << 8


@behaviour("process.session.setsid-leader-eperm", subject="stand-in")
def test_group_leader_starts_no_session(in_child: InChild, seen: Seen) -> None:
    """setsid(2) by the leader of a process group is refused with EPERM and leaves it in its session."""

    def lead_a_group() -> list[int | str]:
        os.setpgid(0, 0)
        before = fields_of_stat("self")
        answer = seen.errno_of(os.setsid)
        after = fields_of_stat("self")
        return [int(before[2]) == os.getpid(), answer, before[3] == after[3]]

    def start_a_session() -> list[int | str]:
        answer = seen.errno_of(os.setsid)
        return [answer, int(fields_of_stat("self")[3]) == os.getpid()]

    assert seen(in_child(lead_a_group)) == [True, "EPERM", True]
    assert in_child(start_a_session) == ["no error", True]


@behaviour("process.signal.standard-do-not-queue", subject="stand-in")
def test_standard_signal_is_delivered_once(in_child: InChild, seen: Seen) -> None:
    """A standard signal that is sent five times while it is blocked is delivered once."""

    def send_five_of_each() -> list[int]:
        return [send_five(signal.SIGUSR1), send_five(signal.SIGRTMIN)]

    def send_five(number: int) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        for _ in range(5):
            os.kill(os.getpid(), number)
        delivered = 0
        while signal.sigtimedwait({number}, 0) is not None:
            delivered += 1
        return delivered

    standard, real_time = in_child(send_five_of_each)
    assert seen(standard) == 1
    # Signals that do queue arrive five times: the count can tell.
    assert real_time == 5


@behaviour("process.rlimit.nofile-emfile", subject="stand-in")
def test_no_descriptor_at_or_above_the_limit(in_child: InChild, seen: Seen) -> None:
    """With RLIMIT_NOFILE 20 no descriptor above 19 comes to be: dup(2) is refused with EMFILE."""

    def duplicate_until_refused() -> list[str | int]:
        os.closerange(20, 1024)
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        answer = "no error"
        while answer == "no error":
            answer = seen.errno_of(os.dup, 0)
        highest = max(fd for fd in range(1024) if os.path.lexists(f"/proc/self/fd/{fd}"))
        return [answer, highest]

    answer, highest = in_child(duplicate_until_refused)
    assert seen(answer) == "EMFILE"
    assert highest == 19


@behaviour("process.proc.zombie-cmdline", subject="stand-in")
def test_zombie_has_no_command_line(bystander: Bystander) -> None:
    """cmdline of a process that has ended and was not waited for is empty."""
    pid = bystander()
    command_line = Path(f"/proc/{pid}/cmdline")
    assert command_line.read_bytes() != b""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert fields_of_stat(pid)[0] == "Z"
    assert command_line.read_bytes() == b""
