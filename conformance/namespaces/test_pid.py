"""PID namespaces: how deep they nest, who sees whom, what /proc shows, and ids that are asked for."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.namespaces.conftest import live
from kernelproof.conformance.process.children import make_process
from kernelproof.conformance.process.procfs import status_words
from kernelproof.impl import mount
from kernelproof.impl._syscalls.clones import check_clone
from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3, unshare
from kernelproof.impl._syscalls.pidfd import pidfd_open
from kernelproof.impl._syscalls.signals import kill
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

FREE = 31000  # a pid that no process of a fresh machine has
THREAD = CloneFlag.THREAD | CloneFlag.SIGHAND | CloneFlag.VM
UCRED = "=3i"


@behaviour("namespaces.pid.nesting-limit")
def test_depth_of_nesting(companion: Companion, seen: Seen) -> None:
    """32 levels can be made below the initial namespace, and one more gives ENOSPC."""

    def deepen(talk: Talk) -> None:
        answer = seen.errno_of(unshare, CloneFlag.NEWPID)
        talk.say([0, answer] if answer != "no error" else deeper(companion(deepen).hear()))

    def deeper(found: list[Any]) -> list[Any]:
        return [found[0] + 1, found[1]]

    assert seen(companion(deepen).hear()) == [32, "ENOSPC"]


@behaviour("namespaces.pid.unshare-once")
def test_second_unshare(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A second unshare of the PID namespace gives EINVAL, before and after the first child."""

    def act() -> list[str]:
        answers = [seen.errno_of(unshare, CloneFlag.NEWPID) for _ in range(2)]
        companion(live).ask()
        return [*answers, seen.errno_of(unshare, CloneFlag.NEWPID)]

    assert seen(in_child(act)) == ["no error", "EINVAL", "EINVAL"]


@behaviour("namespaces.pid.no-threads-after-unshare")
def test_no_thread_after_unshare(in_child: InChild, seen: Seen) -> None:
    """After unshare of the PID namespace no thread can be made: EINVAL."""

    def start_thread() -> str:
        try:
            threading.Thread(target=os.getpid).start()
        except RuntimeError:
            return "refused"
        return "started"

    def act() -> list[str]:
        before = seen.errno_of(check_clone, THREAD)
        unshare(CloneFlag.NEWPID)
        return [before, seen.errno_of(check_clone, THREAD, taken=(1, 1)), start_thread()]

    assert seen(in_child(act)) == ["no error", "EINVAL", "refused"]


@behaviour("namespaces.pid.members-cannot-see-outside")
def test_processes_outside_are_not_there(
    bystander: Bystander, in_child: InChild, companion: Companion, seen: Seen
) -> None:
    """The pid of a process outside names nobody inside: ESRCH."""
    outside = bystander()

    def act() -> Any:
        before = seen.errno_of(kill, outside, 0)
        unshare(CloneFlag.NEWPID)
        inside = companion(
            lambda talk: talk.say([seen.errno_of(call, outside, 0) for call in (kill, pidfd_open)])
        ).hear()
        return [before, *inside]

    assert outside > 2  # what those inside have
    assert seen(in_child(act)) == ["no error", "ESRCH", "ESRCH"]


