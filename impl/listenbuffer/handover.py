"""From one generation of a program to the next, without one connection refused or lost.

The generations need not be related: they meet at a unix socket, the control. The old one serves there; the next one
asks for the sockets, gets the very same ones (SO_REUSEPORT would lose what waits in the old one's queue), starts up
with its gates shut, and says that it is ready. Then the old one pauses, connects to itself through each shared socket,
and retires only when the new one has answered. Whatever goes wrong before, it goes on as if nothing had been. The
control itself is handed over too, so there can be any number of generations.

    old                                   new
    Generations(control, listeners)       take_over(control) -> listeners, gates shut
        sockets, exit pipe  ------------>     (starts up)
                            <------------  ready()            gates open
        pause; probe, connect ----------->  accept answers the probe
        whom a doorman kept  ----------->
        retire              ------------>  serves alone, is a Generations itself
        drain, exit

Sources: unix(7), SCM_RIGHTS; tcp(7) and linux networking/ip-sysctl, tcp_migrate_req (what a closed listener resets).
"""

from __future__ import annotations

import os
import select
import socket
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Final

from kernelproof.impl.listenbuffer import messages
from kernelproof.impl.listenbuffer.address import Address, parse_address
from kernelproof.impl.listenbuffer.elders import Elder, read_elders
from kernelproof.impl.listenbuffer.errors import HandOverFailed, HandOverRefused, WrongDescriptor
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.generations import CONTROL, ENVIRONMENT
from kernelproof.impl.listenbuffer.generations import Generations as Generations
from kernelproof.impl.listenbuffer.inherit import Inherited, look_at
from kernelproof.impl.listenbuffer.listener import GatedListener
from kernelproof.impl.listenbuffer.probes import read_origin
from kernelproof.impl.listenbuffer.socketfile import Owned

END_SECONDS: Final = 1.0
"""How long the end of a predecessor may take after its connection was closed."""


class Taken:
    """What a new generation took over: its listeners, gates shut until `ready`.

    Attributes:
        listeners: The sockets by name.
        inherited: The same as they were found.
        generation: The number of this generation.
    """

    def __init__(
        self,
        control: str,
        connection: socket.socket,
        found: Mapping[str, Inherited],
        addresses: Mapping[str, Address],
        files: Mapping[str, Owned],
        limits: Mapping[str, int],
        predecessor: socket.socket,
        generation: int,
    ) -> None:
        self._control = control
        self._connection = connection
        self._predecessor = predecessor.detach()
        self._let_go = weakref.finalize(self, os.close, self._predecessor)
        self._files = dict(files)
        self._kept: list[tuple[str, socket.socket]] = []  # whom the predecessor accepted and leaves to us
        self._elders: tuple[Elder, ...] = ()
        self.generation = generation
        self.inherited = dict(found)
        listeners = {
            name: GatedListener.adopt(one.socket(), Gate(), address=addresses[name]) for name, one in found.items()
        }
        self._control_listener = listeners.pop(CONTROL)
        del self.inherited[CONTROL]
        self.listeners = listeners
        for name, limit in limits.items():
            listeners[name].refuse_beyond(limit, dismissed=True)

    def ready(self, *, timeout_seconds: float = 30.0, **arguments: object) -> Generations:
        """Say that this program is ready, open the gates, and wait until the predecessor has retired.

        Something must be accepting on the listeners meanwhile: the predecessor connects to see whether it is answered.
        If it has died meanwhile, this generation is the only one.

        Args:
            timeout_seconds: How long to wait for the predecessor, in seconds.
            arguments: For the new `Generations`.

        Raises:
            HandOverFailed: The predecessor goes on serving instead; the listeners here are closed.
        """
        for listener in self.listeners.values():
            listener.gate.open()
        try:
            self._wait_until_retired(time.monotonic() + timeout_seconds)
        except (HandOverRefused, OSError) as error:
            # A process that ends closes one descriptor after the other.
            if not self.wait_until_predecessor_ended(END_SECONDS):
                self.abandon()
                raise HandOverFailed(f"the predecessor goes on serving: {error}") from error
        self._connection.close()
        for name, listener in self.listeners.items():
            listener.probes.clear()
            listener.employ_doorman(list(_with_peers(kept for whose, kept in self._kept if whose == name)))
        for name, listener in {**self.listeners, CONTROL: self._control_listener}.items():
            if name in self._files:
                listener.owned = self._files[name]
        self._control_listener.gate.open()
        return Generations(
            self._control,
            self.listeners,
            generation=self.generation,
            _inherited=self._control_listener,
            _elders=self._elders,
            **arguments,  # type: ignore[arg-type]
        )

    def _wait_until_retired(self, deadline: float) -> None:
        messages.send(self._connection, "ready")
        while self._step(deadline - time.monotonic()):
            continue

    def _step(self, timeout_seconds: float) -> bool:
        message = messages.expect(self._connection, ["probe", "kept", "retire"], timeout_seconds)
        if message.kind == "retire":
            self._elders = read_elders(message)
            return False
        listener = self.listeners.get(message.text("name"))
        if listener is None:
            message.close()
            raise HandOverRefused(f"a {message.kind} for {message.text('name')!r}, which was not handed over")
        if message.kind == "kept":
            self._kept += [(message.text("name"), socket.socket(fileno=number)) for number in message.descriptors]
            return True
        word = message.text("word").encode()

        def answer(connection: socket.socket, _: object) -> None:
            with closing(connection), suppress(OSError):  # it may have died meanwhile
                connection.sendall(word)

        listener.on_probe = answer
        listener.probes.add(read_origin(listener, message.fields.get("origin")))
        messages.send(self._connection, "expecting")
        return True

    def wait_until_predecessor_ended(self, timeout_seconds: float) -> bool:
        """Wait until the old generation's process is gone; return whether it is."""
        poll = select.poll()
        poll.register(self._predecessor, select.POLLIN)
        return bool(poll.poll(timeout_seconds * 1000))

    def abandon(self) -> None:
        """Give the sockets up; the predecessor goes on serving."""
        for listener in [*self.listeners.values(), self._control_listener]:
            listener.close()
        for _, kept in self._kept:
            kept.close()
        self._connection.close()
        self._let_go()


