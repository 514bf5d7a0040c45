"""Ports that lead into the guest, without a machine: how they are written, and connections through both ends."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from kernelproof.vm import forward_port as module
from kernelproof.vm.forward_port import Forward, describe, forward_port, forward_ports, parse_forward, parse_target
from kernelproof.vm.machine import Machine
from kernelproof.vm.tests.machine_side.local_machine import LocalMachine, open_machine


@pytest.mark.parametrize(
    ("text", "here", "there"),
    [
        ("8080:80", ("tcp", "127.0.0.1", 8080), ("tcp", "127.0.0.1", 80)),
        ("0:10.0.0.1:80", ("tcp", "127.0.0.1", 0), ("tcp", "10.0.0.1", 80)),
        ("0.0.0.0:8080:80", ("tcp", "0.0.0.0", 8080), ("tcp", "127.0.0.1", 80)),
        ("[::1]:8080:[fe80::1]:80", ("tcp", "::1", 8080), ("tcp", "fe80::1", 80)),
        ("/run/a:/run/b", ("unix", "/run/a"), ("unix", "/run/b")),
        ("/run/a:vsock:1024", ("unix", "/run/a"), ("vsock", 1, 1024)),
        ("8080:vsock:3:1024", ("tcp", "127.0.0.1", 8080), ("vsock", 3, 1024)),
        ("localhost:8080:vsock:1024", ("tcp", "localhost", 8080), ("vsock", 1, 1024)),
    ],
)
def test_text(text: str, here: tuple[object, ...], there: tuple[object, ...]) -> None:
    """Both ends of a forwarded port are read from one text."""
    assert parse_forward(text) == Forward(here, there)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "80:",
        ":80",
        "80:80:80:80",
        "vsock:80:80:80",
        "80:vsock",
        "80:vsock:x",
        "99999:80",
        "[::1:80:80",
        "a:b:c",
    ],
)
def test_text_that_is_none(text: str) -> None:
    """Another text is refused, and quoted."""
    with pytest.raises(ValueError, match=r"does not say|goes on|no port|brackets"):
        parse_forward(text)


@pytest.mark.parametrize("text", ["80", "10.0.0.1:80", "[::1]:80", "/run/x", "vsock:1:5"])
def test_targets_are_written_as_they_are_read(text: str) -> None:
    """What a target is called can be read again."""
    assert parse_target(describe(parse_target(text))) == parse_target(text)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with open_machine() as local:
        yield cast("Machine", local)


@contextmanager
def server(family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)) -> Iterator[object]:
    """Answers each connection with what it got, backwards, when it got all of it."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as data:
                connection.sendall(data.read()[::-1])

    with socket.socket(family) as listening:
        listening.bind(address)  # type: ignore[arg-type]
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def exchange(family: int, address: object, data: bytes) -> bytes:
    with socket.socket(family) as connection:
        connection.settimeout(60)
        connection.connect(address)  # type: ignore[arg-type]
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_tcp(machine: Machine) -> None:
    """What goes in at a port of the host comes out at one of the guest; both directions end for themselves."""
    data = os.urandom(700_000)
    with server() as address, forward_port(machine, address[1]) as here:  # type: ignore[index]
        assert here[0] == "127.0.0.1"
        assert exchange(socket.AF_INET, here, data) == data[::-1]
        assert exchange(socket.AF_INET, here, b"") == b""
    assert cast("LocalMachine", machine).ask({"kind": "ping"}) == {"kind": "pong"}


def test_each_direction_ends_for_itself(machine: Machine) -> None:
    """A server that has said all may still be talked to: the client sees the end, and goes on."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as data:
            connection.sendall(b"all")
            connection.shutdown(socket.SHUT_WR)
            heard.append(data.read())

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        with forward_port(machine, listening.getsockname()[1]) as here:
            with socket.create_connection(here, 60) as connection, connection.makefile("rb") as data:  # type: ignore[arg-type]
                assert data.read() == b"all"
                connection.sendall(b"late")
            thread.join()
    assert heard == [b"late"]


def test_unix_sockets(machine: Machine, tmp_path: Path) -> None:
    """Unix sockets do as well at both ends; the path of the host's is removed after."""
    here, there = tmp_path / "here", tmp_path / "there"
    with server(socket.AF_UNIX, str(there)), forward_port(machine, str(there), str(here)) as (path,):
        assert path == str(here)
        assert exchange(socket.AF_UNIX, path, b"abc") == b"cba"
    assert not here.exists()


def test_several_connections(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections go on side by side; more than are allowed at a time wait for their turn."""
    monkeypatch.setattr(module, "LIMIT", 2)
    answers: list[bytes] = []
    with server() as address:
        forwards = [parse_forward(f"0:{address[1]}"), parse_forward(f"0:127.0.0.1:{address[1]}")]  # type: ignore[index]
        with forward_ports(machine, forwards) as (first, second):
            threads = [
                threading.Thread(target=lambda here=here: answers.append(exchange(socket.AF_INET, here, b"xy")))
                for here in (first, second) * 4
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert answers == [b"yx"] * 8


def test_nobody_listens(machine: Machine) -> None:
    """Where nobody listens in the guest, the connection is closed and others go on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with server() as address:
            port = address[1]  # type: ignore[index]
            forwards = [parse_forward(f"0:{unused.getsockname()[1]}"), parse_forward(f"0:{port}")]
            with forward_ports(machine, forwards) as (refused, other):
                assert exchange(socket.AF_INET, refused, b"") == b""
                assert exchange(socket.AF_INET, other, b"ab") == b"ba"


def test_port_in_use(machine: Machine) -> None:
    """A port of the host that is in use is refused before anything is asked of the machine."""
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        with (
            pytest.raises(OSError, match="Address already in use") as caught,
            forward_port(machine, 80, used.getsockname()[1]),
        ):
            pass
    assert "listen at 127.0.0.1" in caught.value.__notes__[0]


def test_block_that_raises(machine: Machine) -> None:
    """What a block raises comes out of it, and the machine goes on."""
    with pytest.raises(ZeroDivisionError), forward_port(machine, 80):
        raise ZeroDivisionError
    assert cast("LocalMachine", machine).ask({"kind": "ping"}) == {"kind": "pong"}
