"""What a process sees of the namespaces it was put into."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from pyroute2 import IPRoute

from kernelproof import behaviour
from kernelproof.impl._syscalls.identity import sethostname
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

HOSTNAME = Path("/proc/sys/kernel/hostname")
LIMIT = Path("/proc/sys/user/max_uts_namespaces")


@behaviour("namespaces.uts.isolated", subject="stand-in")
def test_hostname_stays_inside(in_child: InChild) -> None:
    """A host name that a process sets in its new UTS namespace is not the one of the namespace it left."""
    sethostname("outside")

    def rename() -> list[str]:
        unshare(CloneFlag.NEWUTS)
        sethostname("inside")
        return [os.uname().nodename, HOSTNAME.read_text().strip()]

    assert in_child(rename) == ["inside", "inside"]
    assert os.uname().nodename == "outside"
    assert HOSTNAME.read_text().strip() == "outside"


@behaviour("namespaces.pid.first-child-is-one", subject="stand-in")
def test_first_two_processes_of_a_pid_namespace(in_child: InChild) -> None:
    """The first process that is forked after unshare(CLONE_NEWPID) has pid 1 in the new namespace, the next pid 2."""

    def fork_two() -> list[list[int]]:
        unshare(CloneFlag.NEWPID)
        children = [fork_and_tell() for _ in range(2)]
        answers = [[told, pid_inside(pid)] for pid, told in children]
        for pid, _ in reversed(children):  # pid 1 cannot end before the others have been waited for
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return answers

    def fork_and_tell() -> tuple[int, int]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, str(os.getpid()).encode())
            while True:
                signal.pause()
        return pid, int(os.read(reader, 16))

    def pid_inside(pid: int) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (inner,) = (line.split()[-1] for line in lines if line.startswith("NSpid:"))
        return int(inner)

    assert in_child(fork_two) == [[1, 1], [2, 2]]


@behaviour("namespaces.limits.enospc", subject="stand-in")
def test_limit_of_uts_namespaces_holds_for_root(in_child: InChild, seen: Seen) -> None:
    """With 0 in max_uts_namespaces not even user ID 0 gets a new UTS namespace: ENOSPC."""

    def try_once() -> list[str | int]:
        return [os.getuid(), seen.errno_of(unshare, CloneFlag.NEWUTS)]

    assert in_child(try_once) == [0, "no error"]
    LIMIT.write_text("0")
    assert seen(in_child(try_once)) == [0, "ENOSPC"]


@behaviour("namespaces.time.unsharer-stays-outside", subject="stand-in")
def test_unshare_of_time_is_for_children(in_child: InChild) -> None:
    """unshare(CLONE_NEWTIME) leaves the caller in its time namespace and names a new one for its children."""

    def links() -> list[str]:
        return [os.readlink(f"/proc/self/ns/{name}") for name in ("time", "time_for_children")]

    def leave() -> list[list[str]]:
        before = links()
        unshare(CloneFlag.NEWTIME)
        return [before, links()]

    (own, for_children), (own_after, for_children_after) = in_child(leave)
    assert own == for_children == own_after
    assert for_children_after != own
    assert for_children_after.startswith("time:[")


@behaviour("namespaces.net.fresh-namespace-has-only-lo", subject="stand-in")
def test_new_network_namespace_has_no_old_device(in_child: InChild) -> None:
    """A network namespace fresh from unshare(2) lists none of the devices of the one it was created from."""

    def devices() -> set[str]:
        lines = Path("/proc/self/net/dev").read_text().splitlines()
        return {line.split(":")[0].strip() for line in lines if ":" in line}

    with IPRoute() as route:
        route.link("add", ifname="left", kind="veth", peer={"ifname": "right"})
    # "lo" is left out: every namespace has one of its own by that name.
    old = devices() - {"lo"}
    assert old >= {"left", "right"}

    def devices_inside() -> list[str]:
        unshare(CloneFlag.NEWNET)
        return sorted(devices())

    inside = in_child(devices_inside)
    assert "lo" in inside
    assert old.isdisjoint(inside)
