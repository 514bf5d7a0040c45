"""pytest plugin: a session on the host that has collected unit tests and breaks code, each time in a forked child.

It speaks lines of JSON with the process that started it. A child runs chosen items until one fails; the parent waits
for it against a deadline. So a mutant costs what its tests cost, and not what pytest and the project cost to load.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from applying import MARK, NotLoaded, break_function
from loading import VARIABLE

COMMANDS, REPLIES = "KERNELPROOF_MUTANT_COMMANDS", "KERNELPROOF_MUTANT_REPLIES"
_MEMORY_BYTES = 3 << 30
_PIECE = 65536


def pytest_configure(config: pytest.Config) -> None:
    """Take the place of the run loop."""
    config.pluginmanager.register(_Server(config), "mutants-server")


class _Server:
    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        self._items: dict[str, pytest.Item] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve until there are no more commands."""
        self._items = {item.nodeid: item for item in session.items if item.get_closest_marker("machine") is None}
        gc.collect()
        gc.freeze()
        with (
            os.fdopen(int(os.environ[COMMANDS]), encoding="utf-8") as commands,
            os.fdopen(int(os.environ[REPLIES]), "w", encoding="utf-8") as replies,
        ):
            os.set_inheritable(commands.fileno(), False)
            os.set_inheritable(replies.fileno(), False)
            print(json.dumps({"items": list(self._items)}), file=replies, flush=True)
            for line in commands:
                print(json.dumps(self._answer(json.loads(line))), file=replies, flush=True)
        return True

    def _answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        MARK[0] = 0
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            status = 1
            try:
                os.close(reader)
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
                answer = self._trace(command) if command["do"] == "trace" else self._try(command)
                with os.fdopen(writer, "w", encoding="utf-8") as file:
                    json.dump(answer, file)
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        return _read_answer(pid, reader, float(command["seconds"]))

    def _try(self, command: Mapping[str, Any]) -> dict[str, Any]:
        os.environ[VARIABLE] = json.dumps(command["edit"])  # for the Pythons that tests start: see sitecustomize
        try:
            break_function(self._root, command["edit"])
        except NotLoaded as error:
            return {"outcome": "not loaded", "by": str(error)}
        for nodeid in command["items"]:
            if (text := self._failure(nodeid)) is not None:
                return {"outcome": "killed", "by": nodeid, "said": text}
        return {"outcome": "survived" if MARK[0] else "not reached", "by": ""}

    def _failure(self, nodeid: str) -> str | None:
        reports = runtestprotocol(self._items[nodeid], log=False, nextitem=None)
        return next((report.longreprtext[-300:] for report in reports if report.failed), None)

    def _trace(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """What each of the items runs of `impl`, as file:line of functions, and its seconds."""
        reached: dict[str, Any] = {}
        for nodeid in command["items"]:
            began = time.monotonic()
            recorder = _Recorder(self._root)
            sys.setprofile(recorder)
            try:
                failure = self._failure(nodeid)
            finally:
                sys.setprofile(None)
            if failure is None:  # one that fails as it is can tell nothing
                reached[nodeid] = {"places": recorder.places(), "seconds": round(time.monotonic() - began, 4)}
        return {"outcome": "traced", "reached": reached}


class _Recorder:
    # A profile function. Names are made at the end: it is called for each call of the test.
    def __init__(self, root: Path) -> None:
        self._folders = (f"{root}/impl/", f"{root}/kernelproof/impl/")
        self._codes: set[Any] = set()

    def __call__(self, frame: Any, event: str, argument: object) -> None:
        if event == "call":
            self._codes.add(frame.f_code)

    def places(self) -> list[str]:
        found = set()
        for code in self._codes:
            if code.co_filename.startswith(self._folders) and "/impl/tests/" not in code.co_filename:
                name = code.co_qualname.partition(".<locals>")[0]
                found.add(f"impl/{code.co_filename.rpartition('/impl/')[2]}::{name}")
        return sorted(found)


def _read_answer(pid: int, reader: int, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    pieces = []
    with os.fdopen(reader, "rb", buffering=0) as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                break
            piece = file.read(_PIECE)
            if not piece:
                break
            pieces.append(piece)
        is_late = time.monotonic() >= deadline
    _end_group(pid)
    os.waitpid(pid, 0)
    try:
        return dict(json.loads(b"".join(pieces)))
    except ValueError:
        return {"outcome": "killed", "by": "no end" if is_late else "the process died"}


def _end_group(pid: int) -> None:
    # The child is a leader; what it started and left behind goes with it.
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
