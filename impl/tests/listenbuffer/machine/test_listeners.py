"""Listeners in a machine: as many clients as wish to wait, and what needs a kernel of one's own."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import GatedListener, listen
from kernelproof.impl.listenbuffer.inherit import inherit, spawn_with_sockets

pytestmark = pytest.mark.machine(profile="plain")

SYSCTL = Path("/proc/sys/net")
SECONDS = 30.0
RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE, RTM_NEWROUTE, RTN_LOCAL = 0x40, 0x400, 24, 2


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Room for many descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def connect_many(listener: GatedListener, count: int) -> list[socket.socket]:
    """Connect clients one after the other, each sending its number."""
    clients = []
    for number in range(count):
        client = socket.socket(listener.family, socket.SOCK_STREAM)
        client.settimeout(SECONDS)
        client.connect(listener.getsockname())
        client.sendall(number.to_bytes(4, "big"))
        clients.append(client)
    return clients


@pytest.mark.long
@pytest.mark.rule("L1")
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "unix:@many"], ids=["tcp", "unix"])
def test_ten_thousand_wait(address: str, full_number: Callable[[int], int]) -> None:
    """All clients connect before the activation, none is refused, and each is answered with its own number after it."""
    count = full_number(10_000)
    (SYSCTL / "core/somaxconn").write_text(str(count))
    with listen(address, backlog=count) as listener:
        clients = connect_many(listener, count)
        assert (listener.pending(), listener.effective_backlog) == (count, count)
        assert listener.dropped() == 0
        listener.activate()
        for _ in range(count):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(4))
        answers = [int.from_bytes(client.recv(4), "big") for client in clients]
        assert answers == list(range(count))
        assert listener.pending() == 0
    for client in clients:
        client.close()


def load(module: str) -> str | None:
    """Load a kernel module; say why not."""
    done = subprocess.run(["modprobe", module], capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"modprobe {module} ended with {done.returncode}" if done.returncode else None


@pytest.mark.rule("L+1")
def test_vsock() -> None:
    """A vsock listener holds clients of the same machine back until its gate opens, where the kernel has a loopback."""
    refused = load("vsock_loopback")
    if refused:
        pytest.skip(f"not applicable: {refused}")
    with listen("vsock://any:4711") as listener, socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
        listener.settimeout(SECONDS)
        client.settimeout(SECONDS)
        client.connect((socket.VMADDR_CID_LOCAL if hasattr(socket, "VMADDR_CID_LOCAL") else 1, 4711))
        client.sendall(b"early")
        assert not select.select([listener], [], [], 0)[0]
        listener.activate()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(5) == b"early"


def test_dual_stack() -> None:
    """One listener on :: serves both families or one, as was said, whatever the system's default."""
    answers = {}
    for default in ("0", "1"):
        (SYSCTL / "ipv6/bindv6only").write_text(default)
        for dual in (True, False):
            with listen("tcp6://[::]:0", dual_stack=dual) as listener:
                port = listener.getsockname()[1]
                answers[default, dual] = [reaches(family, port) for family in (socket.AF_INET6, socket.AF_INET)]
    assert answers == {(default, dual): [True, dual] for default in ("0", "1") for dual in (True, False)}


def reaches(family: int, port: int) -> bool:
    """Whether a loopback client of a family is connected."""
    with socket.socket(family) as client:
        client.settimeout(SECONDS)
        return client.connect_ex(("::1" if family == socket.AF_INET6 else "127.0.0.1", port)) == 0


