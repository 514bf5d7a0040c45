"""A runtime with a bundle, as tests see it: the seam between the statements and whoever is asked.

The project's own runtime stands behind it in `library_box`, those of others in `peer_box`. What a runtime refuses is
`Refused`, with its words; nothing else of an answer differs between them.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kernelproof.conformance.libcontainer.configs import config

SECONDS = 30
ACCEPTED, REFUSED = "accepted", "refused"


class Refused(Exception):
    """A runtime did not do what it was asked to; its words."""


class Ended(NamedTuple):
    """A program that came to its end in a container: exit status, and what it wrote to its output and its errors."""

    status: int
    output: str
    errors: str


class Box(Protocol):
    """A runtime with a bundle. Whoever implements it has the first nine methods; the others follow from them.

    Attributes:
        name: Who is asked: "impl", or a peer.
        bundle: The bundle's directory; config.json is written anew for each container.
        rootfs: The root directory of its containers.
        states: The runtime's root directory, where the states of containers are.
    """

    name: str
    bundle: Path
    rootfs: Path
    states: Path

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        """Create a container of a configuration; a text is the config.json as it is.

        Raises:
            Refused: The runtime refuses.
        """

    def start(self, id: str = "box") -> None:
        """Start the program of a container that was created.

        Raises:
            Refused: The runtime refuses.
        """

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        """Create a container, start it, wait for its program's end and delete it.

        Raises:
            Refused: The runtime refuses.
        """

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        """Run a further process in a container, given by its words or as a whole `process`, and wait for its end.

        Raises:
            Refused: The runtime refuses.
        """

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        """Send a signal, by its number or its name, to a container's process.

        Raises:
            Refused: The runtime refuses.
        """

    def wait(self, id: str = "box") -> int:
        """Wait for the end of a container's process; returns its exit status, 128 + the number of what killed it.

        Raises:
            TimeoutError: It has not ended after `SECONDS`.
        """

    def state(self, id: str = "box") -> dict[str, Any]:
        """Return the state of a container.

        Raises:
            Refused: The runtime refuses.
        """

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        """Delete a container; by force also one that runs.

        Raises:
            Refused: The runtime refuses.
        """

    def command(self, *words: str) -> str:
        """Run a subcommand of the runtime's program and return what it prints.

        Raises:
            Refused: Its exit status is not 0.
        """

    # --- what follows ---

    def write(self, wanted: Mapping[str, Any] | str) -> None:
        """Write config.json."""
        text = wanted if isinstance(wanted, str) else json.dumps(wanted)
        (self.bundle / "config.json").write_text(text, encoding="utf-8")

    def answer(self, wanted: Mapping[str, Any] | str) -> str:
        """Return whether create accepts a configuration; a container that it made is seen to be there, and deleted."""
        try:
            self.create(wanted)
        except Refused:
            return REFUSED
        made = self.state()
        is_there = os.path.exists(f"/proc/{made['pid']}")
        self.delete(force=True)
        assert (made["status"], is_there) == ("created", True), "create accepts, and makes no container"
        return ACCEPTED

    def does(self, action: Callable[[], object]) -> str:
        """Return whether an action is accepted or refused."""
        try:
            action()
        except Refused:
            return REFUSED
        return ACCEPTED

    def said(self, *args: str, **members: Any) -> str:
        """Return what a program of busybox writes in a container; `members` as for `config`. It ends with status 0.

        Raises:
            Refused: The runtime refuses.
        """
        ended = self.run(config(*args, **members))
        assert ended.status == 0, ended
        return ended.output

    def script(self, text: str, **members: Any) -> list[str]:
        """Return the lines that a shell script writes in a container; it ends with status 0.

        Raises:
            Refused: The runtime refuses.
        """
        return self.said("sh", "-c", text, **members).splitlines()

    def begin(self, wanted: Mapping[str, Any], id: str = "box") -> int:
        """Create and start a container; returns the pid of its process.

        Raises:
            Refused: The runtime refuses.
        """
        self.create(wanted, id)
        self.start(id)
        return self.pid(id)

    def status(self, id: str = "box") -> str:
        """Return the status in a container's state.

        Raises:
            Refused: The runtime refuses.
        """
        return str(self.state(id)["status"])

    def pid(self, id: str = "box") -> int:
        """Return the pid in a container's state.

        Raises:
            Refused: The runtime refuses.
        """
        return int(self.state(id)["pid"])

    def pause(self, id: str = "box") -> None:
        """Pause a container.

        Raises:
            Refused: The runtime refuses.
        """
        self.command("pause", id)

    def resume(self, id: str = "box") -> None:
        """Resume a paused container.

        Raises:
            Refused: The runtime refuses.
        """
        self.command("resume", id)

    def delete_all(self) -> None:
        """Delete what is left, by force."""
        for id in os.listdir(self.states) if self.states.exists() else ():
            self.delete(id, force=True)

    def files(self) -> tuple[Path, Path]:
        """Return where containers write their output and their errors."""
        return self.bundle / "out", self.bundle / "err"

    def output(self) -> str:
        """Return what containers have written to their output since the last `create` or `run`."""
        return self.files()[0].read_text(encoding="utf-8", errors="replace")
