"""Who comes beyond the limit before the door is open: turned away at once, instead of left waiting.

The kernel has no such policy for one socket: beyond the backlog a TCP client is left without an answer until it gives
up. A doorman accepts those who come while the gate is shut, keeps as many as there are places, and resets the rest, so
that a client behind a balancer tries another server in a moment. When the gate opens, those who were kept come first.

During a hand-over the gate is shut for another reason: the clients in the queue are the successor's. The doorman is
dismissed then, and those whom it keeps go to the successor.

Source: listen(2), NOTES; ip-sysctl, tcp_abort_on_overflow (for all sockets of a network namespace); socket(7),
SO_LINGER.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from kernelproof.impl.listenbuffer.wake import RETRY_SECONDS, Wake

_RESET: Final = struct.pack("ii", 1, 0)

Accepted = tuple[socket.socket, Any]


class Doorman:
    """A thread that works while the gate is shut.

    Args:
        descriptor: The listening socket's own.
        accept: Accepts one connection without waiting; BlockingIOError if none waits.
        limit: How many connections are kept.

    Attributes:
        limit: The same.
        dismissed: Whether it does not work, though the gate be shut.
        refused: How many were turned away.
    """

    def __init__(self, descriptor: int, accept: Callable[[], Accepted], limit: int) -> None:
        self._descriptor = descriptor
        self._accept = accept
        self.limit = limit
        self.dismissed = False
        self._kept: deque[Accepted] = deque()
        self._lock = threading.Lock()  # `filled` is set as long as somebody is kept
        self._stop = Wake()
        self._thread: threading.Thread | None = None
        self.filled = Wake()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self) -> None:
        """Start working, if it does not and is not dismissed."""
        if self._thread is None and not self.dismissed:
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, daemon=True, name="doorman")
            self._thread.start()

    def end(self) -> None:
        """Stop working; those who are kept stay kept."""
        if self._thread is not None:
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self._thread = None

    def dismiss(self) -> None:
        """Stop working, and do not begin again; those who are kept stay kept."""
        self.dismissed = True
        self.end()

    def keep(self, found: Sequence[Accepted]) -> None:
        """Keep connections, before those who are kept."""
        with self._lock:
            self._kept.extendleft(reversed(found))
            if self._kept:
                self.filled.set()

    def take_all(self) -> list[Accepted]:
        """Hand out all who are kept."""
        return list(iter(self.take, None))

    def take(self) -> Accepted | None:
        """Hand out the one who came first, None if there is none."""
        if not self._kept:
            return None
        with self._lock:
            found = self._kept.popleft() if self._kept else None
            if not self._kept:
                self.filled.clear()
        return found

    def close(self) -> None:
        """Stop working, and reset those who are kept."""
        self.end()
        for connection, _ in self.take_all():
            reset(connection)

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._stop.descriptor, select.POLLIN)
        stop = select.poll()
        stop.register(self._stop.descriptor, select.POLLIN)
        while self._stop.descriptor not in [number for number, _ in poll.poll()]:
            try:
                found = self._accept()
            except BlockingIOError:
                continue
            except OSError:
                stop.poll(RETRY_SECONDS * 1000)
                continue
            if len(self._kept) < self.limit:
                with self._lock:
                    self._kept.append(found)
                    self.filled.set()
            else:
                self.refused += 1
                reset(found[0])


def reset(connection: socket.socket) -> None:
    """End a connection with a reset, so that the other side knows at once that nobody serves it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
