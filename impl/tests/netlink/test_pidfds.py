"""A descriptor of a process stands for its network namespace, wherever one is to be said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EINVAL, ENOTTY
from typing import NamedTuple

import pytest

from kernelproof.impl._syscalls import pidfd_info
from kernelproof.impl.netlink import netns
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.netns import call_in, open_namespace
from kernelproof.impl.netlink.rtnl import Rtnl


class Elsewhere(NamedTuple):
    """A process in a namespace of its own, beside the namespace of the test."""

    pidfd: int
    inode: int
    here: int


@pytest.fixture
def elsewhere(namespace: int) -> Iterator[Elsewhere]:
    """A process that waits in a new network namespace until its input ends."""
    script = "import ctypes, sys; ctypes.CDLL(None).unshare(0x40000000); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        try:
            fd = os.pidfd_open(process.pid)
            yield Elsewhere(fd, os.stat(f"/proc/{process.pid}/ns/net").st_ino, namespace)
            os.close(fd)
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()


def unknown_request(pidfd: int, namespace: object) -> int:
    """What Linux before 6.11 says."""
    raise OSError(ENOTTY, "Inappropriate ioctl for device")


@pytest.mark.rule("N+5")
@pytest.mark.parametrize("is_old", [False, True], ids=["asked", "joined"])
def test_a_pidfd_is_opened_as_a_namespace(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, is_old: bool) -> None:
    """The process's namespace is opened, with and without the kernel's request for it; the caller stays where it is."""
    if is_old:
        monkeypatch.setattr(pidfd_info, "open_namespace_of", unknown_request)
    before = os.stat("/proc/thread-self/ns/net").st_ino
    fd = open_namespace(elsewhere.pidfd)
    assert os.fstat(fd).st_ino == elsewhere.inode != before
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


@pytest.mark.rule("N+5")
def test_a_pidfd_is_said_to_the_kernel(elsewhere: Elsewhere) -> None:
    """Links are moved and made there, the other end of a pair too, and the namespace gets its number."""
    with Rtnl(elsewhere.here) as net, Rtnl(elsewhere.pidfd) as there:
        number = net.namespace_id_set(elsewhere.pidfd)
        assert net.namespace_id(elsewhere.pidfd) == number
        try:
            net.link_add("v0", "veth", peer={"name": "v1", "namespace": elsewhere.pidfd})
        except NetlinkError as error:
            if error.errno == EINVAL:
                raise
            pytest.skip(f"no pairs of links here: {error}")
        net.link_set("v0", namespace=elsewhere.pidfd)
        assert {link.name for link in net.links()} == {"lo"}
        net.link_add("v2", "veth", peer={"name": "v3"}, namespace=elsewhere.pidfd)
        assert {link.name for link in there.links()} >= {"lo", "v0", "v1", "v2"}
    assert call_in(elsewhere.pidfd, os.stat, "/proc/thread-self/ns/net").st_ino == elsewhere.inode


@pytest.mark.rule("N+5")
def test_other_descriptors_are_no_namespace(namespace: int, descriptors: Callable[[], list[str]]) -> None:
    """A descriptor of something else is EINVAL, a closed one EBADF, and one of a namespace is that namespace."""
    before = len(descriptors())
    with open(os.devnull) as nothing, pytest.raises(OSError, match="Invalid argument"):
        open_namespace(nothing.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        open_namespace(999_999)
    fd = open_namespace(namespace)
    assert netns.is_same_namespace(fd, namespace)
    os.close(fd)
    assert len(descriptors()) == before
