"""Machines that are processes, for tests of the plugin: a session in one, a fork of it for every item."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

import pytest

from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import GuestError, MachineLost, ProvisionError
from kernelproof.vm.guest.frames import JSON, PROTOCOL, FrameReader, decode_message, encode_message
from kernelproof.vm.host import Host
from kernelproof.vm.messages import CONVERSATIONS, check_answer
from kernelproof.vm.plugin import HOST
from kernelproof.vm.process import Usage
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import SessionMachine
from kernelproof.vm.variation import Variation

T = TypeVar("T")

KERNELS = ("5.10", "6.12")


class LocalMachine:
    """One end of a socket pair whose other end a guest process reads."""

    def __init__(self, channel: socket.socket, log: IO[bytes], pid: int) -> None:
        self._channel = channel
        self._reader = FrameReader()
        self._log = log
        self._start = os.fstat(log.fileno()).st_size
        self._pid = pid

    def push_archive(self, archive: bytes, destination: str) -> None:
        """Nothing to do: the guest sees the host's files."""

    def request(self, message: Mapping[str, object], *, timeout: float) -> Mapping[str, object]:
        """The one answer."""
        *_, answer = self.stream(message, timeout=timeout)
        return answer

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        """The answers, up to the last. It has no bytecode to give: its files are the host's."""
        if message["kind"] == "bytecode":
            return
        deadline = time.monotonic() + timeout
        self._channel.sendall(encode_message({**message, "protocol": PROTOCOL}))
        final = False
        while not final:
            answer, final = check_answer(self._receive(deadline), CONVERSATIONS[str(message["kind"])])
            if answer["kind"] == "error":
                raise GuestError("item", str(answer["type"]), str(answer["text"]))
            yield answer

    def _receive(self, deadline: float) -> Mapping[str, object]:
        while (frame := self._reader.take()) is None:
            self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._channel.recv(1 << 20)
            except TimeoutError:
                raise MachineLost("hang", "local", "no answer in time", "wait longer", self.log()) from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise MachineLost("agent", "local", "the agent ended", "do not kill it", self.log())
            self._reader.feed(data)
        assert frame[0] == JSON
        return decode_message(frame[1])

    def relay_terminal(self, source: int, sink: int) -> None:
        """There is no second port."""
        raise RuntimeError("a local machine has no terminal")

    def log(self) -> str:
        """What was written to the console since this machine began."""
        size = os.fstat(self._log.fileno()).st_size
        return escape_text(os.pread(self._log.fileno(), size - self._start, self._start))

    def close(self) -> Usage:
        """Kill the process."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        return Usage(cpu_seconds=0.0, wall_seconds=0.0, peak_bytes=0, status=0)


class LocalMachines:
    """Forks of one session."""

    def __init__(self, events: list[str]) -> None:
        self.clones = 0
        self.variations: list[Variation | None] = []
        self.closed = False
        self._events = events
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._host, guest = socket.socketpair()
        # Quite apart: what a session sets up in its process must not be that of the test's own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        module = "kernelproof.vm.tests.plugin.local_agent"
        with guest:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(guest.fileno())],
                pass_fds=[guest.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )
        self.session = LocalMachine(self._host, self._log, self._process.pid)

    def clone(self, variation: Variation | None = None) -> LocalMachine:
        """A fork."""
        self.variations.append(variation)
        self.clones += 1
        self._events.append("clone")
        host, guest = socket.socketpair()
        with guest:
            self._host.settimeout(None)
            socket.send_fds(self._host, [b"c"], [guest.fileno()])
        return LocalMachine(host, self._log, int.from_bytes(self._host.recv(4), "big"))

    def close(self) -> None:
        """End the session."""
        self.closed = True
        self._events.append("close")
        self.session.close()
        self._process.wait()
        self._log.close()


class LocalProvider:
    """Makes `LocalMachines`; remembers them for the test to look at."""

    def __init__(self) -> None:
        self.opened: dict[MachineKey, LocalMachines] = {}
        self.events: list[str] = []

    def select(self, text: str) -> Sequence[str]:
        """The words that are known."""
        words = text.split(",")
        for word in words:
            if word not in KERNELS:
                raise ProvisionError("choose kernel", word, "unknown", f"one of {', '.join(KERNELS)}")
        return words

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], T],
        *,
        project: Path,
        progress: Progress,
    ) -> tuple[LocalMachines, Mapping[str, object], T]:
        """Start a session."""
        machines = LocalMachines(self.events)
        self.opened[key] = machines
        facts = {
            "kernel": {"name": key.series, "series": key.series, "release": f"{key.series}.0-local"},
            "guest": {"python": "3"},
            "machine": {"accelerator": "none", "time": key.time, "cpus": 1, "qemu": "none"},
        }
        try:
            return machines, facts, prepare(machines.session, facts)
        except BaseException:
            machines.close()
            raise


class LocalPlugin:
    """Registers the host plugin with local machines before the plugin itself would with real ones."""

    def __init__(self) -> None:
        self.provider = LocalProvider()
        self.facts: list[Mapping[str, object]] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """Be first."""
        config.pluginmanager.register(Host(config, self.provider), HOST)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_machine(self, facts: Mapping[str, object]) -> None:
        """Keep what the header is told."""
        self.facts.append(facts)