def _with_peers(kept: Iterable[socket.socket]) -> Iterator[tuple[socket.socket, object]]:
    for connection in kept:
        try:
            yield connection, connection.getpeername()
        except OSError:  # the client is gone
            connection.close()


def take_over(control: str | None = None, *, timeout_seconds: float = 10.0) -> Taken:
    """Ask the generation that serves for its sockets.

    Args:
        control: The control's path; None for the one in the environment, where `hand_over` put it.
        timeout_seconds: How long to wait for them, in seconds.

    Raises:
        FileNotFoundError, ConnectionRefusedError: Nobody serves there: this is the first generation.
        HandOverRefused: Another hand-over is under way, or the other side speaks another protocol.
        LookupError: There is no path, neither given nor in the environment.
        WrongDescriptor: What came is no socket.
    """
    path = control or os.environ.get(ENVIRONMENT)
    if path is None:
        raise LookupError(f"no control given, and {ENVIRONMENT} is not set")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
        messages.send(connection, "take")
        message = messages.expect(connection, ["sockets"], timeout_seconds)
        return _unpack(path, connection, message)
    except BaseException:
        connection.close()
        raise


def _unpack(path: str, connection: socket.socket, message: messages.Message) -> Taken:
    described, generation = message.fields.get("sockets"), message.fields.get("generation")
    try:
        if not isinstance(described, list) or not isinstance(generation, int):
            raise HandOverRefused("the other side does not say which sockets it sends")
        names = [(str(one["name"]), parse_address(str(one["address"]))) for one in described]
        files = {
            str(one["name"]): _read_owned(one["file"], dict(names)[str(one["name"])])
            for one in described
            if one["file"]
        }
        limits = {str(one["name"]): int(one["limit"]) for one in described if one.get("limit") is not None}
        if not all(name != CONTROL and dict(names)[name].is_stream and limit >= 0 for name, limit in limits.items()):
            raise HandOverRefused("the other side gives a limit to what has none")
        if len(message.descriptors) != len(names) + 1 or CONTROL not in dict(names):
            raise HandOverRefused(f"{len(names)} sockets were announced, {len(message.descriptors) - 1} came")
        found = {
            name: look_at(number, name, "hand-over")
            for (name, _), number in zip(names, message.descriptors[1:], strict=True)
        }
    except (HandOverRefused, WrongDescriptor):
        message.close()
        raise
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        message.close()
        raise HandOverRefused("the other side does not say which sockets it sends") from None
    predecessor = socket.socket(fileno=message.descriptors[0])
    return Taken(path, connection, found, dict(names), files, limits, predecessor, generation + 1)


def _read_owned(file: Sequence[object], address: Address) -> Owned:
    # Its absolute path: that of the address may be relative, and our working directory another one.
    device, inode, *path = file
    if not isinstance(device, int) or not isinstance(inode, int):
        raise TypeError("a file is known by its device and inode")
    return Owned(str(path[0]) if path else address.path, (device, inode))
