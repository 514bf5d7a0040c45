"""Lines for the files of users and groups, and one command at a time."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest


class AddLines(Protocol):
    def __call__(self, **files: str) -> None: ...


class AddRecord(Protocol):
    def __call__(self, directory: str = "/etc/userdb", /, **fields: object) -> None: ...


@pytest.fixture
def add_record() -> AddRecord:
    """`add_record(userName="ada", uid=1)`: write a user record to a directory, with the link by uid."""

    def add(directory: str = "/etc/userdb", /, **fields: object) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        Path(directory, f"{fields['userName']}.user").write_text(json.dumps(fields))
        Path(directory, f"{fields['uid']}.user").symlink_to(f"{fields['userName']}.user")

    return add


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str


class RunCommand(Protocol):
    def __call__(self, *argv: str) -> Done: ...


@pytest.fixture
def add_lines() -> AddLines:
    """`add_lines(passwd="…", group="…")`: add lines to files of /etc; a missing one is made, shadow files private."""

    def add(**files: str) -> None:
        for name, lines in files.items():
            with Path("/etc", name).open("ab") as file:
                file.write(lines.encode("utf-8", "surrogateescape"))

    return add


@pytest.fixture
def run() -> RunCommand:
    """Run a command to its end, and return its status and what it wrote to its output."""

    def run_it(*argv: str) -> Done:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, timeout=60)
        return Done(done.returncode, done.stdout.decode("utf-8", "surrogateescape"))

    return run_it
