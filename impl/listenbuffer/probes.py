"""The old generation's connection to itself, through a socket that it shares with its successor."""

from __future__ import annotations

import os
import socket

from kernelproof.impl.listenbuffer.errors import HandOverRefused
from kernelproof.impl.listenbuffer.listener import GatedListener


def make_probe(listener: GatedListener) -> socket.socket:
    """Make a client with an address of its own, by which the successor will know it."""
    probe = socket.socket(listener.family, listener.type)
    if listener.family == socket.AF_UNIX:
        probe.bind("")  # a free abstract name
    elif listener.family in (socket.AF_INET, socket.AF_INET6):
        probe.bind((str(target_of(listener)[0]), 0))
    return probe


def target_of(listener: GatedListener) -> tuple[object, ...] | str:
    """Tell where to connect to reach a listener from this host."""
    if listener.family == socket.AF_UNIX:
        return listener.address.path
    name = listener.getsockname()
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return (anywhere.get(name[0], name[0]), *name[1:])


def write_origin(probe: socket.socket) -> list[object]:
    """Write a client's address for a message."""
    name = probe.getsockname()
    return [os.fsdecode(name)] if probe.family == socket.AF_UNIX else list(name[:2])


def read_origin(listener: GatedListener, origin: object) -> object:
    """Read a client's address from a message, as `accept` will show it.

    Raises:
        HandOverRefused: The message has none.
    """
    if not isinstance(origin, list) or not origin:
        raise HandOverRefused("the other side's probe has no origin")
    return os.fsencode(origin[0]) if listener.family == socket.AF_UNIX else tuple(origin)
