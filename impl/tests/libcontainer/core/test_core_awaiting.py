"""What is done in a thread for an event loop is over when its caller goes on, cancelled or not."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kernelproof.impl.libcontainer.awaiting import finish


class Work:
    """Something that takes until it is released."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.error = error
        self.undone: list[str] = []

    def do(self) -> str:
        """Waits, then makes something."""
        self.begun.set()
        assert self.release.wait(60)
        if self.error is not None:
            raise self.error
        return "made"

    async def cancelled(self, times: int = 1) -> str:
        """Begins it and cancels the caller while it is done, before it is released."""
        task = asyncio.ensure_future(finish(self.do, self.undone.append))
        await asyncio.to_thread(self.begun.wait, 60)
        for _ in range(times):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=0)
            assert not done
        assert self.undone == []
        self.release.set()
        return await task


def test_what_it_returns() -> None:
    """The result and the error are the call's."""
    work = Work()
    work.release.set()
    assert asyncio.run(finish(work.do, work.undone.append)) == "made"
    work.error = OSError("no")
    with pytest.raises(OSError, match="no"):
        asyncio.run(finish(work.do, work.undone.append))
    assert work.undone == []


@pytest.mark.parametrize("times", [1, 3], ids=["once", "three times"])
def test_a_cancelled_caller_leaves_nothing(times: int) -> None:
    """However often it is cancelled, it goes on when the call is over, and what was made is taken back."""
    work = Work()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work.cancelled(times))
    assert work.undone == ["made"]


def test_a_cancelled_caller_of_what_fails() -> None:
    """What failed is not taken back; the cancellation goes on."""
    work = Work(OSError("no"))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work.cancelled())
    assert work.undone == []


def test_what_can_not_be_taken_back_is_told() -> None:
    """An error while taking back is not lost in the cancellation."""
    work = Work()

    def fail(made: str) -> None:
        raise OSError(f"{made} stays")

    async def cancelled() -> str:
        task = asyncio.ensure_future(finish(work.do, fail))
        await asyncio.to_thread(work.begun.wait, 60)
        task.cancel()
        work.release.set()
        return await task

    with pytest.raises(OSError, match="made stays"):
        asyncio.run(cancelled())
