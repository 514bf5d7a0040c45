"""A made-up session of pytest, run a few times before the template is made: every clone finds its code warm.

Python rewrites the instructions of a function while it runs the first few times; a clone that finds that done runs
less code, and under TCG each piece of code that runs for the first time has to be translated. Half of what a short
test costs is that. No code of any project runs here, and what the rehearsal changed of the process is put back.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kernelproof.vm.guest.frames import encode_message
from kernelproof.vm.guest.port import Port
from kernelproof.vm.guest.session import serve_session

SESSIONS = 2
ITEMS = 4  # a function's instructions settle within three runs of it

_MODULE = "test_rehearsal"
_TEST = f"""
import pytest

@pytest.mark.parametrize("turn", range({ITEMS}))
def test_nothing(turn: int) -> None:
    print("a word")
    assert turn >= 0
"""


def rehearse(on_wake: Callable[[Mapping[str, object]], None]) -> None:
    """Run the made-up sessions.

    Args:
        on_wake: As `Port` takes it; called with the time that it is.

    Raises:
        RuntimeError: pytest did not run its items as it should.
        OSError: no room for a file of a few lines.
    """
    for _ in range(SESSIONS):
        with _restored(), tempfile.TemporaryDirectory(prefix="kernelproof-rehearsal-") as folder:
            _run_session(folder, on_wake)
    subprocess.run([shutil.which("true") or "/bin/true"], check=True, capture_output=True)


def _run_session(folder: str, on_wake: Callable[[Mapping[str, object]], None]) -> None:
    path = os.path.join(folder, f"{_MODULE}.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(_TEST)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for turn in range(ITEMS):
            theirs.sendall(encode_message(_item(turn)))
        theirs.shutdown(socket.SHUT_WR)
        plugins = ["kernelproof.vm.guest.fixtures"]
        request: dict[str, object] = {
            "directory": folder,
            "arguments": [path],
            "plugins": plugins,
            "options": {"capture": "fd"},
        }
        request |= {"rootdir": folder, "inifile": None, "environment": {}, "first": []}
        serve_session(Port(ours.fileno(), on_wake), request)
        theirs.setblocking(False)
        answers = theirs.recv(1 << 20)
    if answers.count(b'"item-done"') != ITEMS or answers.count(b'"outcome":"passed"') != 3 * ITEMS:
        raise RuntimeError(f"rehearsal of pytest: {answers.decode('utf-8', 'replace')}")


def _item(turn: int) -> dict[str, object]:
    wake = {"clock_ns": time.time_ns(), "entropy": os.urandom(32).hex(), "seed": turn}
    return {"kind": "item", "nodeid": f"{_MODULE}.py::test_nothing[{turn}]", "seed": turn, "data": {}, "wake": wake}


@contextmanager
def _restored() -> Iterator[None]:
    environment, path, modules, directory = dict(os.environ), list(sys.path), set(sys.modules), os.getcwd()
    bytecode, state = sys.dont_write_bytecode, random.getstate()
    try:
        yield
    finally:
        faulthandler.disable()
        gc.unfreeze()
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        random.setstate(state)
        if _MODULE not in modules:
            sys.modules.pop(_MODULE, None)
