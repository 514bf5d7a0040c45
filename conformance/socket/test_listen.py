"""TCP listeners and what they may bind, observed through /proc/net/tcp and TCP_INFO."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
ESTABLISHED, LISTEN = "01", "0A"  # include/net/tcp_states.h
# struct tcp_info (linux/tcp.h): 8 bytes, then 32-bit words; the sixth is tcpi_sacked, a listener's backlog.
BACKLOG = struct.Struct("=8x20xI")


def states_of_port(port: int) -> list[str]:
    """Return the states of the sockets that have the port at one of their two ends."""
    states = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if port in (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)):
            states.append(state)
    return sorted(states)


@behaviour("socket.queue.connect-before-accept", subject="stand-in")
def test_connect_needs_no_accept() -> None:
    """connect(2) succeeds while the server has not called accept(2): both ends are established already."""
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        assert states_of_port(port) == [LISTEN]
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        assert states_of_port(port) == [ESTABLISHED, ESTABLISHED, LISTEN]


@behaviour("socket.listen.somaxconn-cap", subject="stand-in")
def test_backlog_is_cut_silently(seen: Seen) -> None:
    """A backlog above net.core.somaxconn is cut to that value without an error."""
    SOMAXCONN.write_text("7")
    backlogs = []
    for asked in (5, 7, 100):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(asked)
            information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            backlogs.append(BACKLOG.unpack_from(information)[0])
    assert seen(backlogs) == [5, 7, 7]


@behaviour("socket.bind.privileged-port", subject="stand-in")
def test_ports_below_1024_are_privileged(in_child: InChild, seen: Seen) -> None:
    """Without CAP_NET_BIND_SERVICE a port below 1024 is refused with EACCES, and 1024 is not."""

    def bind_each() -> list[str]:
        answers = []
        for port in (1, 1023, 1024):
            with socket.socket() as unbound:
                answers.append(seen.errno_of(unbound.bind, ("127.0.0.1", port)))
        return answers

    def bind_unprivileged() -> list[str]:
        os.setresuid(1000, 1000, 1000)
        return bind_each()

    assert in_child(bind_each) == ["no error"] * 3
    answers = in_child(bind_unprivileged)
    assert seen(answers) == ["EACCES", "EACCES", "no error"]
