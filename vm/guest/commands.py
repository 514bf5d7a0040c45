"""What the agent does for the host besides tests: run a command, call a function."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from typing import IO, cast

from kernelproof.vm.guest.port import Port

OUTPUT_LIMIT = 8 * 1024 * 1024  # bytes kept of each stream of a command; the rest is counted

_CHUNK = 65536


class _Kept:
    """The beginning of a stream, and how long all of it was."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        self.data += chunk[: OUTPUT_LIMIT - len(self.data)]


def run_command(port: Port, message: Mapping[str, object]) -> None:
    """Answer `exec`: the input comes as one frame, stdout and stderr go back as one frame each.

    There is no timeout here: the host's deadline is the only one.

    Raises:
        OSError: the command can't be started; ENOENT, EACCES and what else execve(2) says.
        KeyError: the message lacks `argv`.
    """
    given = port.receive_bytes()
    argv = cast("list[str]", message["argv"])
    environment = cast("dict[str, str] | None", message.get("environment"))
    directory = cast("str | None", message.get("directory"))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        env=environment,
        cwd=directory,
    )
    with process:
        kept = _exchange(process, given)
        returncode = process.wait()
    totals = {"stdout_bytes": kept[0].total, "stderr_bytes": kept[1].total}
    port.send({"kind": "exec-result", "returncode": returncode, **totals})
    for stream in kept:
        port.send_bytes(bytes(stream.data))


def _exchange(process: subprocess.Popen[bytes], given: bytes) -> tuple[_Kept, _Kept]:
    stdin, stdout, stderr = cast("tuple[IO[bytes], ...]", (process.stdin, process.stdout, process.stderr))
    kept = (_Kept(), _Kept())
    with selectors.DefaultSelector() as selector:
        if given:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE)
        else:
            stdin.close()
        selector.register(stdout, selectors.EVENT_READ, kept[0])
        selector.register(stderr, selectors.EVENT_READ, kept[1])
        rest = memoryview(given)
        while selector.get_map():
            for key, _ in selector.select():
                if key.data is None:
                    rest = _feed(selector, stdin, rest)
                elif chunk := os.read(key.fd, _CHUNK):
                    key.data.add(chunk)
                else:
                    selector.unregister(key.fileobj)
    return kept


def _feed(selector: selectors.BaseSelector, stdin: IO[bytes], rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(stdin.fileno(), rest[:_CHUNK]) :]
    except BrokenPipeError:
        rest = rest[:0]  # a command may leave its input unread
    if not rest:
        selector.unregister(stdin)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
    return rest


def call_function(port: Port, message: Mapping[str, object]) -> None:
    """Answer `call`: import `module:name`, call it with plain values, send back what it returns.

    Raises:
        ImportError, AttributeError: no such function.
        FrameError: what it returned is not plain data.
        Exception: whatever the function raises.
    """
    module, _, name = str(message["function"]).partition(":")
    function = attrgetter(name)(import_module(module))
    arguments = cast("list[object]", message["arguments"])
    keywords = cast("dict[str, object]", message["keywords"])
    port.send({"kind": "call-result", "value": function(*arguments, **keywords)})
