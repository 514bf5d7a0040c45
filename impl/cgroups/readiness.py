"""Waiting on a descriptor for poll(2)'s events, in a thread or in an event loop; never asleep, never by counting."""

from __future__ import annotations

import os
import select
from errno import ENODEV
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def wait_for_event(fd: int, events: int, timeout_seconds: float | None) -> bool:
    """Wait until poll(2) gives one of the events.

    Args:
        fd: the descriptor.
        events: of the select module, such as POLLPRI.
        timeout_seconds: None: for ever.

    Returns:
        False if the time passed first.

    Raises:
        OSError: ENODEV: POLLERR without the event: what was watched is gone.
    """
    poll = select.poll()
    poll.register(fd, events)
    for _, found in poll.poll(None if timeout_seconds is None else timeout_seconds * 1000):
        if found & events:
            return True
        raise OSError(ENODEV, os.strerror(ENODEV))
    return False


async def wait_for_event_async(fd: int, events: int = select.EPOLLPRI) -> None:
    """Wait in the running event loop until epoll(7) gives one of the events for a descriptor.

    Raises:
        OSError: ENODEV: it is gone.
    """
    import asyncio  # 40 ms, which nobody pays who has no event loop

    loop = asyncio.get_running_loop()
    watcher = select.epoll()
    try:
        watcher.register(fd, events)
        ready = loop.create_future()
        loop.add_reader(watcher.fileno(), _note, ready)
        try:
            await ready
        finally:
            loop.remove_reader(watcher.fileno())
        for _, found in watcher.poll(0):
            if not found & events:
                raise OSError(ENODEV, os.strerror(ENODEV))
    finally:
        watcher.close()


def _note(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
