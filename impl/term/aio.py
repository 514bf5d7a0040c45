"""copy_terminal for asyncio: the same Relay, woken by the event loop."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable

from kernelproof.impl.term.copying import Follower, prepared
from kernelproof.impl.term.detach import HOLD_SECONDS
from kernelproof.impl.term.relay import TIMED_OUT, Ended, Relay


async def copy_terminal_async(
    master: int,
    stdin: int = 0,
    stdout: int = 1,
    *,
    detach_keys: bytes = b"",
    hold_seconds: float = HOLD_SECONDS,
    resize: bool = False,
    pidfd: int | None = None,
    send_end: bool = True,
    on_output: Callable[[bytes], object] | None = None,
    timeout_seconds: float | None = None,
) -> Ended:
    """Copy stdin to a master and the master to stdout until one of them ends; as copy_terminal.

    The event loop must be able to watch descriptors: the selector loops of Unix can. When the task is cancelled,
    nothing is left watched, and the open files are as before.

    Raises:
        OSError, ValueError: as copy_terminal.
        Exception: what on_output raises.
    """
    with prepared(
        master,
        stdin,
        stdout,
        detach_keys=detach_keys,
        hold_seconds=hold_seconds,
        resize=resize,
        pidfd=pidfd,
        send_end=send_end,
        on_output=on_output,
        timeout_seconds=timeout_seconds,
    ) as (relay, follower, deadline):
        driver = _Driver(relay, follower, deadline)
        try:
            return await driver.done
        finally:
            driver.close()


class _Driver:
    """Watches what a relay is interested in, and tells it."""

    def __init__(self, relay: Relay, follower: Follower | None, deadline: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._relay = relay
        self._deadline = deadline
        self._watched: dict[int, int] = {}
        self._always: set[int] = set()  # regular files, which an event loop cannot watch and which never wait
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[Ended] = self._loop.create_future()
        self._follower = follower
        if follower is not None:
            self._loop.add_reader(follower.fd, self._do, follower.follow)
        self._update()

    def close(self) -> None:
        for fd, events in self._watched.items():
            self._unwatch(fd, events)
        self._watched = {}
        if self._follower is not None:
            self._loop.remove_reader(self._follower.fd)
        if self._timer is not None:
            self._timer.cancel()

    def _do(self, work: Callable[..., object], *arguments: object) -> None:
        """Do a piece of work for a callback; what it raises ends the copy."""
        if self.done.done():
            return
        try:
            work(*arguments)
            self._update()
        except Exception as error:  # noqa: BLE001 - on_output may raise anything, and the loop would only log it
            self.done.set_exception(error)

    def _on_ready(self, fd: int, events: int) -> None:
        self._do(self._relay.handle, fd, events, time.monotonic())

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._relay.stop(TIMED_OUT)
        self._do(self._relay.tick, now)

    def _update(self) -> None:
        if self.done.done():
            return
        if self._relay.ended is not None:
            self.done.set_result(self._relay.ended)
            return
        wanted = self._relay.interests()
        for fd, events in self._watched.items():
            if wanted.get(fd) != events:
                self._unwatch(fd, events)
        for fd, events in wanted.items():
            if self._watched.get(fd) != events:
                self._watch(fd, events)
        self._watched = wanted
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = min((each for each in (self._relay.deadline(), self._deadline) if each is not None), default=None)
        # The loop's clock may be another one: count from now.
        self._timer = None if due is None else self._loop.call_later(max(0.0, due - time.monotonic()), self._on_time)

    def _watch(self, fd: int, events: int) -> None:
        try:
            if events & select.POLLIN:
                self._loop.add_reader(fd, self._on_ready, fd, select.POLLIN)
            if events & select.POLLOUT:
                self._loop.add_writer(fd, self._on_ready, fd, select.POLLOUT)
        except PermissionError:
            self._always.add(fd)
            self._loop.call_soon(self._on_always, fd, events)

    def _on_always(self, fd: int, events: int) -> None:
        if self._watched.get(fd) == events and fd in self._always and not self.done.done():
            self._on_ready(fd, events)
            if self._watched.get(fd) == events:
                self._loop.call_soon(self._on_always, fd, events)

    def _unwatch(self, fd: int, events: int) -> None:
        if fd in self._always:
            return
        if events & select.POLLIN:
            self._loop.remove_reader(fd)
        if events & select.POLLOUT:
            self._loop.remove_writer(fd)


proxy_async = copy_terminal_async
