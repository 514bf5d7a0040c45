"""What a pidfd tells by itself: IDs, credentials, cgroup, the end of the process, and its namespaces."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import identity, status_words
from kernelproof.impl._syscalls.mount import AT_FDCWD
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.pidfd import pidfd_open, pidfd_send_signal
from kernelproof.impl._syscalls.pidfd_info import (
    SELF_PROCESS,
    InfoMask,
    ProcessNamespace,
    open_namespace_of,
    read_process_info,
    supported_info,
)
from kernelproof.impl._syscalls.resolve import openat2

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

UNKNOWN = 1 << 40


def become_others(talk: Talk) -> None:
    """Have IDs that differ from each other."""
    os.setresgid(11, 12, 13)
    os.setresuid(1, 2, 3)
    talk.ask()


@behaviour("process.pidfd.info-ids")
def test_ids(companion: Companion, seen: Seen) -> None:
    """PIDFD_GET_INFO gives the IDs and credentials that /proc has of the process."""
    other = companion(become_others)
    other.hear()
    info = read_process_info(pidfd_open(other.pid))
    assert [info.pid, info.tgid, info.ppid] == [other.pid, other.pid, os.getpid()]
    assert seen([list(info.uids), list(info.gids)]) == [
        [int(word) for word in status_words(name, other.pid)] for name in ("Uid", "Gid")
    ]


@behaviour("process.pidfd.info-always-filled")
def test_what_nobody_asked_for(companion: Companion, seen: Seen) -> None:
    """IDs and credentials are filled although nothing was asked for; a bit that is unknown is not."""
    info = read_process_info(pidfd_open(companion(lambda talk: talk.hear()).pid), UNKNOWN)
    assert seen(int(info.mask & (InfoMask.PID | InfoMask.CREDS | UNKNOWN))) == InfoMask.PID | InfoMask.CREDS


@behaviour("process.pidfd.info-exit")
def test_end_of_a_process(companion: Companion, seen: Seen) -> None:
    """With PIDFD_INFO_EXIT the wait status of a process is told after it was waited for; without it: ESRCH."""
    other = companion(lambda talk: talk.hear())
    fd = pidfd_open(other.pid)
    os.kill(other.pid, signal.SIGUSR1)
    _, status = os.waitpid(other.pid, 0)
    info = read_process_info(fd, InfoMask.EXIT)
    assert info.mask & InfoMask.EXIT
    assert info.exit_code == status == signal.SIGUSR1
    assert seen.errno_of(read_process_info, fd) == "ESRCH"


@behaviour("process.pidfd.info-supported-mask")
def test_what_the_kernel_knows(seen: Seen) -> None:
    """PIDFD_INFO_SUPPORTED_MASK tells the bits that the kernel knows, and no others."""
    known = supported_info(pidfd_open(os.getpid()))
    assert seen([known & sum(InfoMask), known & UNKNOWN]) == [sum(InfoMask), 0]


@behaviour("process.pidfd.info-before-6-11")
def test_info_on_an_older_kernel(seen: Seen) -> None:
    """A kernel whose pidfds take no requests refuses it: ENOTTY."""
    assert seen.errno_of(read_process_info, pidfd_open(os.getpid())) == "ENOTTY"


def live_apart(talk: Talk) -> None:
    """A process with a network and a UTS namespace of its own."""
    unshare(CloneFlag.NEWNET | CloneFlag.NEWUTS)
    talk.ask()


@behaviour("process.pidfd.namespace-of")
def test_namespaces_of_a_process(companion: Companion, seen: Seen) -> None:
    """A pidfd gives the namespaces that the links in /proc/PID/ns are of, close-on-exec."""
    other = companion(live_apart)
    other.hear()
    fd = pidfd_open(other.pid)
    found = [open_namespace_of(fd, kind) for kind in (ProcessNamespace.NETWORK, ProcessNamespace.UTS)]
    assert not any(os.get_inheritable(each) for each in found)
    assert identity(found[0]) != identity("/proc/self/ns/net")
    links = [identity(f"/proc/{other.pid}/ns/{name}") for name in ("net", "uts")]
    assert seen([identity(each) for each in found] == links)


@behaviour("process.pidfd.namespace-of-before-6-11")
def test_namespaces_on_an_older_kernel(seen: Seen) -> None:
    """A kernel whose pidfds tell no namespaces refuses the request: ENOTTY."""
    assert seen.errno_of(open_namespace_of, pidfd_open(os.getpid()), ProcessNamespace.NETWORK) == "ENOTTY"


def signal_itself() -> list[int]:
    """Send a blocked signal by PIDFD_SELF_THREAD_GROUP and return what is pending."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    pidfd_send_signal(SELF_PROCESS, signal.SIGUSR1)
    return sorted(signal.sigpending())


@behaviour("process.pidfd.self")
def test_itself_without_a_descriptor(in_child: InChild, seen: Seen) -> None:
    """PIDFD_SELF_PROCESS stands for the caller's own process in the place of a pidfd."""
    assert seen(in_child(signal_itself)) == [signal.SIGUSR1]


@behaviour("process.pidfd.self-before-6-15")
def test_itself_on_an_older_kernel(in_child: InChild, seen: Seen) -> None:
    """A kernel without PIDFD_SELF takes it for a number that is no open descriptor: EBADF."""
    assert seen(in_child(lambda: seen.errno_of(signal_itself))) == "EBADF"


def lines_of(file: int) -> dict[str, str]:
    """The lines of a descriptor's fdinfo."""
    with open(f"/proc/self/fdinfo/{file}", encoding="utf-8") as lines:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@behaviour("process.proc.fdinfo-inode")
def test_inode_of_a_descriptor(seen: Seen) -> None:
    """fdinfo has the inode number of the open file."""
    file = openat2(AT_FDCWD, "/etc/passwd", os.O_RDONLY)
    assert seen(lines_of(file)["ino"] == str(os.stat("/etc/passwd").st_ino))


@behaviour("process.proc.fdinfo-inode-before-5-14")
def test_inode_on_an_older_kernel(seen: Seen) -> None:
    """An older kernel's fdinfo has position, flags and mount, and no inode number."""
    file = openat2(AT_FDCWD, "/etc/passwd", os.O_RDONLY)
    assert os.readlink(f"/proc/self/fd/{file}") == "/etc/passwd"
    assert seen(sorted(lines_of(file))) == ["flags", "mnt_id", "pos"]
