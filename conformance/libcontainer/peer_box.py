"""Runtimes of others as boxes: Debian's runc and crun, by their commands.

The test's process must be a child subreaper: it waits for their containers.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelproof.conformance.libcontainer.box import SECONDS, Box, Ended, Refused


class Peer(Box):
    """A runtime's command.

    Args:
        bundle: The bundle's directory.
        name: The command.
    """

    def __init__(self, bundle: Path, name: str) -> None:
        self.name = name
        self.bundle, self.rootfs, self.states = bundle, bundle / "rootfs", bundle / "states"
        self._pids: dict[str, int] = {}

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        """See `Box`."""
        self.write(wanted)
        pid_file = self.bundle / f"pid-{id[:20].replace('/', '-')}"
        self._call("create", "--bundle", str(self.bundle), "--pid-file", str(pid_file), id)
        self._pids[id] = int(pid_file.read_text())

    def start(self, id: str = "box") -> None:
        """See `Box`."""
        self._call("start", id)

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        """See `Box`."""
        self.write(wanted)
        return self._unless_refused(self._spawn(self.files(), "run", "--bundle", str(self.bundle), id))

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        """See `Box`."""
        if isinstance(process, Mapping):
            (self.bundle / "process.json").write_text(json.dumps(process), encoding="utf-8")
            words = ["--process", str(self.bundle / "process.json"), id]
        else:
            words = [id, *process]
        return self._unless_refused(self._spawn((self.bundle / "exec-out", self.bundle / "exec-err"), "exec", *words))

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        """See `Box`."""
        self._call("kill", id, str(int(number)) if isinstance(number, int) else number)

    def wait(self, id: str = "box") -> int:
        """See `Box`."""
        pid = self._pids[id]
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(SECONDS * 1000):
                raise TimeoutError(f"{self.name}: process {pid} has not ended after {SECONDS} s")
        finally:
            os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return 128 - code if code < 0 else code

    def state(self, id: str = "box") -> dict[str, Any]:
        """See `Box`."""
        found: dict[str, Any] = json.loads(self.command("state", id))
        return found

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        """See `Box`."""
        self._call("delete", *(["--force"] if force else []), id)

    def command(self, *words: str) -> str:
        """See `Box`."""
        return self._call(*words, to=(self.bundle / "command-out", self.bundle / "command-err")).output

    def _call(self, *words: str, to: tuple[Path, Path] | None = None) -> Ended:
        ended = self._spawn(to or self.files(), *words)
        if ended.status:
            raise Refused(ended.errors.strip())
        return ended

    def _unless_refused(self, ended: Ended) -> Ended:
        # The exit status may be the program's; the runtime's own errors are in its log.
        records = [json.loads(line) for line in (self.bundle / "log").read_text(encoding="utf-8").splitlines()]
        if ended.status and any(record["level"] == "error" for record in records):
            raise Refused(records[-1]["msg"])
        return ended

    def _spawn(self, to: tuple[Path, Path], *words: str) -> Ended:
        # To files, as the container's process inherits them and would keep pipes open.
        log = self.bundle / "log"
        log.write_bytes(b"")
        command = [self.name, "--root", str(self.states), "--log", str(log), "--log-format", "json", *words]
        with open(to[0], "wb") as out, open(to[1], "wb") as err:
            try:
                done = subprocess.run(
                    command,
                    cwd=self.bundle,
                    env={"PATH": os.environ["PATH"]},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    timeout=SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise Refused(str(error)) from error
        return Ended(done.returncode, *(path.read_text("utf-8", "replace") for path in to))
