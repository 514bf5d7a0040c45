"""Calls that take their time, for programs with an event loop: done in a thread, and finished also when cancelled.

What a thread does can't be stopped half-way, and must not go on unseen: whoever is cancelled waits for its end, and
what it made is taken back before the cancellation goes on.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Callable
    from typing import TypedDict, TypeVar

    Made = TypeVar("Made")

    class StreamOptions(TypedDict, total=False):
        """Standard streams, as Runtime.create and Container.execute take them."""

        stdin: int | None
        stdout: int | None
        stderr: int | None

    class ExecuteOptions(StreamOptions, total=False):
        """As Container.execute takes them."""

        ignore_paused: bool

    class CreateOptions(StreamOptions, total=False):
        """As Runtime.create takes them."""

        bundle: str | os.PathLike[str]
        console_socket: str

    class PrepareOptions(StreamOptions, total=False):
        """As Runtime.prepare takes them."""

        bundle: str | os.PathLike[str]
        count: int


async def finish(call: Callable[[], Made], undo: Callable[[Made], object] | None = None) -> Made:
    """Does something in a thread.

    Args:
        call: what is done.
        undo: takes back what it has made, in a thread too, if this was cancelled meanwhile.

    Raises:
        CancelledError: this was cancelled; then all is over.
    """
    import asyncio  # only programs that have it loaded already come here

    doing = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await _outlast(doing)
        if undo is not None and not doing.cancelled() and doing.exception() is None:
            taking_back = asyncio.ensure_future(asyncio.to_thread(undo, doing.result()))
            await _outlast(taking_back)
            if not taking_back.cancelled():
                taking_back.result()
        raise


async def _outlast(doing: asyncio.Future[Made]) -> None:
    import asyncio  # as above

    # Who is cancelled twice waits all the same.
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            continue
