"""Ports of the host that lead into a machine, without a network card: each connection is a pair of streams.

    with machine.forward_port(80) as (address, port):
        urllib.request.urlopen(f"http://{address}:{port}/")

The host listens, the guest connects: to a TCP port, a unix socket or a vsock port of its own. Nothing leads from the
guest to the host. Data only: no descriptors, no datagrams. The machine's time is real.
"""

from __future__ import annotations

import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kernelproof.vm.attending import Attending
from kernelproof.vm.guest.streams import FIRST_CONNECTION

if TYPE_CHECKING:
    from kernelproof.vm.machine import Machine

Target: TypeAlias = tuple[str | int, ...]  # ("tcp", host, port), ("unix", path), ("vsock", context, port)

LIMIT = 256  # connections at a time; further ones wait to be accepted
_PIECE = 65536
_LOCAL = 1  # vsock(7): VMADDR_CID_LOCAL
_WORD = re.compile(r"\[([^\]]*)\]|([^:\[\]]*)")


class Forward(NamedTuple):
    """One way into the guest.

    Args:
        here: Where the host listens: ("tcp", address, port) or ("unix", path); port 0 is any that is free.
        there: What the guest connects to.
    """

    here: Target
    there: Target


def parse_forward(text: str) -> Forward:
    """`HERE:THERE`; HERE is `[ADDRESS:]PORT` or a path, THERE is `[HOST:]PORT`, a path or `vsock:[CID:]PORT`.

    Raises:
        ValueError: another text.
    """
    words = _split(text)
    here, words = _take(words, _LISTENING, text)
    there, words = _take(words, _CONNECTING, text)
    if words:
        raise ValueError(f"{text!r} goes on behind where it leads to")
    return Forward(here, there)


def parse_target(text: str | int) -> Target:
    """`[HOST:]PORT`, a path or `vsock:[CID:]PORT`: what the guest connects to.

    Raises:
        ValueError: another text.
    """
    target, words = _take(_split(str(text)), _CONNECTING, str(text))
    if words:
        raise ValueError(f"{text!r} is not [HOST:]PORT, a path, or vsock:[CID:]PORT")
    return target


def _split(text: str) -> list[str]:
    words, place = [], 0
    while place <= len(text):
        found = _WORD.match(text, place)
        assert found is not None  # it matches the empty word
        words.append(found[1] if found[1] is not None else found[2])
        place = found.end()
        if place < len(text) and text[place] != ":":
            raise ValueError(f"{text!r}: brackets are for an IPv6 address")
        place += 1
    return words


_LISTENING = "where to listen: [ADDRESS:]PORT or a path"
_CONNECTING = "where to lead: [HOST:]PORT, a path, or vsock:[CID:]PORT"


def _take(words: list[str], what: str, text: str) -> tuple[Target, list[str]]:
    if not words or not words[0]:
        raise ValueError(f"{text!r} does not say {what}")
    first, rest = words[0], words[1:]
    if first.startswith("/"):
        return ("unix", first), rest
    if first == "vsock" and what == _CONNECTING:
        if len(rest) > 1 and rest[0].isdecimal() and rest[1].isdecimal():
            return ("vsock", int(rest[0]), int(rest[1])), rest[2:]
        if rest and rest[0].isdecimal():
            return ("vsock", _LOCAL, int(rest[0])), rest[1:]
    elif first.isdecimal():
        return ("tcp", "127.0.0.1", _port(first, text)), rest
    elif rest and rest[0].isdecimal():
        return ("tcp", first, _port(rest[0], text)), rest[1:]
    raise ValueError(f"{text!r} does not say {what}")


def _port(word: str, text: str) -> int:
    if (port := int(word)) > 65535:
        raise ValueError(f"{text!r}: {port} is no port")
    return port


class Listener:
    """A socket of the host whose connections are made into the guest.

    Args:
        forward: What it is.

    Raises:
        OSError: as getaddrinfo(3), bind(2) and listen(2) refuse; EADDRINUSE.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        kind, *where = forward.here
        if kind == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            address: object = where[0]
        else:
            found = socket.getaddrinfo(str(where[0]), where[1], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._socket, address = socket.socket(found[0]), found[4]
        try:
            if kind == "tcp":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)  # type: ignore[arg-type]  # as the family has it
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            error.add_note(f"listen at {describe(forward.here)}")
            raise
        self._socket.setblocking(False)
        self._path = str(where[0]) if kind == "unix" else None

    @property
    def address(self) -> Target:
        """Where it listens: the path, or the address and the port that it got."""
        name = self._socket.getsockname()
        return (name,) if isinstance(name, str) else (name[0], name[1])

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def accept(self) -> socket.socket | None:
        """The next connection, or None if there is none."""
        try:
            return self._socket.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return None

    def close(self) -> None:
        """Listen no more; a unix socket's path is removed."""
        self._socket.close()
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)


