"""A socket whose calls wait for a gate: who waits how long, and what wakes them.

Blocking calls wait within the socket's own timeout; non-blocking ones raise BlockingIOError as on an empty queue. A
pause holds back those who already wait, and a close wakes them: to the kernel the descriptor is always non-blocking,
and waiting is ours. Sending is not held back.

Sources: recv(2) and send(2), EAGAIN; poll(2).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kernelproof.impl.listenbuffer.errors import GateClosed
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.wake import Wake

T = TypeVar("T")


class GatedSocket(socket.socket):
    """A socket behind a gate: what `GatedListener` is made of.

    Attributes:
        gate: The gate.
    """

    gate: Gate

    def _hold(self, gate: Gate) -> None:
        self.gate = gate
        self._patience: float | None = None
        self._wake = Wake()  # set while the gate is not open
        self._over = Wake()  # set when it is closed for good
        self._ended: Exception | None = None
        self._filled: Wake | None = None
        super().settimeout(0.0)

    def recv(self, *arguments: Any) -> bytes:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recv(*arguments))

    def recvfrom(self, *arguments: Any) -> tuple[bytes, Any]:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recvfrom(*arguments))

    def recv_into(self, *arguments: Any, **keywords: Any) -> int:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recv_into(*arguments, **keywords))

    def recvfrom_into(self, *arguments: Any, **keywords: Any) -> tuple[int, Any]:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recvfrom_into(*arguments, **keywords))

    def recvmsg(self, *arguments: Any) -> tuple[bytes, list[Any], int, Any]:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recvmsg(*arguments))

    def recvmsg_into(self, *arguments: Any) -> tuple[int, list[Any], int, Any]:
        """Receive, once the gate is open; errors as for `accept`."""
        return self._through(lambda: super(GatedSocket, self).recvmsg_into(*arguments))

    def send(self, *arguments: Any) -> int:
        """Send a datagram to the peer of a connected socket; errors as for `socket.send`."""
        return self._sending(lambda: super(GatedSocket, self).send(*arguments), None)

    def sendall(self, *arguments: Any) -> None:
        """Send a datagram to the peer of a connected socket; errors as for `socket.send`."""
        self.send(*arguments)

    def sendto(self, *arguments: Any) -> int:
        """Send a datagram; errors as for `socket.sendto`."""
        return self._sending(lambda: super(GatedSocket, self).sendto(*arguments), arguments[-1])

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        """Send a datagram; errors as for `socket.sendmsg`."""
        return self._sending(lambda: super(GatedSocket, self).sendmsg(buffers, ancdata, flags, address), address)

    def _sending(self, call: Callable[[], int], target: Any) -> int:
        deadline = self._deadline()
        while True:
            try:
                return call()
            except BlockingIOError:
                if self._patience == 0.0:
                    raise
            self._check_usable()
            self._poll({super().fileno(): select.POLLOUT, self._over.descriptor: select.POLLIN}, deadline)
            if self.family == socket.AF_UNIX and target is not None:
                # Only a socket that is connected there is told when the other one's queue has room.
                with socket.socket(self.family, self.type) as asking:
                    asking.connect(target)
                    self._poll({asking.fileno(): select.POLLOUT, self._over.descriptor: select.POLLIN}, deadline)

    def _deadline(self) -> float | None:
        return None if self._patience is None else time.monotonic() + self._patience

    def _through(self, call: Callable[[], T]) -> T:
        if self.gate.is_open:  # all that an open gate costs
            try:
                return call()
            except BlockingIOError:
                if self._patience == 0.0:
                    raise
        elif self._patience == 0.0:
            self._check_usable()
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        deadline = self._deadline()
        while True:
            self._wait_for_gate(deadline)
            try:
                return call()
            except BlockingIOError:
                self._wait_until_ready(deadline)

    def _wait_for_gate(self, deadline: float | None) -> None:
        try:
            opened = self.gate.wait_until_open(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except GateClosed:
            opened = True  # for `_check_usable` to say why
        self._check_usable()
        if not opened:
            raise TimeoutError("timed out")

    def _wait_until_ready(self, deadline: float | None) -> None:
        # Until the socket is ready, somebody is kept elsewhere, or the gate changes.
        watched = {super().fileno(): select.POLLIN, self._wake.descriptor: select.POLLIN}
        if self._filled is not None:
            watched[self._filled.descriptor] = select.POLLIN
        self._poll(watched, deadline)

    def _poll(self, watched: dict[int, int], deadline: float | None) -> None:
        poll = select.poll()
        for descriptor, event in watched.items():
            if descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            poll.register(descriptor, event)
        rest = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(rest):
            raise TimeoutError("timed out")

    def _check_usable(self) -> None:
        if self._ended is not None:
            raise self._ended
        if super().fileno() < 0 or self.gate.is_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def settimeout(self, value: float | None) -> None:
        """Set how long blocking calls wait, the time for the gate included; in seconds, None for ever.

        Raises:
            ValueError: It is negative.
        """
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._patience = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        """Return how long blocking calls wait."""
        return self._patience

    def setblocking(self, flag: bool) -> None:
        """Make calls wait for ever, or not at all."""
        self._patience = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether calls wait."""
        return self._patience != 0.0

    @property
    def timeout(self) -> float | None:
        """How long blocking calls wait."""
        return self._patience
