"""A listening socket whose accept waits for a gate. It is a `socket.socket`, so servers take it as theirs.

The kernel listens from the start: clients connect and wait in its queue, and only `accept` (for datagrams `recv` and
its kin, see `gated`) is held back.

What a selector watches, `fileno()`, is not readable while the gate is shut: where it is asked for first while the gate
is shut, it is an epoll descriptor that holds the socket only while the gate is open, so that a loop does not spin. To
hand the socket itself to another process, take `real_fileno()`.

Sources: listen(2), NOTES; accept(2); epoll(7), Q3 (an epoll descriptor is itself pollable).
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, Final

from kernelproof.impl.listenbuffer import backlog
from kernelproof.impl.listenbuffer.address import STREAMS, Address, describe, protocol_of
from kernelproof.impl.listenbuffer.backlog import Queue
from kernelproof.impl.listenbuffer.doorman import Doorman
from kernelproof.impl.listenbuffer.errors import ActivationTimeout
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.gated import GatedSocket
from kernelproof.impl.listenbuffer.socketfile import Owned

_HAS_EPOLL: Final = hasattr(select, "epoll")


class GatedListener(GatedSocket):
    """A listening or receiving socket behind a gate.

    Made by `listen`, or around an inherited socket by `adopt`. The socket's methods are the standard ones; added are
    those below.

    For TLS, wrap each connection that `accept` gives by `SSLContext.wrap_socket(connection, server_side=True)`, and not
    the listener: that takes a socket's descriptor away from its object, and the gate is the object's.

    Source: CPython, Doc/library/ssl.rst, Server-side operation, and Lib/ssl.py at 3.11, `SSLSocket._create`.

    Attributes:
        gate: The gate; several listeners may share one.
    """

    @classmethod
    def adopt(
        cls,
        bound: socket.socket,
        gate: Gate,
        *,
        address: Address | None = None,
        owned: Owned | None = None,
        activate_within_seconds: float | None = None,
    ) -> GatedListener:
        """Put a bound (and, for streams, listening) socket behind a gate; the socket given is used up.

        Args:
            bound: The socket. It is not made to listen: that was its maker's business.
            gate: The gate.
            address: Where it listens, if `getsockname` does not tell.
            owned: The unix socket's file, if it is this process's to remove.
            activate_within_seconds: After this time without the gate's opening the listener is closed, and waiters
                get `ActivationTimeout`.
        """
        timeout = bound.gettimeout()
        made = cls(bound.family, bound.type, bound.proto, fileno=bound.detach())
        made._set_up(gate, address, owned, activate_within_seconds)
        made.settimeout(timeout)
        return made

    def _set_up(
        self, gate: Gate, address: Address | None, owned: Owned | None, activate_within_seconds: float | None
    ) -> None:
        self._hold(gate)
        self.owned = owned
        self._address = address
        self._epoll: select.epoll | None = None
        self._shown: int | None = None
        self._change = threading.Lock()
        self._timer: threading.Timer | None = None
        self._doorman: Doorman | None = None
        self.probes: set[object] = set()
        self.on_probe: Callable[[socket.socket, object], None] | None = None
        self._kind = (int(self.family), int(self.type), self.proto)
        self._backlog: int | None = None
        if self.family != socket.AF_UNIX:  # whose queue takes netlink
            self._backlog = self.effective_backlog
        gate.watch(self._follow_gate)
        if activate_within_seconds is not None and not gate.is_open:
            self._timer = threading.Timer(activate_within_seconds, self._expire, (activate_within_seconds,))
            self._timer.daemon = True
            self._timer.start()

    # --- the gate ----------------------------------------------------------------------------------------------------

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, once the gate is open.

        Raises:
            BlockingIOError: Non-blocking, and the gate is shut or nobody waits (EAGAIN).
            TimeoutError: The socket's timeout passed.
            ActivationTimeout: The gate was not opened in time.
            OSError: As for `socket.accept`; EBADF after close.
        """
        while True:
            connection, peer = self._through(self._accept_once)
            if not self.probes:
                return connection, peer
            origin = peer[:2] if isinstance(peer, tuple) else peer
            if origin not in self.probes:
                return connection, peer
            self.probes.discard(origin)
            if self.on_probe is not None:
                self.on_probe(connection, peer)

    def _accept_once(self) -> tuple[socket.socket, Any]:
        # As the standard method does it, without reading family and type as enumerations each time: that pays for
        # the look at the gate.
        if self._doorman is not None and (kept := self._doorman.take()) is not None:
            return kept
        descriptor, peer = self._accept()  # type: ignore[attr-defined]
        return socket.socket(*self._kind, fileno=descriptor), peer

    def activate(self) -> None:
        """Open the gate for the first time.

        Raises:
            AlreadyActive: It was opened before.
            GateClosed: It was closed for good.
        """
        self.gate.activate()

    def _expire(self, seconds: float) -> None:
        if self.gate.was_opened or self.gate.is_closed:
            return
        text = f"timeout ({seconds:g} s) reached waiting for listener to become ready"
        self._ended = ActivationTimeout(text)
        self.gate.close()
        with self._change:
            self._close_socket()

    def fileno(self) -> int:
        """The descriptor to watch: readable only while the gate is open and something waits; -1 after close.

        It stays the same from the first call on, also after the time for the activation: loops come and are told.
        """
        real = super().fileno()
        if real < 0 and self._ended is None:
            return -1
        if self._shown is not None:
            return self._shown
        with self._change:
            if self._shown is None:
                self._shown = real
                if _HAS_EPOLL and (self._doorman is not None or not self.gate.is_open):
                    self._epoll = select.epoll()
                    self._shown = self._epoll.fileno()
        self._follow_gate()
        return self._shown

    def real_fileno(self) -> int:
        """The socket's own descriptor, to pass it on; -1 after close."""
        return super().fileno()

    def _follow_gate(self) -> None:
        with self._change:
            if self._timer is not None and self.gate.is_open:
                self._timer.cancel()
            if self.gate.is_open:
                self._wake.clear()
            else:
                self._wake.set()
            if self.gate.is_closed:
                self._over.set()
            self._tell_doorman()
            if self._epoll is not None and not self._epoll.closed:
                self._show_gate(self._epoll)

    def _show_gate(self, epoll: select.epoll) -> None:
        # Open: the socket. Closed for good: what is always readable, so that loops come and see. Paused: nothing.
        watched = {super().fileno(): self.gate.is_open, self._wake.descriptor: self.gate.is_closed}
        watched.pop(-1, None)  # its time is over
        if self._doorman is not None:
            watched[self._doorman.filled.descriptor] = self.gate.is_open
        for descriptor, wanted in watched.items():
            with suppress(FileExistsError, FileNotFoundError):  # it is so already
                if wanted:
                    epoll.register(descriptor, select.EPOLLIN)
                else:
                    epoll.unregister(descriptor)

    def refuse_beyond(self, limit: int, *, dismissed: bool = False) -> None:
        """While the gate is shut, keep that many connections and reset those who come beyond; see `doorman`.

        Args:
            limit: How many are kept.
            dismissed: Not before `employ_doorman`.

        Raises:
            ValueError: The limit is negative, or this is no listener for connections.
            RuntimeError: It has a limit already, or a selector watches it already.
        """
        if limit < 0 or self.type not in STREAMS:
            raise ValueError("a limit is a number of connections of a stream listener")
        if self._doorman is not None or self._shown is not None:
            raise RuntimeError("the limit is set once, before a selector watches the listener")
        self._doorman = Doorman(super().fileno(), super().accept, limit)
        self._doorman.dismissed = dismissed
        self._filled = self._doorman.filled
        self._follow_gate()

    @property
    def limit(self) -> int | None:
        """How many connections are kept while the gate is shut; None if those beyond are not reset."""
        return None if self._doorman is None else self._doorman.limit

    def dismiss_doorman(self) -> list[tuple[socket.socket, Any]]:
        """Accept nobody more while the gate is shut; return those who were kept, which are the caller's now."""
        with self._change:
            if self._doorman is None:
                return []
            self._doorman.dismiss()
            return self._doorman.take_all()

    def employ_doorman(self, kept: Sequence[tuple[socket.socket, Any]] = ()) -> None:
        """Where there is a limit, reset those who come beyond it again; keep connections to be accepted first."""
        with self._change:
            if self._doorman is not None:
                self._doorman.dismissed = False
                self._doorman.keep(kept)
        self._follow_gate()

    def refused(self) -> int:
        """How many connections were reset because they came beyond the limit."""
        return 0 if self._doorman is None else self._doorman.refused

    def _tell_doorman(self) -> None:
        if self._doorman is None or self.gate.is_closed:
            return
        if self.gate.is_open:
            self._doorman.end()
        else:
            self._doorman.begin()

    @property
    def address(self) -> Address:
        """Where it listens, the real port included."""
        return self._address if self._address is not None else describe(self, protocol_of(self) or "tcp")

    def addr(self) -> Address:
        """Where it listens: the name of 2014."""
        return self.address

    def queue(self) -> Queue | None:
        """The kernel's queue: connections that wait and may wait, for datagrams bytes; None where it cannot tell."""
        return backlog.read_queue(self)

    @property
    def effective_backlog(self) -> int | None:
        """How many connections the kernel will hold; None if it does not tell. After close: what it told before."""
        if self.type in STREAMS and super().fileno() >= 0:
            found = self.queue()
            self._backlog = None if found is None else found.limit
        return self._backlog

    def pending(self) -> int | None:
        """How many connections wait (for datagrams, bytes); None where the kernel cannot tell."""
        found = self.queue()
        return None if found is None else found.length + (0 if self._doorman is None else len(self._doorman))

    def dropped(self) -> int | None:
        """How many connections or datagrams the kernel has dropped here; None where it cannot tell."""
        return backlog.read_dropped(self)

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self, timeout_seconds: float) -> Generator[tuple[socket.socket, Any], None, None]:
        """Hand out what waits in the queue until it is empty, or the time is over; the gate does not matter.

        Whom a doorman keeps comes first, and from then on nobody is reset at the limit.
        For the end without a successor: what is still in the queue at `close` is reset by the kernel. With one, leave
        the queue to it (see `Generations`).
        """
        deadline = time.monotonic() + timeout_seconds
        kept = deque(self.dismiss_doorman())
        try:
            while time.monotonic() < deadline:
                try:
                    yield kept.popleft() if kept else super().accept()
                except BlockingIOError:
                    return
        finally:
            if self._doorman is not None:
                self._doorman.keep(kept)

    def close(self) -> None:
        """Close the socket, wake all waiters, and remove the unix socket's file if it is still this one's.

        The gate is closed too: share one only between listeners that end together. Closing twice is once.

        Raises:
            OSError: The file may not be removed (EACCES, EPERM, EROFS); all else is done by then.
        """
        if self._timer is not None:
            self._timer.cancel()
        self.gate.close()  # those who wait leave before the descriptor's number can be another's
        self.gate.unwatch(self._follow_gate)
        with self._change:
            if self._epoll is not None:
                self._epoll.close()
            self._shown = -1
            self._close_socket()

    def __exit__(self, *_: object) -> None:
        self.close()  # also after the time for the activation, when the socket is closed and what is watched is not

    def _close_socket(self) -> None:
        if self._doorman is not None:
            self._doorman.close()
        if self._epoll is None and self._shown is not None:
            self._shown = -1  # it was the socket itself
        owned, self.owned = self.owned, None
        try:
            if owned is not None:
                owned.remove()
        finally:
            super().close()

    def dup(self) -> socket.socket:  # type: ignore[override]
        """Make a plain socket of a duplicate, which no gate holds back."""
        return socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.real_fileno()))

    def release(self) -> None:
        """Give up the unix socket's file: another process has the socket now, and will remove it."""
        self.owned = None
