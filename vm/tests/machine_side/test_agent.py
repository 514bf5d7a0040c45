"""The agent's answers, without a machine."""

from __future__ import annotations

import io
import os
import socket
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.vm.guest.port import FORKED, Port
from kernelproof.vm.tests.machine_side.local_guest import LocalGuest, open_guest


@pytest.fixture
def guest() -> Iterator[LocalGuest]:
    with open_guest() as guest:
        yield guest


def test_unknown_kind(guest: LocalGuest) -> None:
    """A message of an unknown kind is answered with an error, and the agent goes on."""
    answer = guest.ask({"kind": "dance"})
    assert (answer["kind"], answer["type"]) == ("error", "FrameError")
    assert "unknown kind of message 'dance'" in str(answer["text"])
    assert guest.ask({"kind": "ping"}) == {"kind": "pong"}


def test_other_protocol(guest: LocalGuest) -> None:
    """A message of another protocol is answered with an error that names both."""
    answer = guest.ask({"kind": "ping", "protocol": 2})
    assert "protocol 2, this agent speaks 1" in str(answer["text"])


def test_command(guest: LocalGuest) -> None:
    """A command's two streams come as frames of their own."""
    script = "import sys; data = sys.stdin.buffer.read(); print(len(data)); sys.stderr.write('e'); sys.exit(4)"
    answer = guest.ask({"kind": "exec", "argv": [sys.executable, "-c", script]}, bytes(3_000_000))
    assert answer == {"kind": "exec-result", "returncode": 4, "stdout_bytes": 8, "stderr_bytes": 1}
    assert (guest.receive_bytes(), guest.receive_bytes()) == (b"3000000\n", b"e")


def test_command_that_reads_no_input(guest: LocalGuest) -> None:
    """A command may end without reading its input."""
    answer = guest.ask({"kind": "exec", "argv": ["true"]}, bytes(3_000_000))
    assert answer["returncode"] == 0
    assert (guest.receive_bytes(), guest.receive_bytes()) == (b"", b"")


def test_call_that_raises(guest: LocalGuest) -> None:
    """What a function raises is answered with its traceback, and the agent goes on."""
    answer = guest.ask({"kind": "call", "function": "json:loads", "arguments": ["{"], "keywords": {}})
    assert answer["type"] == "JSONDecodeError"
    assert "Expecting property name" in str(answer["text"])
    assert guest.ask({"kind": "ping"}) == {"kind": "pong"}


def test_push_file(guest: LocalGuest, tmp_path: Path) -> None:
    """A file is pushed in frames that an empty one ends; parents are made."""
    target = tmp_path / "a/b"
    answer = guest.ask({"kind": "push", "form": "file", "path": str(target), "mode": 0o750}, b"one", b"two", b"")
    assert answer == {"kind": "pushed"}
    assert target.read_bytes() == b"onetwo"
    assert target.stat().st_mode & 0o7777 == 0o750


def test_push_archive(guest: LocalGuest, tmp_path: Path) -> None:
    """An archive is unpacked below its destination, however its frames are cut."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("x/y")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    data = packed.getvalue()
    cut = [data[start : start + 700] for start in range(0, len(data), 700)]
    assert guest.ask({"kind": "push", "form": "tar", "path": str(tmp_path / "t")}, *cut, b"") == {"kind": "pushed"}
    assert (tmp_path / "t/x/y").read_bytes() == b"hello"


@pytest.mark.parametrize("form", ["tar", "file"])
def test_push_that_fails(guest: LocalGuest, tmp_path: Path, form: str) -> None:
    """A push that fails is read to its end: the next message is understood."""
    (tmp_path / "file").write_bytes(b"")
    message = {"kind": "push", "form": form, "path": str(tmp_path / "file/below"), "mode": 0o644}
    assert guest.ask(message, b"not an archive", b"more", b"")["kind"] == "error"
    assert guest.ask({"kind": "ping"}) == {"kind": "pong"}


def test_pull_tree(guest: LocalGuest, tmp_path: Path) -> None:
    """Regular files of a tree are sent in order; links, pipes and directories are not."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/two").write_bytes(b"2")
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "link").symlink_to("one")
    os.mkfifo(tmp_path / "pipe")
    guest.send({"kind": "pull", "path": str(tmp_path)})
    seen = []
    while (message := guest.receive())["kind"] == "file":
        seen.append((message["path"], guest.receive_bytes(), guest.receive_bytes()))
    assert seen == [("one", b"1", b""), ("d/two", b"2", b"")]
    assert message == {"kind": "pulled", "files": 2}


def test_pull_of_what_is_not_there(guest: LocalGuest) -> None:
    """A path that is not there is an error."""
    assert guest.ask({"kind": "pull", "path": "/absent"})["type"] == "FileNotFoundError"


def test_port_applies_the_wake() -> None:
    """A port takes the wake out of a message and applies it first."""
    woken: list[object] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Port(ours.fileno()).send({"kind": "x", "wake": {"seed": 1}})
        assert Port(theirs.fileno(), woken.append).receive() == {"kind": "x"}
    assert woken == [{"seed": 1}]


def test_port_without_its_host() -> None:
    """A port whose other end is closed says so."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            Port(theirs.fileno()).receive()


def test_port_in_a_forked_child() -> None:
    """A forked child that would answer for its parent ends instead."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        port = Port(ours.fileno())
        if (child := os.fork()) == 0:
            try:
                port.send({"kind": "report"})
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == FORKED
        ours.shutdown(socket.SHUT_WR)
        assert theirs.recv(100) == b""
