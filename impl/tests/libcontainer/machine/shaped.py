"""A process that is shaped by a plan's operations and then executes a program whose output is the answer."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.libcontainer.config.records import Config, Linux, Process
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.security.planning import Container, plan_security

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.libcontainer.config.own import Landlock

STATUS = ("/usr/bin/cat", "/proc/self/status")
ALL = tuple(f"CAP_{name}" for name in ("CHOWN", "KILL", "SETUID", "NET_RAW", "SYS_ADMIN"))


class Ended(NamedTuple):
    """What became of the process."""

    output: str
    code: int  # as os.waitstatus_to_exitcode has it: the signal's number, negative, for a killed one

    def status(self, field: str) -> str:
        """A field of /proc/PID/status."""
        return next(line.split(":", 1)[1].strip() for line in self.output.splitlines() if line.startswith(f"{field}:"))

    def mask(self, field: str) -> int:
        """A set of capabilities of /proc/PID/status."""
        return int(self.status(field), 16)


def shaped(
    process: Process,
    *,
    linux: Linux | None = None,
    landlock: Landlock | None = None,
    container: Container | None = None,
    before: Callable[[Site], None] = lambda site: None,
) -> Ended:
    """Fork, do the plan, execute `process.args`; what the plan raises is the output, with exit status 77."""
    config = Config("1.3.0", process=process, linux=linux or Linux(), landlock=landlock)
    operations = plan_security(config, read_host(), container or Container(new_keyring=False))
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(process, operations, before, writer)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as file:
        output = file.read()
    _, status = os.waitpid(pid, 0)
    return Ended(output, os.waitstatus_to_exitcode(status))


def _become(process: Process, operations: tuple[object, ...], before: Callable[[Site], None], writer: int) -> None:
    try:
        os.dup2(writer, 1)
        site = Site()
        before(site)
        for operation in operations:
            operation.do(site)  # type: ignore[attr-defined]
        load = site.found.get("filter")
        if callable(load):
            load()
        os.execv(process.args[0], process.args)
    except (OSError, ValueError, LookupError) as error:
        told = {"error": type(error).__name__, "text": str(error), "notes": getattr(error, "__notes__", [])}
        os.write(1, json.dumps(told).encode())
        os._exit(77)
    finally:
        os._exit(78)
