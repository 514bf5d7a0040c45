"""IDs of namespaces, and IDs of processes in another PID namespace, by ioctl_nsfs(2)'s newer requests."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import identity, open_namespace
from kernelproof.impl import mount
from kernelproof.impl._syscalls import nsfs_newer as nsfs
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.namespaces.conftest import Member
    from kernelproof.conformance.seen import Seen

PID_MAX = Path("/proc/sys/kernel/pid_max")
# enum init_ns_id of linux/nsfs.h
FIRST_IDS = {"ipc": 1, "uts": 2, "user": 3, "pid": 4, "cgroup": 5, "time": 6, "net": 7, "mnt": 8}


@pytest.fixture
def first_inside(companion: Companion) -> int:
    """The ID here of a process that is the first of a PID namespace."""

    def live(talk: Talk) -> None:
        unshare(CloneFlag.NEWPID)
        talk.ask(companion(lambda inner: inner.hear()).pid)

    return int(companion(live).hear())


@behaviour("namespaces.ioctl.pid-from")
def test_id_from_inside(first_inside: int, seen: Seen) -> None:
    """NS_GET_PID_FROM_PIDNS turns 1 of a namespace into the ID that the process has here."""
    inside = open_namespace("pid", first_inside)
    assert identity(inside) != identity("/proc/self/ns/pid")
    assert seen(nsfs.pid_from(inside, 1) == first_inside)


@behaviour("namespaces.ioctl.pid-in")
def test_id_inside(first_inside: int, seen: Seen) -> None:
    """NS_GET_PID_IN_PIDNS turns the ID that a process has here into its ID there; what is not there gives ESRCH."""
    inside = open_namespace("pid", first_inside)
    assert nsfs.pid_in(inside, first_inside) == 1
    assert seen.errno_of(nsfs.pid_in, inside, os.getpid()) == "ESRCH"


@behaviour("namespaces.ioctl.pid-before-6-11")
def test_ids_on_an_older_kernel(first_inside: int, seen: Seen) -> None:
    """A kernel without these requests refuses them: ENOTTY."""
    inside = open_namespace("pid", first_inside)
    answers = [seen.errno_of(call, inside, 1) for call in (nsfs.pid_from, nsfs.pid_in)]
    assert seen(answers) == ["ENOTTY", "ENOTTY"]


@behaviour("namespaces.ioctl.mount-namespace-id")
def test_id_of_a_mount_namespace(member: Member, seen: Seen) -> None:
    """NS_GET_MNTNS_ID gives each mount namespace an ID of its own, and refuses another kind: EINVAL."""
    own, other = open_namespace("mnt"), open_namespace("mnt", member(CloneFlag.NEWNS).pid)
    ids = {nsfs.mount_namespace_id(each) for each in (own, other, open_namespace("mnt"))}
    assert len(ids) == 2
    assert seen.errno_of(nsfs.mount_namespace_id, open_namespace("net")) == "EINVAL"


@behaviour("namespaces.ioctl.mounts-of-namespace")
def test_mounts_of_a_namespace(tmp_path: Path, seen: Seen) -> None:
    """NS_MNT_GET_INFO counts a namespace's mounts, and gives the ID that NS_GET_MNTNS_ID gives."""
    namespace = open_namespace("mnt")
    before = nsfs.mount_namespace_info(namespace)
    mount.mount("x", tmp_path, "tmpfs", "")
    after = nsfs.mount_namespace_info(namespace)
    assert after.id == before.id == nsfs.mount_namespace_id(namespace)
    assert seen(after.mounts - before.mounts) == 1


@behaviour("namespaces.ioctl.id-of-first")
def test_ids_of_the_first_namespaces(seen: Seen) -> None:
    """NS_GET_ID gives the first namespace of each kind the number of the header's list."""
    assert seen({kind: nsfs.namespace_id(open_namespace(kind, 1)) for kind in FIRST_IDS} == FIRST_IDS)


@behaviour("namespaces.ioctl.id-never-reused")
def test_ids_of_later_namespaces(in_child: InChild, seen: Seen) -> None:
    """NS_GET_ID gives each namespace, of whichever kind, a number that no other has or had, on each processor."""
    cpus = sorted(os.sched_getaffinity(0))
    first = [nsfs.namespace_id(open_namespace(kind)) for kind in FIRST_IDS]

    def ask(cpu: int) -> int:
        os.sched_setaffinity(0, [cpu])  # on 6.18 each processor hands out numbers of its own: a later one may be less
        unshare(CloneFlag.NEWUTS)
        return nsfs.namespace_id(open_namespace("uts"))

    ended = [int(in_child(partial(ask, cpu))) for cpu in (*reversed(cpus), *cpus)]
    assert seen(len({*first, *ended})) == len(first) + len(ended)


def written_inside(in_child: InChild, value: int, then: Callable[[], str]) -> str:
    """Write pid_max as the first process of a new PID namespace, and return what a function says there."""

    def ask() -> str:
        reader, writer = os.pipe()
        unshare(CloneFlag.NEWPID)
        if os.fork() == 0:
            perform(WriteFile(str(PID_MAX), str(value)))
            os.write(writer, then().encode())
            os._exit(0)
        os.wait()
        return os.read(reader, 100).decode()

    return str(in_child(ask))


@behaviour("namespaces.pid.pid-max-everywhere")
def test_greatest_id(in_child: InChild, seen: Seen) -> None:
    """pid_max that is written in a PID namespace is the limit outside too."""
    assert written_inside(in_child, 5000, lambda: PID_MAX.read_text().strip()) == "5000"
    assert seen(PID_MAX.read_text().strip() == "5000")
