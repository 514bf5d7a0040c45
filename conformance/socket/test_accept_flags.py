"""accept4(2) and its flags, and who may mark what a socket sends."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_bits
from kernelproof.impl._syscalls.accepting import SocketFlag, accept4
from kernelproof.impl._syscalls.capabilities import capset
from kernelproof.impl._syscalls.prctl import PR_SET_KEEPCAPS, prctl
from kernelproof.impl.user import set_gids, set_uids

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client
    from kernelproof.impl.listenbuffer import GatedListener

NET_ADMIN, NET_RAW = 12, 13


@behaviour("socket.accept.accept4-flags")
@pytest.mark.parametrize(
    ("flags", "is_inheritable", "is_blocking"),
    [
        pytest.param(SocketFlag.CLOEXEC | SocketFlag.NONBLOCK, False, False, id="both"),
        pytest.param(0, True, True, id="none"),
    ],
)
def test_flags(
    tcp: GatedListener, client: Client, flags: int, is_inheritable: bool, is_blocking: bool, seen: Seen
) -> None:
    """The new socket is close-on-exec and non-blocking when the flags say so, and else neither."""
    client(tcp)
    tcp.setblocking(True)
    accepted = accept4(tcp.fileno(), flags)
    assert seen([os.get_inheritable(accepted), os.get_blocking(accepted)]) == [is_inheritable, is_blocking]


@behaviour("socket.accept.accept4-unknown-flags")
def test_unknown_flags(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """Another flag gives EINVAL, and the connection can still be taken."""
    client(tcp)
    tcp.setblocking(True)
    assert seen.errno_of(accept4, tcp.fileno(), 1) == "EINVAL"
    os.close(accept4(tcp.fileno()))


def mark_with(seen: Seen, capability: int) -> str:
    """Set SO_MARK as a user who has one capability; the mark that is read back, or the errno."""
    prctl(PR_SET_KEEPCAPS, 1)
    set_gids(1000, 1000, 1000)
    set_uids(1000, 1000, 1000)
    capset(1 << capability, 1 << capability, 0)
    assert status_bits("CapEff") == 1 << capability
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        answer = seen.errno_of(one.setsockopt, socket.SOL_SOCKET, socket.SO_MARK, 7)
        return answer if answer != "no error" else str(one.getsockopt(socket.SOL_SOCKET, socket.SO_MARK))


@behaviour("socket.mark.net-raw")
def test_mark_with_net_raw(in_child: InChild, seen: Seen) -> None:
    """CAP_NET_RAW alone is enough to set SO_MARK, as CAP_NET_ADMIN is."""
    assert seen([in_child(lambda: mark_with(seen, NET_ADMIN)), in_child(lambda: mark_with(seen, NET_RAW))]) == ["7"] * 2


@behaviour("socket.mark.net-raw-before-5-17")
def test_mark_on_an_older_kernel(in_child: InChild, seen: Seen) -> None:
    """An older kernel refuses SO_MARK to CAP_NET_RAW: EPERM."""
    answers = [in_child(lambda: mark_with(seen, NET_ADMIN)), in_child(lambda: mark_with(seen, NET_RAW))]
    assert seen(answers) == ["7", "EPERM"]
