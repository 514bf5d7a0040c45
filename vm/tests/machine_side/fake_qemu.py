"""Stands in for QEMU and its guest: speaks QMP and the agent's protocol, and lies as it is told. Run as a program.

The environment variable FAKE_QEMU names what it does; `ROLES` below. Everything else is as the host expects it.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import sys
from collections.abc import Callable


def frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack("!Ic", len(payload), kind) + payload


def message(**members: object) -> bytes:
    return frame(b"J", json.dumps(members).encode())


def pulled(path: str) -> bytes:
    return message(kind="file", path=path) + frame(b"B", b"data") + frame(b"B", b"") + message(kind="pulled", files=1)


PONG = message(kind="pong")

# What the guest answers to its first message.
ANSWERS: dict[str, bytes | Callable[[], bytes]] = {
    "honest": PONG,
    "oversized": struct.pack("!Ic", 17 * 1024 * 1024, b"J") + b"x",
    "unknown-frame": struct.pack("!Ic", 4, b"Q") + b"1234",
    "bytes-for-message": frame(b"B", b"data"),
    "no-json": frame(b"J", b"not json"),
    "not-utf8": frame(b"J", b'{"kind": "\xff"}'),
    "wrong-kind": message(kind="collected", nodeids=[]),
    "deep": frame(b"J", b'{"kind":"pong","x":' + b"[" * 200 + b"]" * 200 + b"}"),
    "nan": frame(b"J", b'{"kind":"pong","x":NaN}'),
    "out-of-step": PONG + frame(b"B", bytes(1024)),
    "unasked": PONG + frame(b"B", bytes(1024 * 1024)) * 70,
    "endless": lambda: message(kind="report", data={"x": "y" * 15_000_000}) * 5,
    "unfinished": message(kind="report", data={}) * 2,
    "traversal": pulled("../../escaped"),
    "absolute": pulled("/tmp/escaped"),
    "truncated": message(kind="pong")[:-1],
    "silent": b"",
    "ends-late": b"",
    "says-it-ends": b"",
    "events": b"",
    "long-line": b"",
    "error": message(kind="error", type="Bad\x1b[0m", text="line\x1b[31m\n"),
    "more-output-than-said": message(kind="exec-result", returncode=0, stdout_bytes=1, stderr_bytes=0)
    + frame(b"B", bytes(9 * 1024 * 1024))
    + frame(b"B", b""),
}


class Fake:
    def __init__(self, role: str, arguments: list[str]) -> None:
        self.role = role
        text = "\n".join(arguments)
        self.qmp = socket.socket(fileno=self.number(r"id=qmp,fd=(\d+)", text))
        self.agent = socket.socket(fileno=self.number(r"id=agent,fd=(\d+)", text))
        found = re.search(r"id=console,path=([^,]+),", text)
        assert found
        self.console = found[1]
        # As the real one: it opens its memory, and ends when it can't.
        memory = re.search(r"mem-path=([^,]+),", text)
        assert memory
        os.close(os.open(memory[1], os.O_RDWR))

    @staticmethod
    def number(pattern: str, text: str) -> int:
        found = re.search(pattern, text)
        assert found
        return int(found[1])

    def say(self, **members: object) -> None:
        self.qmp.sendall(json.dumps(members).encode() + b"\r\n")

    def serve(self) -> None:
        if self.role == "mute":
            select.select([], [], [])
        self.say(QMP={"version": {}})
        control = self.qmp.makefile("r")
        answered = False
        while True:
            for ready in select.select([self.qmp, self.agent] if not answered else [self.qmp], [], [])[0]:
                if ready is self.qmp:
                    line = control.readline()
                    if not line:
                        return
                    self.command(json.loads(line)["execute"])
                elif ready is self.agent and self.agent.recv(1 << 20):
                    answered = True
                    self.answer()

    def command(self, name: str) -> None:
        if name == "migrate-incoming" and self.role == "refuse":
            self.say(error={"class": "GenericError", "desc": "no such state"})
            return
        self.say(**{"return": {}})
        if name == "migrate-incoming" and self.role == "die":
            print("load of migration failed", file=sys.stderr, flush=True)
            os._exit(1)
        if name == "migrate-incoming":
            status = "failed" if self.role == "fail" else "completed"
            self.say(event="MIGRATION", data={"status": status})
        if name == "inject-nmi" and self.role == "silent":
            with open(self.console, "a") as console:
                console.write("NMI: the stacks of all tasks\n")
            self.say(event="GUEST_PANICKED", data={})
            os._exit(0)

    def answer(self) -> None:
        answer = ANSWERS.get(self.role, PONG)
        if self.role in ("drip", "events", "long-line"):
            self.go_on_for_ever()
        if self.role in ("ends-late", "says-it-ends"):
            self.end_late()
        try:
            self.agent.sendall(answer() if callable(answer) else answer)
        except BrokenPipeError:
            os._exit(0)  # the host had enough
        if self.role == "truncated":
            os._exit(0)

    def end_late(self) -> None:
        with open(self.console, "a") as console:
            console.write("kernelproof: AGENT DIED status 9\n")
        if self.role == "ends-late":
            select.select([], [], [], 3.0)  # the host's deadline passes before
            self.say(event="SHUTDOWN", data={"guest": True, "reason": "guest-shutdown"})
            os._exit(0)

    def go_on_for_ever(self) -> None:
        # Always something new, never an answer: what was once due does not come.
        event = json.dumps({"event": "RTC_CHANGE", "data": {"offset": 0}}).encode() + b"\r\n"
        stream, data = {
            "drip": (self.agent, b"x"),
            "events": (self.qmp, event * 100),
            "long-line": (self.qmp, b"x" * 65536),
        }[self.role]
        if self.role == "drip":
            self.agent.sendall(struct.pack("!Ic", 16 * 1024 * 1024, b"J"))
        try:
            while True:
                stream.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)


if __name__ == "__main__":
    Fake(os.environ["FAKE_QEMU"], sys.argv[1:]).serve()
