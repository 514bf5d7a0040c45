"""Generations of a server: one that answers with its name, and who asks it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

Address = tuple[str, int]


def echo(listener: socket.socket, name: str, stop: threading.Event | None = None) -> threading.Thread:
    """Answer each connection with a name, in a thread, until the listener is closed."""

    def serve() -> None:
        while stop is None or not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(100)
                connection.sendall(name.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def ask(address: Address, timeout: float = 60) -> str:
    """Connect, send a request, and return the answer."""
    with socket.create_connection(address, timeout=timeout) as client:
        client.sendall(b"request")
        return client.recv(100).decode()
