"""The project's own runtime as a box: nothing but calls in this process, and the helpers that it starts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelproof.conformance.libcontainer.box import SECONDS, Box, Ended, Refused
from kernelproof.impl.libcontainer import Container, ContainerError, Runtime, StartError, lifecycle, parse_config
from kernelproof.impl.libcontainer.config.reading import load_process
from kernelproof.impl.libcontainer.nsinit.main import main


class Library(Box):
    """The project's own runtime; what is given to it as a file it reads itself.

    Args:
        bundle: The bundle's directory.
        runtime: The runtime, with its root directory in the bundle's `states`.
    """

    def __init__(self, bundle: Path, runtime: Runtime) -> None:
        self.name = "impl"
        self.bundle, self.rootfs, self.states = bundle, bundle / "rootfs", bundle / "states"
        self.runtime = runtime
        self._made: dict[str, Container] = {}

    def create(self, wanted: Mapping[str, Any] | str, id: str = "box") -> None:
        """See `Box`."""
        self.write(wanted)
        with _refusing(), contextlib.ExitStack() as stack:
            text = (self.bundle / "config.json").read_bytes()
            out, err = (stack.enter_context(open(path, "wb")).fileno() for path in self.files())
            null = stack.enter_context(open(os.devnull, "rb")).fileno()
            self._made[id] = self.runtime.create(
                id, parse_config(text), bundle=self.bundle, stdin=null, stdout=out, stderr=err
            )

    def start(self, id: str = "box") -> None:
        """See `Box`."""
        with _refusing():
            self.runtime.find(id).start()

    def run(self, wanted: Mapping[str, Any] | str, id: str = "box") -> Ended:
        """See `Box`."""
        self.create(wanted, id)
        try:
            self.start(id)
            status = self.wait(id)
        finally:
            self.delete(id, force=True)
        return Ended(status, *(path.read_text("utf-8", "replace") for path in self.files()))

    def execute(self, process: Sequence[str] | Mapping[str, Any], id: str = "box") -> Ended:
        """See `Box`."""
        with _refusing(), contextlib.ExitStack() as stack:
            paths = [self.bundle / "exec-out", self.bundle / "exec-err"]
            out, err = (stack.enter_context(open(path, "wb")).fileno() for path in paths)
            asked = load_process(self._file(process)) if isinstance(process, Mapping) else process
            made = stack.enter_context(self.runtime.find(id).execute(asked, stdout=out, stderr=err))
            return Ended(made.wait(SECONDS), *(path.read_text("utf-8", "replace") for path in paths))

    def kill(self, number: int | str = signal.SIGKILL, id: str = "box") -> None:
        """See `Box`."""
        self.command("kill", id, str(int(number)) if isinstance(number, int) else number)

    def wait(self, id: str = "box") -> int:
        """See `Box`."""
        return self._made[id].wait(SECONDS)

    def state(self, id: str = "box") -> dict[str, Any]:
        """See `Box`."""
        with _refusing():
            return lifecycle.read_state(str(self.states), id)

    def delete(self, id: str = "box", *, force: bool = False) -> None:
        """See `Box`."""
        with _refusing():
            if (made := self._made.get(id)) is not None:
                made.delete(force=force)
            else:
                lifecycle.delete(str(self.states), id, force=force)

    def command(self, *words: str) -> str:
        """See `Box`; the program's `main` is called in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["--root", str(self.states), *words])
        if status:
            raise Refused(err.getvalue().strip())
        return out.getvalue()

    def _file(self, value: object) -> Path:
        path = self.bundle / "process.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return path


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (StartError, ContainerError, OSError, ValueError) as error:
        raise Refused(str(error)) from error
