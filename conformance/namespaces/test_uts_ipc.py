"""What a UTS namespace has for itself (names) and what an IPC namespace has (queues and their limits)."""

from __future__ import annotations

import os
import select
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import namespace
from kernelproof.impl._syscalls.identity import setdomainname, sethostname
from kernelproof.impl._syscalls.inotify import Event, inotify_add_watch, inotify_init1
from kernelproof.impl._syscalls.message_queues import IpcFlag, mq_open, msgget
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.namespaces.conftest import Member
    from kernelproof.conformance.seen import Seen

KERNEL = Path("/proc/sys/kernel")
KEY = 0x6B70


def names() -> list[str]:
    """Host and domain name of this process's UTS namespace."""
    return [(KERNEL / name).read_text().strip() for name in ("hostname", "domainname")]


@behaviour("namespaces.uts.copied-at-creation")
def test_names_are_copied(in_child: InChild, seen: Seen) -> None:
    """A new UTS namespace has the names of its creator's."""
    sethostname("host")
    setdomainname("domain")

    def make() -> list[Any]:
        before = namespace("uts")
        unshare(CloneFlag.NEWUTS)
        return [namespace("uts") != before, *names()]

    assert seen(in_child(make)) == [True, "host", "domain"]


@behaviour("namespaces.uts.isolated")
def test_hostname_stays_inside(in_child: InChild, seen: Seen) -> None:
    """A host name that a process sets in its new UTS namespace is not the one of the namespace it left."""
    sethostname("outside")

    def rename() -> list[str]:
        unshare(CloneFlag.NEWUTS)
        sethostname("inside")
        return [os.uname().nodename, names()[0]]

    assert seen([in_child(rename), os.uname().nodename, names()[0]]) == [["inside"] * 2, "outside", "outside"]


@behaviour("namespaces.uts.hostname-limit")
def test_length_of_a_hostname(seen: Seen) -> None:
    """64 bytes are accepted, 65 give EINVAL."""
    answers = [seen.errno_of(sethostname, "h" * length) for length in (64, 65)]
    assert seen([*answers, len(names()[0])]) == ["no error", "EINVAL", 64]


@behaviour("namespaces.ipc.sysv-isolated")
def test_queue_of_another_namespace(in_child: InChild, seen: Seen) -> None:
    """A message queue of one IPC namespace is not found in another: ENOENT."""
    number = msgget(KEY, IpcFlag.CREAT | 0o600)

    def find() -> list[Any]:
        here = msgget(KEY) == number
        unshare(CloneFlag.NEWIPC)
        listed = len(Path("/proc/sysvipc/msg").read_text().splitlines()) - 1
        return [here, seen.errno_of(msgget, KEY), listed]

    assert seen(in_child(find)) == [True, "ENOENT", 0]


@behaviour("namespaces.ipc.sysctls-isolated")
def test_limit_of_messages(member: Member, in_child: InChild, seen: Seen) -> None:
    """A limit that is set in a new IPC namespace does not change the one outside."""

    def limit() -> int:
        return int((KERNEL / "msgmax").read_text())

    def change() -> int:
        unshare(CloneFlag.NEWIPC)
        perform(WriteFile(str(KERNEL / "msgmax"), "4321"))
        return limit()

    before = limit()
    assert seen([in_child(change), limit() == before != 4321]) == [4321, True]


@behaviour("namespaces.ipc.objects-die-with-namespace")
def test_queue_of_a_namespace_that_is_gone(companion: Companion, seen: Seen) -> None:
    """A POSIX queue is gone, with its file system, when the last process of its IPC namespace has ended."""

    def make(talk: Talk) -> None:
        unshare(CloneFlag.NEWIPC)
        queue = mq_open("mine", os.O_CREAT | os.O_RDWR)
        talk.ask(queue)
        os.close(queue)
        talk.ask()

    holder = companion(make)
    watch = inotify_init1()
    inotify_add_watch(watch, f"/proc/{holder.pid}/fd/{holder.hear()}", Event.ATTRIB)
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    holder.ask()
    before = poll.poll(0)
    holder.say()
    assert poll.poll(30_000), "the file system is still there"
    mask = struct.unpack_from("=iI", os.read(watch, 4096))[1]
    assert seen([before, bool(mask & Event.UNMOUNT)]) == [[], True]
    os.close(watch)
