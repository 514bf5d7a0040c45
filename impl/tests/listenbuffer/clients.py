"""Clients of a listener, and threads that wait at it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from kernelproof.impl.listenbuffer import (
    GatedListener,
)


def client_of(listener: GatedListener, data: bytes = b"") -> socket.socket:
    """Connect to a listener and send something."""
    client = socket.socket(listener.family, listener.type)
    address: Any = listener.address.path or listener.getsockname()
    if listener.address.is_abstract:
        address = listener.address.path.encode()
    client.settimeout(60)
    client.connect(address)
    if data:
        client.send(data)
    return client


def run_threads(count: int, work: Callable[[], object]) -> list[object]:
    """Start threads and return a list that fills with what they return or raise; it is complete after `join`."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(work())
        except (OSError, AssertionError) as error:
            results.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    results.append(threads)
    return results


def joined(results: list[object]) -> list[object]:
    """Wait for the threads of `run_threads` and return what they gave."""
    threads = next(found for found in results if isinstance(found, list))
    for thread in threads:
        thread.join(60)
    return [found for found in results if found is not threads]
