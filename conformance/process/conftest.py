"""Programs of a test: one that only waits, and scripts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from kernelproof.impl._syscalls.execution import execve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLEEP = "/bin/sleep"


class Sleeper(Protocol):
    def __call__(self, prepare: Callable[[], Any] | None = None, program: str | Path = SLEEP) -> int: ...


@pytest.fixture
def sleeper() -> Sleeper:
    """Start a child that runs a program which waits, and return its pid when execve is done.

    Before execve the child calls a function.
    """

    def start(prepare: Callable[[], Any] | None = None, program: str | Path = SLEEP) -> int:
        done, held = os.pipe()  # close-on-exec
        pid = os.fork()
        if pid == 0:
            try:
                if prepare:
                    prepare()
                execve(program, ["sleep", "1000"])
            finally:
                os.write(held, b"!")
                os._exit(127)
        os.close(held)
        assert os.read(done, 1) == b"", "the program was not run"
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # its end closes the pipe as well
        assert ended is None, f"it ended before it ran the program: {ended}"
        os.close(done)
        return pid

    return start


def script(path: Path, text: str) -> Path:
    """Write an executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return path
