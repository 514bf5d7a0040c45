"""Gives pytest's debugger the person at the host's terminal: over the machine's second port.

pytest keeps the descriptors that it found when it began, and lets the debugger have them. So they are a pseudo terminal
from the beginning, and a process of its own reads it: into memory while nobody looks, to the host's terminal while an
item runs that may be debugged. (A thread would do; but tests fork, and Python minds threads then.)
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, cast

PORT = "terminal"
PORTS = Path("/sys/class/virtio-ports")
_MARK = b"\0kernelproof\0"  # ends what the debugger wrote; no program writes this
_BEGIN, _END = b"b", b"e"
_PIECE = 4096


class DebugTerminal:
    """A pseudo terminal whose other end is the second port.

    Args:
        port: Descriptor of the port, or of a socket in a test without machine; closed here.
        kept: Descriptor that what is written goes to while nobody looks.
    """

    def __init__(self, port: int, kept: int) -> None:
        master, self.slave = os.openpty()
        with suppress(OSError):  # where something else leads the session, Ctrl-C is only a character
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        orders, self._orders = os.pipe()
        self._acks, acks = os.pipe()
        if (child := os.fork()) == 0:
            _become_relay(_Relay(master, port, kept, orders, acks), (self.slave, self._orders, self._acks))
        os.waitpid(child, 0)
        for descriptor in (master, port, orders, acks):
            os.close(descriptor)
        self._is_open = False

    def begin(self, terminal: Mapping[str, object]) -> None:
        """Let the host's terminal be that of the debugger; it has this size and kind."""
        size = struct.pack("HHHH", cast("int", terminal["rows"]), cast("int", terminal["columns"]), 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        os.environ["TERM"] = str(terminal["kind"])
        os.write(self._orders, _BEGIN)
        os.read(self._acks, 1)
        self._is_open = True

    def drain(self) -> None:
        """Wait until all that was written has left this process and the machine."""
        os.write(self.slave, _MARK)
        os.read(self._acks, 1)

    def end(self) -> None:
        """Keep from now on what is written; a second call changes nothing."""
        if self._is_open:
            self._is_open = False
            self.drain()
            os.write(self._orders, _END)
            os.read(self._acks, 1)


def _become_relay(relay: _Relay, others: tuple[int, ...]) -> NoReturn:
    # Of a session of its own: a Ctrl-C is not meant for it. A grandchild: a test that waits for its children does not
    # wait for this one.
    status = 1
    try:
        os.setsid()
        if os.fork() == 0:
            for descriptor in others:
                os.close(descriptor)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            relay.run()
        status = 0
    finally:
        os._exit(status)


class _Relay:
    """What the process does."""

    def __init__(self, master: int, port: int, kept: int, orders: int, acks: int) -> None:
        self._master, self._port, self._kept = master, port, kept
        self._orders, self._acks = orders, acks
        self._sink = kept
        self._held = b""

    def run(self) -> None:
        """Relay until the orders end."""
        poll = select.poll()
        for descriptor in (self._master, self._port, self._orders):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._master in ready:
                self._read_master()
            elif self._orders in ready:
                if not (order := os.read(self._orders, 1)):
                    return
                self._sink = self._port if order == _BEGIN else self._kept
                os.write(self._acks, order)
            elif data := os.read(self._port, _PIECE):
                _write(self._master, data)
            else:
                poll.unregister(self._port)

    def _read_master(self) -> None:
        text, mark, rest = (self._held + os.read(self._master, _PIECE)).partition(_MARK)
        # What may be the beginning of a mark waits for what follows.
        start = len(text) if mark else _mark_begins(text)
        _write(self._sink, text[:start])
        self._held = rest if mark else text[start:]
        if mark:
            os.write(self._acks, mark[:1])


def _mark_begins(text: bytes) -> int:
    for length in range(min(len(_MARK) - 1, len(text)), 0, -1):
        if _MARK.startswith(text[-length:]):
            return len(text) - length
    return len(text)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def open_port(ports: Path = PORTS) -> int | None:
    """The machine's second port, or None if it has none.

    Raises:
        OSError: as open(2) refuses.
    """
    for entry in ports.glob("*/name"):
        if entry.read_text().strip() == PORT:
            return os.open(f"/dev/{entry.parent.name}", os.O_RDWR | os.O_CLOEXEC)
    return None