@behaviour("namespaces.pid.visible-in-every-ancestor")
def test_pid_in_each_level(in_child: InChild, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """NSpid lists a process's pids from the level of the proc file system's reader to the innermost."""

    def nest(talk: Talk) -> None:
        mount.mount("proc", tmp_path, "proc", "")
        unshare(CloneFlag.NEWPID)
        inner = companion(live)
        inner.ask()
        talk.ask(status_of(tmp_path / "2"))

    def status_of(path: Path) -> list[str]:
        lines = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
        return lines["NSpid"].split()

    def act() -> list[Any]:
        unshare(CloneFlag.NEWPID)
        middle = companion(nest)
        from_the_middle = middle.hear()
        (inner,) = Path(f"/proc/{middle.pid}/task/{middle.pid}/children").read_text().split()
        return [status_words("NSpid", inner)[0] == inner, status_words("NSpid", inner)[1:], from_the_middle]

    assert seen(in_child(act)) == [True, ["2", "1"], ["2", "1"]]


@behaviour("namespaces.pid.proc-mount-decides-view")
def test_proc_shows_its_mounters_namespace(in_child: InChild, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """A proc file system shows the PID namespace of who mounted it, whoever reads."""

    def mount_it(talk: Talk) -> None:
        mount.mount("proc", tmp_path, "proc", "")
        live(talk)

    def act() -> list[int]:
        unshare(CloneFlag.NEWPID)
        init, other = companion(mount_it), companion(live)
        init.ask()
        other.ask()
        return sorted(int(name) for name in os.listdir(tmp_path) if name.isdigit())

    assert seen(in_child(act)) == [1, 2]


@behaviour("namespaces.pid.proc-self-of-mount")
def test_self_of_a_proc_mount(in_child: InChild, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """The entry self is the caller's pid in the namespace of who mounted it."""

    def look(talk: Talk) -> None:
        talk.hear()
        talk.ask([os.readlink(tmp_path / "self"), os.readlink("/proc/self")])

    def mount_it(talk: Talk) -> None:
        mount.mount("proc", tmp_path, "proc", "")
        look(talk)

    def act() -> list[Any]:
        unshare(CloneFlag.NEWPID)
        members = [companion(mount_it), companion(look)]
        told = [each.ask() for each in members]
        return [
            [here for here, _ in told],
            [outside == str(each.pid) for (_, outside), each in zip(told, members, strict=True)],
        ]

    assert seen(in_child(act)) == [["1", "2"], [True, True]]


@behaviour("namespaces.pid.ns-last-pid")
def test_last_pid_is_set(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The number in ns_last_pid decides the pid of the namespace's next process: one more."""

    def act() -> Any:
        unshare(CloneFlag.NEWPID)
        return companion(set_and_fork).hear()

    def set_and_fork(talk: Talk) -> None:
        perform(WriteFile("/proc/sys/kernel/ns_last_pid", "1000"))
        talk.say([companion(live).ask() for _ in range(2)])

    assert seen(in_child(act)) == [1001, 1002]


@behaviour("namespaces.pid.scm-credentials-translated")
def test_pid_in_credentials(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The pid that a message from another PID namespace carries is the sender's in the receiver's namespace."""
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def send(talk: Talk) -> None:
        own = struct.pack(UCRED, os.getpid(), os.getuid(), os.getgid())
        sender.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own)])
        talk.ask(os.getpid())

    def act() -> list[Any]:
        unshare(CloneFlag.NEWPID)
        inside = companion(send)
        told = inside.hear()
        _, [(_, _, credentials)], _, _ = receiver.recvmsg(1, socket.CMSG_SPACE(struct.calcsize(UCRED)))
        return [told, struct.unpack(UCRED, credentials)[0] == inside.pid]

    assert seen(in_child(act)) == [1, True]
    receiver.close()
    sender.close()


@behaviour("namespaces.pid.set-tid-existing")
def test_pid_in_use(bystander: Bystander, in_child: InChild, seen: Seen) -> None:
    """A pid that a process has can't be asked for: EEXIST."""
    pid = bystander()
    assert seen(in_child(lambda: seen.errno_of(make_process, set_tid=(pid,)))) == "EEXIST"


@behaviour("namespaces.pid.set-tid-free")
def test_pid_that_is_free(in_child: InChild, seen: Seen) -> None:
    """A free pid that is asked for is the child's."""
    assert not Path(f"/proc/{FREE}").exists()

    def act() -> list[Any]:
        child = clone3(0, set_tid=(FREE,)).pid
        if child == 0:
            while True:
                signal.pause()
        told = [child, status_words("Pid", FREE), status_words("PPid", FREE) == [str(os.getpid())]]
        kill(child, signal.SIGKILL)
        return told

    assert seen(in_child(act)) == [FREE, [str(FREE)], True]


@behaviour("namespaces.pid.set-tid-too-many")
def test_more_pids_than_levels(in_child: InChild, seen: Seen) -> None:
    """More pids than there are nested namespaces give EINVAL."""
    answers = in_child(lambda: [seen.errno_of(make_process, set_tid=ids) for ids in ((FREE,), (FREE, FREE + 1))])
    assert seen(answers) == ["no error", "EINVAL"]


@behaviour("namespaces.pid.set-tid-new-namespace-must-be-one")
def test_first_pid_of_a_namespace(in_child: InChild, seen: Seen) -> None:
    """The first process of a new namespace can't have another pid than 1: EINVAL."""

    def make(inside: int) -> None:
        child = clone3(CloneFlag.NEWPID, set_tid=(inside,)).pid
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    assert seen(in_child(lambda: [seen.errno_of(make, inside) for inside in (1, 5)])) == ["no error", "EINVAL"]
