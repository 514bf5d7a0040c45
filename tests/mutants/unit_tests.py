"""Asks the session of `server.py`: which unit tests run which functions, and which of them notice an edit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edits import Edit
from machines import HERE, ROOT, RunFailed
from server import COMMANDS, REPLIES

_QUIET = ("-q", "--tb=line", "-n", "0", "-p", "no:cacheprovider")
_UNIT = "not (machine or makes_machines or long)"


class UnitTests:
    """A session that is open."""

    def __init__(self, commands: IO[str], replies: IO[str]) -> None:
        self._commands = commands
        self._replies = replies
        self.items: list[str] = self._read()["items"]

    def trace(self, items: Sequence[str], seconds: float = 600) -> dict[str, dict[str, Any]]:
        """By item: {"places": functions that it runs, "seconds"}; those that fail by themselves are left out."""
        answer = self._ask({"do": "trace", "items": items, "seconds": seconds})
        return dict(answer.get("reached", {}))

    def attempt(self, edit: Edit, items: Sequence[str], seconds: float) -> dict[str, Any]:
        """{"outcome": "killed", "survived", "not reached" or "not loaded", "by": an item}."""
        return self._ask({"do": "try", "edit": edit._asdict(), "items": items, "seconds": seconds})

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(command), file=self._commands, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            raise RunFailed("the session of unit tests has ended")
        return dict(json.loads(line))


@contextmanager
def open_unit_tests(paths: Sequence[str]) -> Iterator[UnitTests]:
    """Start a session with the unit tests below these paths; it ends with the context.

    Raises:
        RunFailed: pytest can't collect them.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, Path(folder, "log").open("w+") as log:
        command_reader, command_writer = os.pipe2(os.O_CLOEXEC)
        reply_reader, reply_writer = os.pipe2(os.O_CLOEXEC)
        arguments = ("-p", "server", "-m", _UNIT, "--basetemp", f"{folder}/tests", *_QUIET, *paths)
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            env=_environment() | {COMMANDS: str(command_reader), REPLIES: str(reply_writer)},
            pass_fds=[command_reader, reply_writer],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        os.close(command_reader)
        os.close(reply_writer)
        try:
            with os.fdopen(command_writer, "w") as commands, os.fdopen(reply_reader) as replies:
                yield UnitTests(commands, replies)
        except RunFailed as error:
            log.seek(0)
            raise RunFailed(f"{error}:\n{log.read()[-3000:]}") from error
        finally:
            process.wait()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return kept | {"PYTHONPATH": str(HERE)}
