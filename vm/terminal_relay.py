"""Moves bytes between the user's terminal and a machine's second port while the agent has nothing to say."""

from __future__ import annotations

import math
import os
import select

from kernelproof.vm.channel import Channel, Ended

_PIECE = 65536
_END_OF_INPUT = b"\x04"  # what a terminal takes for the end of its input


def relay_terminal(channel: Channel, source: int, sink: int) -> None:
    """Relay until the agent says something; what the port holds by then is written too.

    Args:
        channel: Of a machine with a second port.
        source: What is typed; its end is told to the guest as a terminal's.
        sink: What is shown; blocking.

    Raises:
        Ended, QmpError, ChannelError: as for `Channel.receive`.
        OSError: as write(2) refuses.
        RuntimeError: the machine has no second port.
    """
    terminal = channel.terminal
    if terminal is None:
        raise RuntimeError("a machine in virtual time has no terminal")
    terminal.setblocking(False)
    watched = {terminal.fileno(): select.POLLIN, source: select.POLLIN}
    waiting = b""
    while not channel.is_heard:
        events = {**watched, terminal.fileno(): select.POLLIN | (select.POLLOUT if waiting else 0)}
        if waiting:
            events.pop(source, None)  # nothing more is taken than the guest reads
        ready = dict(channel.wait_beside(events, math.inf))
        if terminal.fileno() in ready:
            waiting = waiting[_send(channel, waiting) :]
            _show(channel, sink)
        if source in ready:
            data = os.read(source, _PIECE)
            if not data:
                del watched[source]
            waiting += data or _END_OF_INPUT
            waiting = waiting[_send(channel, waiting) :]
    _show(channel, sink)


def _send(channel: Channel, data: bytes) -> int:
    assert channel.terminal is not None
    try:
        return channel.terminal.send(data) if data else 0
    except BlockingIOError:
        return 0
    except (BrokenPipeError, ConnectionResetError):  # the end of QEMU is seen elsewhere
        return len(data)


def _show(channel: Channel, sink: int) -> None:
    assert channel.terminal is not None
    while True:
        try:
            data = channel.terminal.recv(_PIECE)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]
