"""The host's end of conversations of streams against the guest's agent in a process of this host: no machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kernelproof.vm.channel import Channel
from kernelproof.vm.errors import GuestError
from kernelproof.vm.guest.frames import decode_message, encode_message
from kernelproof.vm.tests.machine_side.local_guest import AGENT

SECONDS = 60.0
FACTS: Mapping[str, Any] = {
    "kernel": {"name": "9.1", "series": "9.1", "release": "9.1.2-test", "package": None, "build": None},
    "guest": {"python": "3.13"},
    "machine": {"time": "real", "cpus": 1},
}


class LocalMachine:
    """As much of `Machine` as attends to programs; `pid` is its agent's."""

    def __init__(self, channel: Channel, pid: int) -> None:
        self.channel = channel
        self.pid = pid
        self.facts = FACTS

    @contextmanager
    def attending(self, message: Mapping[str, object]) -> Iterator[Channel]:
        self.channel.send(encode_message({**message, "protocol": 1}), time.monotonic() + SECONDS)
        yield self.channel

    def read_attended(self, answer: Mapping[str, Any]) -> int:
        if answer["kind"] == "error":
            raise GuestError("attend", str(answer["type"]), str(answer["text"]))
        return int(answer["returncode"])

    def log(self) -> str:
        return ""

    def call(self, function: str, *arguments: object) -> object:
        message = {"kind": "call", "function": function, "arguments": list(arguments), "keywords": {}}
        return self.ask(message)["value"]

    def ask(self, message: Mapping[str, object]) -> dict[str, object]:
        deadline = time.monotonic() + SECONDS
        self.channel.send(encode_message({**message, "protocol": 1}), deadline)
        return decode_message(self.channel.receive(deadline)[1])


@contextmanager
def open_machine() -> Iterator[LocalMachine]:
    """An agent that said hello; killed when the block is left, as a machine is."""
    ours, theirs = socket.socketpair()
    control, other = socket.socketpair()
    with theirs, other:
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(number)],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what an agent says that is dropped in the middle
            env=dict(os.environ),
        )
        theirs.close()
        pidfd = os.pidfd_open(process.pid)
        channel = Channel(ours, control, pidfd)
        with process:
            try:
                assert decode_message(channel.receive(time.monotonic() + SECONDS)[1])["kind"] == "hello"
                yield LocalMachine(channel, process.pid)
            finally:
                channel.close()
                os.close(pidfd)
                process.kill()