def describe(target: Target) -> str:
    """A target as the command line has it."""
    kind, *rest = target
    if kind == "unix":
        return str(rest[0])
    if kind == "vsock":
        return f"vsock:{rest[0]}:{rest[1]}"
    return f"[{rest[0]}]:{rest[1]}" if ":" in str(rest[0]) else f"{rest[0]}:{rest[1]}"


class Forwarding:
    """Makes the connections of listeners, within a conversation.

    Args:
        attending: The conversation.
        listeners: Not closed here.
    """

    def __init__(self, attending: Attending, listeners: Sequence[Listener]) -> None:
        self._attending = attending
        self._listeners = listeners
        self._connections: dict[int, _Connection] = {}
        self._next = FIRST_CONNECTION
        self._watch()

    def _watch(self) -> None:
        for listener in self._listeners:
            self._attending.watch(listener.fileno(), lambda listener=listener: self._accept(listener))  # type: ignore[misc]

    def _accept(self, listener: Listener) -> None:
        accepted = listener.accept()
        if accepted is None:
            return
        number, self._next = self._next, self._next + 1
        self._attending.say(kind="connect", stream=number, target=list(listener.forward.there))
        self._connections[number] = _Connection(number, accepted, self._attending, self._drop)
        if len(self._connections) >= LIMIT:
            for each in self._listeners:
                self._attending.unwatch(each.fileno())

    def _drop(self, number: int) -> None:
        self._connections.pop(number).socket.close()
        self._watch()

    def close(self) -> None:
        """Drop every connection."""
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()


class _Connection:
    def __init__(self, number: int, accepted: socket.socket, attending: Attending, drop: Callable[[int], None]) -> None:
        self.socket = accepted
        self._number, self._drop = number, drop
        self._open = 2
        accepted.setblocking(False)
        attending.streams.write_to(number, accepted.fileno(), on_end=self._written, piece=_PIECE)
        attending.streams.read_from(number, accepted.fileno(), on_end=self._ended)

    def _written(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self._ended()

    def _ended(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._drop(self._number)


@contextmanager
def forward_port(machine: Machine, guest: int | str, host: int | str = 0) -> Iterator[Target]:
    """One port, as `Machine.forward_port` says."""
    here, rest = _take(_split(str(host)), _LISTENING, str(host))
    if rest:
        raise ValueError(f"{host!r} is not [ADDRESS:]PORT or a path")
    with forward_ports(machine, [Forward(here, parse_target(guest))]) as (address,):
        yield address


@contextmanager
def forward_ports(machine: Machine, forwards: Sequence[Forward]) -> Iterator[tuple[Target, ...]]:
    """Let ports lead into a machine while the block runs; yields where the host listens, in their order.

    A thread relays. The machine takes no other request meanwhile: start its servers before.

    Raises:
        OSError: as `Listener`.
        MachineLost: the machine was lost meanwhile; raised at the end of the block.
        RuntimeError: another request is under way, the machine is closed, or its time is virtual.
    """
    attending = Attending()
    failures: list[BaseException] = []
    with ExitStack() as stack:
        listeners = [_enter(stack, Listener(forward)) for forward in forwards]
        forwarding = Forwarding(attending, listeners)
        stack.callback(forwarding.close)
        wake = os.eventfd(0, os.EFD_CLOEXEC)
        stack.callback(os.close, wake)

        def leave() -> None:
            attending.unwatch(wake)
            attending.leave()

        attending.watch(wake, leave)
        with machine.attending(attending.message()) as channel:

            def relay() -> None:
                try:
                    attending.relay(channel, math.inf)
                except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                    failures.append(error)

            thread = threading.Thread(target=relay, name="kernelproof-forward")
            thread.start()
            try:
                yield tuple(listener.address for listener in listeners)
            finally:
                os.eventfd_write(wake, 1)
                thread.join()
            if failures:
                raise failures[0]


def _enter(stack: ExitStack, listener: Listener) -> Listener:
    stack.callback(listener.close)
    return listener
