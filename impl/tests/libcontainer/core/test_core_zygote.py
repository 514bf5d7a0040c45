"""The helper that makes containers for a program with threads: what it answers, asked over its socket."""

from __future__ import annotations

import gc
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.process import zygote
from kernelproof.impl.libcontainer.process.channel import Channel, open_channel


class Ended(BaseException):
    """In place of the process's end."""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Channel, Channel]]:
    """The program's end of the socket and the helper's, which serves here and not in a process of its own."""

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)
    ours, theirs = open_channel()
    monkeypatch.setattr(zygote, "channel_of", lambda fd: theirs)
    yield ours, theirs
    gc.unfreeze()
    for one in (ours, theirs):
        one.close()


def test_requests_that_fail(program: tuple[Channel, Channel], tmp_path: Path) -> None:
    """Each request for a container that there is not is answered with the reason, and the helper goes on serving."""
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}}))
    ours, theirs = program
    before = len(os.listdir("/dev/fd"))
    with process.open("rb") as file:
        for number in (1, 2):
            ours.send(number, "execute", {"root": str(tmp_path), "id": f"box{number}"}, [file.fileno()])
    with socket.socket(fileno=os.dup(ours.fileno())) as end:
        end.shutdown(socket.SHUT_WR)  # the program asks no more, and still reads
    with pytest.raises(Ended, match="0"):
        zygote.main(theirs.fileno(), "")
    assert len(os.listdir("/dev/fd")) == before
    ready, *answers = (ours.receive() for _ in range(3))
    assert ready is not None
    assert (ready.kind, ready.values["pid"]) == ("ready", os.getpid())
    for number, answer in enumerate(answers, 1):
        assert answer is not None
        assert (answer.number, answer.kind, answer.values["class"]) == (number, "failed", "NoSuchContainerError")
        assert (answer.values["text"], answer.values["wait for"]) == (f"container 'box{number}' does not exist", [])
