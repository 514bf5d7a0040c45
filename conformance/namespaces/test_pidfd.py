"""Descriptors of processes: opening, waiting, signalling, and fetching descriptors."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import open_flags
from kernelproof.impl._syscalls.clones import check_clone
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.pidfd import PidfdFlag, pidfd_getfd, pidfd_open, pidfd_send_signal
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, waitid

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, Companion, InChild, Talk, Unprivileged
    from kernelproof.conformance.seen import Seen

THREAD = CloneFlag.THREAD | CloneFlag.SIGHAND | CloneFlag.VM


def reaped(companion: Companion) -> int:
    """A descriptor of a process that was waited for."""
    child = companion(lambda talk: talk.hear())
    pidfd = pidfd_open(child.pid)
    child.say()
    os.waitpid(child.pid, 0)
    return pidfd


@behaviour("namespaces.pidfd.close-on-exec")
def test_descriptor_is_close_on_exec(seen: Seen) -> None:
    """A new descriptor of a process is close-on-exec."""
    assert seen(bool(open_flags(pidfd_open(os.getpid())) & os.O_CLOEXEC)) is True


@behaviour("namespaces.pidfd.open-bad-flags")
def test_unknown_flag(seen: Seen) -> None:
    """A flag that pidfd_open does not have gives EINVAL."""
    assert seen([seen.errno_of(pidfd_open, os.getpid(), flags) for flags in (0, 0x1)]) == ["no error", "EINVAL"]


@behaviour("namespaces.pidfd.open-bad-pid")
def test_no_pid(seen: Seen) -> None:
    """Pid 0 and negative pids give EINVAL."""
    assert seen([seen.errno_of(pidfd_open, pid) for pid in (0, -1, -os.getpid())]) == ["EINVAL"] * 3


@behaviour("namespaces.pidfd.open-missing-process")
def test_missing_process(companion: Companion, seen: Seen) -> None:
    """A pid that no process has gives ESRCH."""
    pid = companion(lambda talk: None).pid
    os.waitpid(pid, 0)
    assert not Path(f"/proc/{pid}").exists()
    assert seen(seen.errno_of(pidfd_open, pid)) == "ESRCH"


@behaviour("namespaces.pidfd.read-refused")
def test_nothing_to_read(seen: Seen) -> None:
    """read(2) gives EINVAL."""
    assert seen.errno_of(os.read, pidfd_open(os.getpid()), 8) == "EINVAL"


@behaviour("namespaces.pidfd.poll-readable-at-exit")
def test_poll_tells_the_end(companion: Companion, seen: Seen) -> None:
    """The descriptor polls as readable once its process has ended, and not before."""
    child = companion(lambda talk: talk.hear())
    poll = select.poll()
    poll.register(pidfd_open(child.pid), select.POLLIN)
    before = poll.poll(0)
    child.say()
    after = poll.poll(30_000)
    assert seen([before, [event & select.POLLIN for _, event in after]]) == [[], [select.POLLIN]]


@behaviour("namespaces.pidfd.nonblock-waitid")
def test_waiting_without_blocking(bystander: Bystander, seen: Seen) -> None:
    """waitid on a non-blocking descriptor gives EAGAIN while the child runs."""
    pidfd = pidfd_open(bystander(), PidfdFlag.NONBLOCK)
    assert seen.errno_of(waitid, IdType.PIDFD, pidfd, WaitOption.EXITED) == "EAGAIN"


@behaviour("namespaces.pidfd.waitid-child")
def test_waiting_by_descriptor(companion: Companion, seen: Seen) -> None:
    """waitid on a descriptor waits for its child and tells the exit status."""

    def end(talk: Talk) -> None:
        os._exit(talk.hear())

    first, second = companion(end), companion(end)
    second.say(3)
    first.say(44)
    found = waitid(IdType.PIDFD, pidfd_open(first.pid), WaitOption.EXITED)
    assert found is not None
    assert seen([found.pid == first.pid, found.status]) == [True, 44]
    assert not Path(f"/proc/{first.pid}").exists()
    assert Path(f"/proc/{second.pid}").exists()


@behaviour("namespaces.pidfd.signal-after-reap")
def test_signal_to_nobody(companion: Companion, seen: Seen) -> None:
    """A signal to a process that was waited for gives ESRCH."""
    assert seen.errno_of(pidfd_send_signal, reaped(companion), signal.SIGTERM) == "ESRCH"


@behaviour("namespaces.pidfd.signal-not-a-pidfd")
def test_signal_to_a_file(seen: Seen) -> None:
    """The descriptor of an ordinary file gives EBADF."""
    with open("/etc/passwd", "rb") as file:
        assert seen.errno_of(pidfd_send_signal, file.fileno(), 0) == "EBADF"


@behaviour("namespaces.pidfd.signal-invalid-number")
def test_signal_without_name(bystander: Bystander, seen: Seen) -> None:
    """Signal number 65 gives EINVAL."""
    pidfd = pidfd_open(bystander())
    assert seen([seen.errno_of(pidfd_send_signal, pidfd, number) for number in (0, 65)]) == ["no error", "EINVAL"]


@behaviour("namespaces.pidfd.signal-flags-must-be-zero")
def test_flags_of_a_signal(bystander: Bystander, seen: Seen) -> None:
    """Flags other than 0 give EINVAL."""
    pid = bystander()
    os.setpgid(pid, pid)  # so that newer kernels, which have such flags, find whom they mean
    pidfd = pidfd_open(pid)
    assert seen([seen.errno_of(pidfd_send_signal, pidfd, 0, flags) for flags in (1, 2, 4, 8)]) == ["EINVAL"] * 4


@behaviour("namespaces.pidfd.signal-wrong-pidns")
def test_signal_out_of_a_pid_namespace(
    bystander: Bystander, companion: Companion, in_child: InChild, seen: Seen
) -> None:
    """Inside a PID namespace the descriptor of a process outside gives EINVAL."""
    pidfd = pidfd_open(bystander())

    def call() -> list[Any]:
        outside = seen.errno_of(pidfd_send_signal, pidfd, 0)
        unshare(CloneFlag.NEWPID)
        return [outside, companion(lambda talk: talk.say(seen.errno_of(pidfd_send_signal, pidfd, 0))).hear()]

    assert seen(in_child(call)) == ["no error", "EINVAL"]


@behaviour("namespaces.pidfd.signal-via-proc-directory")
def test_directory_stands_for_its_process(companion: Companion, seen: Seen) -> None:
    """A descriptor of /proc/PID takes a signal for that process."""
    pid = companion(lambda talk: talk.hear()).pid
    directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pidfd_send_signal(directory, signal.SIGTERM)
    assert seen(os.WTERMSIG(os.waitpid(pid, 0)[1])) == signal.SIGTERM


@behaviour("namespaces.pidfd.getfd-shares-description")
def test_fetched_descriptor_is_the_same_file(companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """A fetched descriptor has offset and status flags in common with the target's."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def open_it(talk: Talk) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        talk.ask(fd)
        talk.say([os.lseek(fd, 0, os.SEEK_CUR), bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)])

    target = companion(open_it)
    fd = pidfd_getfd(pidfd_open(target.pid), target.hear())
    os.lseek(fd, 5, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    assert seen(target.ask()) == [5, True]
    os.close(fd)


@behaviour("namespaces.pidfd.getfd-cloexec")
def test_fetched_descriptor_is_close_on_exec(companion: Companion, seen: Seen) -> None:
    """A fetched descriptor is close-on-exec, though the target's is not."""

    def open_it(talk: Talk) -> None:
        fd = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(fd, True)
        talk.ask(fd)

    target = companion(open_it)
    theirs = target.hear()
    ours = pidfd_getfd(pidfd_open(target.pid), theirs)
    assert seen([bool(flags & os.O_CLOEXEC) for flags in (open_flags(theirs, target.pid), open_flags(ours))]) == [
        False,
        True,
    ]


@behaviour("namespaces.pidfd.getfd-bad-target-fd")
def test_fetching_what_is_not_open(bystander: Bystander, seen: Seen) -> None:
    """A number that is not open in the target gives EBADF."""
    pid = bystander()
    assert not Path(f"/proc/{pid}/fd/900").exists()
    assert seen.errno_of(pidfd_getfd, pidfd_open(pid), 900) == "EBADF"


@behaviour("namespaces.pidfd.getfd-flags")
def test_flags_of_fetching(bystander: Bystander, seen: Seen) -> None:
    """Flags other than 0 give EINVAL."""
    pidfd = pidfd_open(bystander())
    assert seen([seen.errno_of(pidfd_getfd, pidfd, 0, flags) for flags in (0, 1)]) == ["no error", "EINVAL"]


@behaviour("namespaces.pidfd.getfd-needs-ptrace-access")
def test_fetching_from_another_user(
    bystander: Bystander, in_child: InChild, unprivileged: Unprivileged, seen: Seen
) -> None:
    """A process that may not trace the target gets EPERM."""
    pidfd = pidfd_open(bystander())
    assert in_child(lambda: seen.errno_of(pidfd_getfd, pidfd, 0)) == "no error"
    assert seen(unprivileged(lambda: seen.errno_of(pidfd_getfd, pidfd, 0))) == "EPERM"


@behaviour("namespaces.pidfd.clone-pidfd-with-thread")
def test_descriptor_of_a_new_thread(seen: Seen) -> None:
    """clone with PIDFD and THREAD together gives EINVAL."""
    with pytest.raises(OSError, match="Invalid argument"):  # the kernel is asked
        check_clone(CloneFlag.NEWNS | CloneFlag.FS)
    assert [seen.errno_of(check_clone, flags) for flags in (CloneFlag.PIDFD, THREAD)] == ["no error"] * 2
    assert seen.errno_of(check_clone, CloneFlag.PIDFD | THREAD) == "EINVAL"
