"""READY=1 of a program, told outside: what goes on of what is said, and when nobody says anything."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer import Host, Request, plan_container
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.notifying import BindNotify, MakeNotify, listen, relay, with_socket


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    """A directory of a state with that of the socket."""
    (tmp_path / "notify").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


class Manager(threading.Thread):
    """Whoever waits for the service: takes two messages, and lets go what comes with the second."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(60)

    def run(self) -> None:
        for _ in range(2):
            data, descriptors, _, _ = socket.recv_fds(self.socket, 100, 2)
            self.messages.append(data)
            for fd in descriptors:
                os.close(fd)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Manager]:
    """It listens; a test that tells it something starts it."""
    manager = Manager(str(tmp_path / "host"))
    yield manager
    manager.socket.close()


def say(tmp_path: Path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(str(tmp_path / "notify/notify.sock"))
        for message in messages:
            made.send(message)


def test_only_readiness_goes_on(tmp_path: Path, state: int, host: Manager) -> None:
    """Words that are no READY=1 stay inside, and the pid is the one that is known outside."""
    heard = listen(state)
    assert (tmp_path / "notify/notify.sock").stat().st_mode & 0o777 == 0o777
    say(tmp_path, b"STATUS=waiting", b"READY=10", b"MAINPID=1\nREADY=1\nSTATUS=on")
    pidfd = os.pidfd_open(os.getpid())
    host.start()
    assert relay(heard, str(tmp_path / "host"), 77, pidfd)
    os.close(pidfd)
    assert host.messages == [b"READY=1\nMAINPID=77", b"BARRIER=1"]  # both were taken before it returned
    host.join()


def test_a_manager_that_takes_nothing(tmp_path: Path, state: int, host: Manager) -> None:
    """It is waited for no longer than is said, and what it was told stands."""
    heard = listen(state)
    say(tmp_path, b"READY=1")
    pidfd = os.pidfd_open(os.getpid())
    assert relay(heard, str(tmp_path / "host"), 77, pidfd, patience_seconds=0.01)
    os.close(pidfd)
    assert host.socket.recv(100) == b"READY=1\nMAINPID=77"


def test_a_barrier_is_let_go(tmp_path: Path, state: int, host: Manager) -> None:
    """Descriptors that come with a message are closed, so that who waits for that goes on."""
    heard = listen(state)
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(str(tmp_path / "notify/notify.sock"))
        socket.send_fds(made, [b"BARRIER=1"], [writer])
        made.send(b"READY=1")
    os.close(writer)
    pidfd = os.pidfd_open(os.getpid())
    host.start()
    assert relay(heard, str(tmp_path / "host"), 7, pidfd)
    os.close(pidfd)
    host.join()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_an_end_without_a_word(tmp_path: Path, state: int, host: Manager) -> None:
    """When the program ends before it is ready, nothing is told and nobody waits."""
    heard = listen(state)
    child = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], {})
    pidfd = os.pidfd_open(child)
    assert not relay(heard, str(tmp_path / "host"), child, pidfd)
    os.close(pidfd)
    os.waitpid(child, 0)


def test_the_plan() -> None:
    """The directory is made before the process, bound after all mounts, and the image's own variable is gone."""
    config = with_socket(Config.minimal("rootfs", ["true"], env=("NOTIFY_SOCKET=/evil", "A=b")))
    assert config.process is not None
    assert config.process.env == ("A=b", "NOTIFY_SOCKET=/run/notify/notify.sock")
    plan = plan_container(config, Host(), Request("box", "/b", waits=False, notifies=True))
    names = [type(one).__name__ for one in plan]
    assert names.index("MakeNotify") < names.index("MakeProcess")
    assert names.index("BindNotify") < names.index("PivotRoot")
    assert names.index("BindNotify") > max(place for place, name in enumerate(names) if name.startswith("Mount"))
    assert MakeNotify(True) in plan
    assert BindNotify() in plan
