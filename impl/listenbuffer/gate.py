"""A gate that holds callers back until it is opened; it may be paused and opened again, and closed for good.

All waiters are woken at once, whatever they wait with: a blocked thread, a selector, asyncio. Others can be told
to open the gate: an event, a future, an asyncio event, see `follow`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kernelproof.impl.listenbuffer.errors import AlreadyActive, GateClosed

CLOSED: Final = "closed"
OPEN: Final = "open"
PAUSED: Final = "paused"


class Gate:
    """Paused at first; `open` lets through, `pause` holds back again, `close` ends it.

    It has `set`, `is_set` and `wait` as well, so that it can stand where a `threading.Event` is expected.

    Attributes:
        was_opened: Whether it was ever open.
        waited: How many callers have had to wait so far.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self._condition = threading.Condition()
        self._state = OPEN if is_open else PAUSED
        self.was_opened = is_open
        self._watchers: list[Callable[[], None]] = []
        self.waited = 0

    @property
    def is_open(self) -> bool:
        """Whether callers are let through."""
        return self._state == OPEN

    @property
    def is_closed(self) -> bool:
        """Whether the gate was closed for good."""
        return self._state == CLOSED

    def open(self) -> None:
        """Let all waiters through, and those who come; on an open gate nothing.

        Raises:
            GateClosed: It was closed for good.
        """
        self._change(OPEN)

    def pause(self) -> None:
        """Hold callers back again; who is through is through.

        Raises:
            GateClosed: It was closed for good.
        """
        self._change(PAUSED)

    def activate(self) -> None:
        """Open the gate for the first time.

        Raises:
            AlreadyActive: It was opened before.
            GateClosed: It was closed for good.
        """
        with self._condition:
            if self.was_opened:
                raise AlreadyActive("the gate was opened before; open() is for opening it again")
        self.open()

    def close(self) -> None:
        """Close the gate for good: waiters get `GateClosed`. Closing twice is once."""
        with self._condition:
            if self._state == CLOSED:
                return
        self._change(CLOSED)

    def wait_until_open(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the gate is open; return whether it is.

        Args:
            timeout_seconds: How long at most, in seconds; None for ever.

        Raises:
            GateClosed: It was closed for good, before or meanwhile.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._condition:
            if self._state != OPEN:
                self.waited += 1
            while self._state == PAUSED:
                rest = None if deadline is None else deadline - time.monotonic()
                if rest is not None and rest <= 0:
                    return False
                self._condition.wait(rest)
            if self._state == CLOSED:
                raise GateClosed("the gate was closed")
            return True

    set = open
    wait = wait_until_open

    def is_set(self) -> bool:
        """Whether callers are let through."""
        return self.is_open

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have a function called after each change, in the thread that made it."""
        with self._condition:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Stop calling a function; one that is not called (any more) is none to stop."""
        with self._condition, suppress(ValueError):
            self._watchers.remove(watcher)

    def _change(self, state: str) -> None:
        with self._condition:
            if self._state == CLOSED:
                raise GateClosed("the gate was closed")
            self._state = state
            self.was_opened = self.was_opened or state == OPEN
            self._condition.notify_all()
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()


def follow(gate: Gate, activate: object) -> None:
    """Open a gate when something else happens.

    Args:
        gate: The gate.
        activate: A future (of `concurrent.futures` or asyncio: when it is done), an asyncio event (when it is set;
            called within its running loop), or anything with a blocking `wait()` such as a `threading.Event` (a
            daemon thread waits for it).

    Raises:
        TypeError: It is none of these.
        RuntimeError: An asyncio event, and no loop is running.
    """
    done = getattr(activate, "add_done_callback", None)
    if callable(done):
        done(lambda _: _open(gate))
    elif type(activate).__module__.startswith("asyncio"):
        task = sys.modules["asyncio"].get_running_loop().create_task(activate.wait())  # type: ignore[attr-defined]
        task.add_done_callback(lambda finished: None if finished.cancelled() else _open(gate))
    elif callable(getattr(activate, "wait", None)):
        threading.Thread(target=_wait_and_open, args=(gate, activate), daemon=True, name="gate").start()
    else:
        raise TypeError(f"{activate!r} is no gate, event or future")


def _wait_and_open(gate: Gate, event: object) -> None:
    event.wait()  # type: ignore[attr-defined]
    _open(gate)


def _open(gate: Gate) -> None:
    # The gate may have been closed while the other thing was waited for.
    if not gate.is_closed:
        gate.open()
