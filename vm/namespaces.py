"""`--vm-none`: fresh namespaces of this host in place of machines, for hosts without QEMU and for debugging.

The template is a process that has collected the tests, a clone a fork of it in new namespaces, all of which die with
it. The kernel is this host's, so results are filed under it and nothing of it is judged that others may have caused.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import ChannelError, GuestError, MachineLost, ProvisionError
from kernelproof.vm.forward import package_folder
from kernelproof.vm.guest.frames import JSON, PROTOCOL, FrameError, FrameReader, decode_message, encode_message
from kernelproof.vm.messages import CONVERSATIONS, broken, check_answer
from kernelproof.vm.process import Usage
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import NO_MACHINE, SessionMachine
from kernelproof.vm.variation import Variation

PREFIX = "host-"  # of the name that results are filed under

_PIECE = 1 << 20
_PID = struct.Struct("!i")
_LOG_BYTES = 256 * 1024


class NamespaceMachine:
    """One end of a socket pair whose other end a process in fresh namespaces reads.

    Args:
        channel: Owned from here on.
        log: What processes of the session print; owned by the session.
        pid: Of the process that all others die with.
    """

    def __init__(self, channel: socket.socket, log: IO[bytes], pid: int) -> None:
        self._channel = channel
        self._reader = FrameReader()
        self._log = log
        self._start = os.fstat(log.fileno()).st_size
        self._began = time.monotonic()
        self._pidfd = os.pidfd_open(pid)

    def push_archive(self, archive: bytes, destination: str) -> None:
        """Nothing to do: the files are the host's."""

    def request(self, message: Mapping[str, object], *, timeout: float) -> Mapping[str, object]:
        """The one answer; errors as for `stream`."""
        *_, answer = self.stream(message, timeout=timeout)
        return answer

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        """Send a message; yield the answers until the last.

        Raises:
            GuestError: the answer is an error.
            MachineLost: no answer in time, or the process ended.
            ChannelError: what came is no answer.
        """
        deadline = time.monotonic() + timeout
        with suppress(BrokenPipeError, ConnectionResetError):  # its end is seen when it is read
            self._channel.sendall(encode_message({**message, "protocol": PROTOCOL}))
        final = False
        while not final:
            answer, final = check_answer(self._receive(deadline), CONVERSATIONS[str(message["kind"])])
            answer.pop("compiled", None)  # its files are the host's: there is no bytecode to give
            if answer["kind"] == "error":
                raise GuestError("item", escape_text(str(answer["type"])), escape_text(str(answer["text"])))
            yield answer

    def _receive(self, deadline: float) -> Mapping[str, object]:
        try:
            while (frame := self._reader.take()) is None:
                self._reader.feed(self._read(deadline))
            if frame[0] != JSON:
                raise broken(f"a frame of kind {frame[0]!r} came")
            return decode_message(frame[1])
        except FrameError as error:
            raise broken(str(error)) from error

    def _read(self, deadline: float) -> bytes:
        self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._channel.recv(_PIECE)
        except TimeoutError:
            remedy = "read its Python stack above; a test that needs longer asks for a longer deadline"
            raise MachineLost("hang", "namespaces", "no answer in time", remedy, self.log()) from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise MachineLost("agent", "namespaces", "the test's process ended", "do not end it in a test", self.log())
        return data

    def relay_terminal(self, source: int, sink: int) -> None:
        """There is no second port.

        Raises:
            ChannelError: always.
        """
        raise ChannelError("debug test", "--vm-none", "no second terminal", "debug it in a machine: --kernel 6.12")

    def log(self) -> str:
        """What its processes printed, safe to show."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._start, size - _LOG_BYTES)
        return escape_text(os.pread(self._log.fileno(), size - start, start))

    def close(self) -> Usage:
        """Kill all of its processes; a second call changes nothing."""
        if self._pidfd >= 0:
            self._channel.close()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        return Usage(0.0, time.monotonic() - self._began, 0, 0)


class NamespaceMachines:
    """Forks of one session.

    Args:
        module: The module whose `main` is the session's process.
    """

    def __init__(self, module: str = "kernelproof.vm.guest.forking") -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._host, guest = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        path = [str(package_folder().parent), *filter(None, [environment.get("PYTHONPATH")])]
        # Root in a user namespace is not the host's: what pytest keeps in a folder named after the user is.
        self._folder = tempfile.mkdtemp(prefix="kernelproof-none-")
        own = {"PYTHONPATH": os.pathsep.join(path), "PYTEST_DEBUG_TEMPROOT": self._folder}
        with guest:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(guest.fileno())],
                pass_fds=[guest.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**environment, **own},
                start_new_session=True,
            )
        self.session = NamespaceMachine(self._host, self._log, self._process.pid)

    def clone(self, variation: Variation | None = None) -> NamespaceMachine:
        """A fork in fresh namespaces.

        Raises:
            ProvisionError: the host gives none.
            MachineLost: the session's process is gone.
        """
        host, guest = socket.socketpair()
        with guest:
            self._host.settimeout(None)
            socket.send_fds(self._host, [b"c"], [guest.fileno()])
        answer = self._host.recv(_PID.size, socket.MSG_WAITALL)
        if len(answer) < _PID.size:
            host.close()
            raise MachineLost("agent", "namespaces", "the session's process ended", "run again", self.session.log())
        (pid,) = _PID.unpack(answer)
        if pid < 0:
            host.close()
            remedy = "run as root, or let users make namespaces (user.max_user_namespaces and the like)"
            raise ProvisionError("make namespaces", "for a test", os.strerror(-pid), remedy)
        return NamespaceMachine(host, self._log, pid)

    def close(self) -> None:
        """End the session, and all that is left of it; a second call changes nothing."""
        self.session.close()
        self._process.wait()
        if not self._log.closed:
            self._log.close()
            shutil.rmtree(self._folder, ignore_errors=True)


class NamespaceProvider:
    """Makes fresh namespaces in place of machines."""

    left_out: Sequence[tuple[str, str]] = ()

    def select(self, text: str) -> Sequence[str]:
        """The host's kernel.

        Raises:
            ProvisionError: another one is named.
        """
        if text.strip():
            raise ProvisionError("choose kernel", text, "there is this host's alone", "leave out --kernel or --vm-none")
        return [f"{PREFIX}{platform.release()}"]

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], Mapping[str, object]],
        *,
        made_of: Callable[[Mapping[str, object]], Mapping[str, object]],
        project: Path,
        progress: Progress,
    ) -> tuple[NamespaceMachines, Mapping[str, object], Mapping[str, object]]:
        """Start a session; its profile is what the host happens to have."""
        machines = NamespaceMachines()
        facts = describe_host(key)
        try:
            return machines, facts, prepare(machines.session, facts)
        except BaseException:
            machines.close()
            raise


def describe_host(key: MachineKey) -> Mapping[str, object]:
    """What is known of the host, as of a machine."""
    release = platform.release()
    series = re.match(r"\d+\.\d+", release)
    kernel = {"name": key.series, "series": series and series[0], "release": release}
    none = dict.fromkeys(("package", "build", "config_digest"))
    return {
        "kernel": {**kernel, **none},
        "guest": {"root_digest": None, "python": platform.python_version(), "observers": {}},
        "machine": {"qemu": None, "accelerator": None, "time": NO_MACHINE, "cpus": len(os.sched_getaffinity(0))},
    }