@contextmanager
def until_local_route() -> Iterator[None]:
    """At its end the kernel has told of an address's own route: IPv6 adds that in a work queue, without DAD too."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as events:
        events.bind((0, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE))
        events.settimeout(SECONDS)
        yield
        told: tuple[int, int] | None = None
        while told != (RTM_NEWROUTE, RTN_LOCAL):
            told = struct.unpack_from("=4xH10x7xB", events.recv(8192))  # struct nlmsghdr, struct rtmsg


def test_an_address_that_comes_later() -> None:
    """A listener on an address that no interface has yet serves once one has it (IP_FREEBIND)."""
    for address, prefix in (("192.0.2.7", "32"), ("2001:db8::7", "128")):
        word = "tcp6" if ":" in address else "tcp4"
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(OSError, match="Cannot assign requested address"):
            listen(f"{word}://{host}:4712")
        with listen(f"{word}://{host}:4712", freebind=True) as listener:
            with socket.socket(listener.family) as early:
                early.settimeout(SECONDS)
                assert early.connect_ex((address, 4712)) != 0
            options = ["nodad"] if ":" in address else []
            with until_local_route():
                subprocess.run(["ip", "address", "add", f"{address}/{prefix}", "dev", "lo", *options], check=True)
            with socket.socket(listener.family) as late:
                late.settimeout(SECONDS)
                late.connect((address, 4712))
                assert listener.pending() == 1


def test_a_group_shares_the_load() -> None:
    """Of a group on one port (SO_REUSEPORT) each member gets some of many clients, and together they get all."""
    with listen("tcp://127.0.0.1:0", reuse_port=True) as first:
        where = f"tcp://127.0.0.1:{first.getsockname()[1]}"
        members = [first, *(listen(where, reuse_port=True) for _ in range(3))]
        clients = connect_many(first, 200)
        waiting = [member.pending() or 0 for member in members]
        assert sum(waiting) == 200
        assert min(waiting) > 10
        for member in members[1:]:
            member.close()
        for client in clients:
            client.close()


def test_datagrams_are_divided_by_their_senders() -> None:
    """Of a group of UDP receivers each sender's datagrams go to one, in order."""
    with listen("udp://127.0.0.1:0", reuse_port=True) as first:
        port = first.getsockname()[1]
        with listen(f"udp://127.0.0.1:{port}", reuse_port=True) as second:
            senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
            for number in range(5):
                for sender in senders:
                    sender.sendto(number.to_bytes(1, "big"), ("127.0.0.1", port))
            got: dict[tuple[str, int], list[int]] = {}
            receivers: Counter[object] = Counter()
            for receiver in (first, second):
                receiver.activate()
                receiver.setblocking(False)
                while select.select([receiver.real_fileno()], [], [], 0)[0]:
                    data, peer = receiver.recvfrom(10)
                    receivers[receiver] += peer not in got
                    got.setdefault(peer, []).append(data[0])
            assert sorted(got.values()) == [[0, 1, 2, 3, 4]] * 20
            assert min(receivers.values()) > 0
            for sender in senders:
                sender.close()


CHILD = """
import os, socket, sys
from kernelproof.impl.listenbuffer.inherit import inherit
(found,) = inherit()
with found.listener() as listener:
    listener.activate()
    connection, _ = listener.accept()
    with connection:
        connection.sendall(found.name.encode() + b" " + str(found.listening).encode())
"""


@pytest.mark.rule("L5")
def test_activated_by_its_pidfd() -> None:
    """A program that is started with a socket takes it, as LISTEN_PIDFDID is its own where pidfds have numbers."""
    with listen("unix:@activated") as listener:
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        pid = spawn_with_sockets([sys.executable, "-c", CHILD], {"web": listener}, environment={**os.environ, **path})
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect("\0activated")
            assert client.recv(100) == b"web True"
    assert os.waitpid(pid, 0)[1] == 0
    assert inherit(environment={}) == ()


@pytest.mark.long
@pytest.mark.rule("L4")
def test_starters_on_a_stale_path(tmp_path: Path, full_number: Callable[[int], int]) -> None:
    """However often sixteen start at once on a stale path, exactly one gets it, and its clients reach it."""
    path = str(tmp_path / "socket")
    for _ in range(full_number(200)):
        with listen(f"unix:{path}") as first:
            first.release()
        got: list[GatedListener] = []
        refused: list[int | None] = []
        barrier = threading.Barrier(16)

        def start(
            barrier: threading.Barrier = barrier,
            got: list[GatedListener] = got,
            refused: list[int | None] = refused,
        ) -> None:
            barrier.wait()
            try:
                got.append(listen(f"unix:{path}"))
            except OSError as error:
                refused.append(error.errno)

        threads = [threading.Thread(target=start) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), refused) == (1, [errno.EADDRINUSE] * 15)
        got[0].activate()
        with socket.socket(socket.AF_UNIX) as client:
            client.bind("")
            client.connect(path)
            while True:  # those who looked whether anybody listens are in the queue as well
                connection, peer = got[0].accept()
                connection.close()
                if peer == client.getsockname():
                    break
        got[0].close()
        assert not Path(path).exists()
