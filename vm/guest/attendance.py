"""Answers `attend`: a program with its terminal or its three streams, and the host's connections into the guest.

The program is the one thing that is waited for: when it ends, what it left running is not. Without a program the
conversation lasts until the host leaves it. Only the host opens connections; nothing here reaches the host's network.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, cast

from kernelproof.vm.guest.frames import BYTES, FrameError, decode_message
from kernelproof.vm.guest.port import Port
from kernelproof.vm.guest.streams import FIRST_CONNECTION, STDERR, STDIN, STDOUT, Streams

_PIECE = 65536
_NOT_YET = 115  # EINPROGRESS


def attend(port: Port, message: Mapping[str, object]) -> None:
    """Answer `attend`; that a program can't be started (ENOENT, EACCES and what else execve(2) says) is an answer, too.

    Raises:
        FrameError: the host broke the protocol.
        EOFError: it is gone.
    """
    attendance = _Attendance(port)
    program = cast("Mapping[str, object] | None", message.get("program"))
    try:
        if program is not None:
            attendance.start(program)
        answer: dict[str, object] = {"kind": "attended", "returncode": attendance.serve()}
    except OSError as error:  # told from here: what the host sent meanwhile must not be taken for its next request
        answer = {"kind": "error", "type": type(error).__name__, "text": str(error)}
    finally:
        attendance.close()
    port.send(answer)
    attendance.see_off()


class _Attendance:
    """One conversation."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._streams = Streams(port.send_frame)
        self._pid = 0
        self._pidfd = -1
        self._terminal = -1  # the master, if the program has one
        self._connections: dict[int, _Connection] = {}
        self._left = False
        self._closing: list[Callable[[], object]] = []

    # --- the program

    def start(self, program: Mapping[str, object]) -> None:
        terminal = cast("Mapping[str, int] | None", program.get("terminal"))
        environment = {**os.environ, **cast("dict[str, str]", program.get("environment") or {})}
        directory = cast("str | None", program.get("directory"))
        argv = _find_program(cast("Sequence[Sequence[str]]", program["programs"]))
        before = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            if directory is not None:
                os.chdir(os.path.expanduser(directory))
            if terminal is None:
                self._pid = self._start_piped(argv, environment)
            else:
                self._pid = self._start_on_terminal(argv, environment, terminal)
        finally:
            os.fchdir(before)
            os.close(before)
        self._pidfd = os.pidfd_open(self._pid)
        self._closing.append(lambda: os.close(self._pidfd))

    def _start_piped(self, argv: Sequence[str], environment: Mapping[str, str]) -> int:
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env=environment)
        stdin, stdout, stderr = cast("tuple[IO[bytes], ...]", (process.stdin, process.stdout, process.stderr))
        process.returncode = 0  # waited for below, not by Popen
        for stream in (stdin, stdout, stderr):
            os.set_blocking(stream.fileno(), False)
            self._closing.append(stream.close)
        self._streams.write_to(STDIN, stdin.fileno(), on_end=stdin.close, piece=_PIECE)
        self._streams.read_from(STDOUT, stdout.fileno(), on_end=stdout.close)
        self._streams.read_from(STDERR, stderr.fileno(), on_end=stderr.close)
        return process.pid

    def _start_on_terminal(
        self, argv: Sequence[str], environment: Mapping[str, str], terminal: Mapping[str, int]
    ) -> int:
        master, slave = os.openpty()
        try:
            _set_size(master, terminal)
            # The first terminal that the leader of a session opens becomes its controlling one.
            actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
            ignored = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python
            pid = os.posix_spawnp(
                argv[0], list(argv), environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=ignored
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        self._terminal = master
        self._closing.append(lambda: os.close(master))
        self._streams.write_to(STDIN, master, piece=_PIECE)
        self._streams.read_from(STDOUT, master)
        return pid

    # --- the loop

    def serve(self) -> int:
        """Go on until the program ended or the host left; returns the program's return code, 0 without one."""
        while True:
            while not self._left and (frame := self._port.take()) is not None:
                self._take(*frame)
            if self._left:
                return self._end()
            if self._wait():
                return self._finish()

    def _wait(self) -> bool:
        """Wait and do what can be done; whether the program has ended."""
        wanted = {**self._streams.wanted(), self._port.descriptor: select.POLLIN}
        if self._pidfd >= 0:
            wanted[self._pidfd] = select.POLLIN
        connecting = {each.socket.fileno(): each for each in self._connections.values() if each.connecting}
        poll = select.poll()
        for descriptor, events in (wanted | dict.fromkeys(connecting, select.POLLOUT)).items():
            poll.register(descriptor, events)
        ready = poll.poll()
        for descriptor, events in ready:
            if descriptor == self._port.descriptor:
                self._port.read()
            elif descriptor in connecting:
                connecting[descriptor].connected()
            elif descriptor != self._pidfd:
                self._streams.handle(descriptor, events)
        return any(descriptor == self._pidfd for descriptor, _ in ready)

    def _finish(self) -> int:
        """The program has ended: send what it left in its streams, and nothing that others still write."""
        while True:
            # What came with the program's end first: the credit that is waited for may be in it, and no more comes.
            while not self._left and (frame := self._port.take()) is not None:
                self._take(*frame)
            if self._left or all([self._streams.drain(number) for number in (STDOUT, STDERR)]):
                break
            self._port.read()  # no credit: it can only come from the host
        return self._reap()

    def _end(self) -> int:
        if not self._pid:
            return 0
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        return self._reap()

    def _reap(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        for connection in list(self._connections.values()):
            connection.socket.close()
        for close in reversed(self._closing):
            close()

    def see_off(self) -> None:
        """Drop what was under way when the host heard that all is over, to its last word."""
        while not self._left:
            while (frame := self._port.take()) is None:
                self._port.read()
            kind, payload = frame
            self._left = kind != BYTES and decode_message(payload).get("kind") == "leave"

    # --- what the host says

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == BYTES:
            self._streams.take_data(payload)
            return
        message = decode_message(payload)
        if self._streams.take_message(message):
            return
        match message.get("kind"):
            case "leave":
                self._left = True
            case "resize" if self._terminal >= 0:
                _set_size(self._terminal, cast("Mapping[str, int]", message))
            case "signal" if self._pid:
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, cast("int", message["number"]))
            case "connect":
                self._connect(cast("int", message["stream"]), cast("Sequence[str | int]", message["target"]))
            case other:
                raise FrameError(f"unknown kind of message {other!r} while attending")

    def _connect(self, number: int, target: Sequence[str | int]) -> None:
        if number < FIRST_CONNECTION or number in self._connections:
            raise FrameError(f"a connection can't have the number {number}")
        try:
            connection = _Connection(number, target, self._streams, self._drop)
        except OSError:
            self._streams.refuse(number)
            return
        self._connections[number] = connection

    def _drop(self, number: int) -> None:
        self._connections.pop(number).socket.close()


class _Connection:
    """A connection to something in the guest; both directions end before it is closed."""

    def __init__(self, number: int, target: Sequence[str | int], streams: Streams, drop: Callable[[int], None]) -> None:
        self._number, self._streams, self._drop = number, streams, drop
        self._open = 2
        self.socket, address = open_socket(target)
        self.socket.setblocking(False)
        error = self.socket.connect_ex(address)
        if error not in (0, _NOT_YET):
            self.socket.close()
            raise OSError(error, os.strerror(error))
        self.connecting = error == _NOT_YET
        # What comes before it is connected is held.
        streams.write_to(number, self.socket.fileno(), on_end=self._written, piece=_PIECE)
        if not self.connecting:
            self._streams.read_from(self._number, self.socket.fileno(), on_end=self._ended)

    def connected(self) -> None:
        self.connecting = False
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
            self._streams.forget(self._number)
            self._streams.refuse(self._number)
            self._drop(self._number)
            return
        if not self._streams.writes(self._number):
            self._shut()
        self._streams.read_from(self._number, self.socket.fileno(), on_end=self._ended)

    def _written(self) -> None:
        if not self.connecting:
            self._shut()
        self._ended()

    def _shut(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def _ended(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._drop(self._number)


def open_socket(target: Sequence[str | int]) -> tuple[socket.socket, str | tuple[Any, ...]]:
    """A socket for a target and the address to connect it to.

    Args:
        target: "tcp", host, port; or "unix", path; or "vsock", context, port.

    Raises:
        OSError: no such family here, or no such name.
    """
    kind, *rest = target
    if kind == "unix":
        return socket.socket(socket.AF_UNIX), str(rest[0])
    if kind == "vsock":
        return socket.socket(socket.AF_VSOCK), (int(rest[0]), int(rest[1]))
    host, port = str(rest[0]), int(rest[1])
    family, kind_of_socket, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.socket(family, kind_of_socket, protocol), address


def _find_program(programs: Sequence[Sequence[str]]) -> Sequence[str]:
    # Looked for, not tried: to fork for nothing costs a clone a tenth of a second.
    return next((argv for argv in programs if shutil.which(argv[0]) is not None), programs[-1])


def _set_size(terminal: int, size: Mapping[str, int]) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["rows"], size["columns"], 0, 0))
