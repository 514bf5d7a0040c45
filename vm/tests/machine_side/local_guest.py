"""The guest's agent in a process of this host, over a socket pair: no machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kernelproof.vm.guest.frames import BYTES, JSON, FrameReader, decode_message, encode_frame, encode_message

AGENT = """
import sys
from kernelproof.vm.guest import agent
from kernelproof.vm.tests.interruptible import listen
listen()
agent.Waker = lambda: print
agent.serve(int(sys.argv[1]), {"imports": ["json", "kernelproof_absent"]}, ("absent",))
"""


class LocalGuest:
    """The host's end, blocking and trusting: what the agent sends is under test, not who reads it."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._reader = FrameReader()

    def send(self, message: Mapping[str, object], *raw: bytes) -> None:
        self._stream.sendall(
            b"".join((encode_message({"protocol": 1, **message}), *(encode_frame(BYTES, data) for data in raw)))
        )

    def receive(self) -> dict[str, object]:
        return decode_message(self._take(JSON))

    def receive_bytes(self) -> bytes:
        return self._take(BYTES)

    def ask(self, message: Mapping[str, object], *raw: bytes) -> dict[str, object]:
        self.send(message, *raw)
        return self.receive()

    def _take(self, due: bytes) -> bytes:
        while (frame := self._reader.take()) is None:
            data = self._stream.recv(65536)
            if not data:
                raise EOFError
            self._reader.feed(data)
        assert frame[0] == due
        return frame[1]


@contextmanager
def open_guest() -> Iterator[LocalGuest]:
    """An agent that said hello; it must have ended well when the block is left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(number)], pass_fds=[number], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        theirs.close()
        with process:
            guest = LocalGuest(ours)
            assert guest.receive()["kind"] == "hello"
            yield guest
            ours.close()
            assert process.wait(60) == 0
