"""How a created container learns that it is to start: it accepts a connection at a socket of its state directory.

Whoever starts it, however long after its creator is gone, connects and is told over the same connection what comes of
it; so an error of the last moment is seen by who asked for the start, and not lost. Nobody else can reach the socket:
the state directory belongs to the runtime's user alone, and the container has it not.
"""

from __future__ import annotations

import _socket  # socket makes enums of its constants when it is imported: 5 ms
import os

from kernelproof.impl.libcontainer.operations import Operation, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, ChannelError, Message
from kernelproof.impl.libcontainer.process.waiting import NAME
from kernelproof.impl.libcontainer.process.walking import Turn, error_of, wait_for_program

_KIND = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC


def _address(directory: int) -> str:
    # The directory's own path may be longer than an address can be.
    return f"/proc/self/fd/{directory}/{NAME}"


class OpenRendezvous(Operation):
    """Makes the socket at which the created container waits."""

    __slots__ = ()
    stage = "host"

    def describe(self) -> str:
        """What will happen."""
        return "make the socket at which the created container waits"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EADDRINUSE, ENOSPC, EROFS.
        """
        directory = site.found["state"]
        assert isinstance(directory, int)
        listener = _socket.socket(_socket.AF_UNIX, _KIND)
        try:
            listener.bind(_address(directory))
            listener.listen(1)
        except OSError:
            listener.close()
            raise
        site.descriptors["listener"] = listener.detach()

    def undo(self, site: Site) -> None:
        """Removes the socket."""
        directory = site.found["state"]
        assert isinstance(directory, int)
        remove(directory)


def remove(directory: int) -> None:
    """Removes the socket: nobody can start the container any more."""
    try:
        os.unlink(NAME, dir_fd=directory)
    except FileNotFoundError:
        return


def listen(site: Site) -> _socket.socket:
    """Takes over the socket at which the created container waits."""
    return _socket.socket(_socket.AF_UNIX, _KIND, 0, site.descriptors.pop("listener"))


def accept(listener: _socket.socket) -> Channel:
    """Waits for who asks for the start.

    Raises:
        OSError: what accept(2) gives.
    """
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    os.set_inheritable(fd, False)
    return Channel(_socket.socket(_socket.AF_UNIX, _KIND, 0, fd))


class AwaitStart(Turn):
    """Waits for who starts the container."""

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "wait for the start"

    def take(self, site: Site, channel: Channel) -> Channel:
        """Waits; the new channel is that of who starts it.

        Raises:
            OSError: what accept(2) gives.
        """
        listener = listen(site)
        channel.close()
        while True:
            connection = accept(listener)
            message = connection.receive()
            if message is not None and message.kind == "start":
                listener.close()
                return connection
            connection.close()


def start(directory: int) -> tuple[str, ...]:
    """Starts the created container, and waits until its program runs.

    Args:
        directory: descriptor of the state directory.

    Returns:
        What was asked and is not to be had, each as a sentence.

    Raises:
        OSError: ENOENT: it was started already; ECONNREFUSED: its process is gone.
        StartError: what failed instead.
    """
    connection = _socket.socket(_socket.AF_UNIX, _KIND)
    channel = Channel(connection)
    try:
        connection.connect(_address(directory))
        channel.send(0, "start")

        def receive() -> Message:
            message = channel.receive()
            if message is None:
                raise StartError("final", "process", 0, "", "the container's process ended before its program began")
            if message.kind == "error":
                raise error_of(message.values)
            return message

        return wait_for_program(receive, channel)
    except ChannelError as error:
        raise StartError("final", "channel", 0, NAME, str(error)) from error
    finally:
        channel.close()
