"""Containers of one event loop: each call has its form for it, and who is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from kernelproof.impl.libcontainer import NOTHING, PIPE, Container, NoSuchContainerError, Runtime
from kernelproof.impl.libcontainer.config.records import Memory, Resources
from kernelproof.impl.libcontainer.events import ENDED, OOM, PAUSED, RESUMED

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def runtime(bundle: Any) -> Iterator[Runtime]:
    """A runtime whose helpers are there before the test and gone after it."""
    with Runtime(bundle.states) as made:
        yield made


def descriptors() -> list[str]:
    """Where this process's descriptors lead."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the directory itself
            continue
    return sorted(found)


def test_a_life(bundle: Any, runtime: Runtime, cgroup2: Any) -> None:
    """All that is done to a container is done from an event loop, which goes on meanwhile."""

    async def live() -> None:
        config = bundle.config("sleep", "1000")
        async with await runtime.create_async("box", config, bundle=bundle.path, stdout=NOTHING) as container:
            assert (await container.state_async())["status"] == "created"
            await container.start_async()
            process = await container.exec_async(["echo", "inside"], stdout=PIPE)
            assert await process.wait_async() == 0
            assert process.read_output() == b"inside\n"
            await container.pause_async()
            assert (await container.state_async())["status"] == "paused"
            await container.resume_async()
            assert await container.verify_async() == ()
            assert (await container.stats_async()).pids is not None
            await container.kill_async(9)
            assert await container.wait_async() == 137
        with pytest.raises(NoSuchContainerError):
            await container.state_async()

    asyncio.run(live())


def test_events(bundle: Any, runtime: Runtime, cgroup2: Any) -> None:
    """Events come while something else is done in the loop, in order, and the end is the last."""

    async def listen(container: Container, seen: asyncio.Queue[str]) -> None:
        async with container.events() as events:
            await seen.put("listening")
            async for event in events:
                await seen.put(event.kind)

    async def live() -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()
        config = bundle.config("sleep", "1000")
        async with await runtime.create_async("box", config, bundle=bundle.path) as container:
            await container.start_async()
            listening = asyncio.ensure_future(listen(container, seen))
            assert await seen.get() == "listening"
            for act, kind in ((container.pause_async, PAUSED), (container.resume_async, RESUMED)):
                await act()
                assert await asyncio.wait_for(seen.get(), 60) == kind
            await container.kill_async(9)
            assert await asyncio.wait_for(seen.get(), 60) == ENDED
            await listening
            await container.wait_async()
            assert [event.kind async for event in container.events()] == [ENDED]
            assert [event.kind for event in container.events()] == [ENDED]

    asyncio.run(live())


def test_events_of_version_1(bundle: Any, runtime: Runtime, hierarchy: Callable[..., Any]) -> None:
    """Out of memory and the end, of version 1, come to the loop too."""
    for controller in ("memory", "freezer", "pids"):
        hierarchy("v1", controller)
    config = bundle.config(
        "sh", "-c", "(x=greedy; while :; do x=$x$x; done); exit 0",
        resources=Resources(memory=Memory(limit=16 << 20, swap=16 << 20)),
    )  # fmt: skip

    async def live() -> list[str]:
        made = runtime.create_async("box", config, bundle=bundle.path)
        async with await made as container, container.events() as events:
            await container.start_async()
            return [event.kind async for event in events]

    kinds = asyncio.run(live())
    assert (kinds[0], kinds[-1]) == (OOM, ENDED)


@pytest.mark.parametrize("how", ["cancelled", "left", "timed out"])
def test_who_stops_listening_leaves_nothing(bundle: Any, runtime: Runtime, cgroup2: Any, how: str) -> None:
    """A cancelled, an abandoned and a timed-out look at events close what they had open, in the loop that goes on."""

    async def listen(container: Container) -> None:
        async for _ in container.events(0.01 if how == "timed out" else None):
            if how == "left":
                break

    async def live() -> None:
        config = bundle.config("sleep", "1000")
        async with await runtime.create_async("box", config, bundle=bundle.path) as container:
            await container.start_async()
            before = descriptors()
            listening = asyncio.ensure_future(listen(container))
            while descriptors() == before and not listening.done():
                await asyncio.sleep(0)
            if how == "left":
                await container.pause_async()
            elif how == "cancelled":
                listening.cancel()
            await asyncio.wait([listening])
            assert listening.cancelled() is (how == "cancelled")
            await asyncio.sleep(0)  # an abandoned generator is closed by the loop
            await asyncio.sleep(0)
            assert descriptors() == before

    asyncio.run(live())


async def cancel_after(steps: int, begun: Awaitable[object]) -> bool:
    """Cancels it after so many turns of the loop; whether that came before its end."""
    task = asyncio.ensure_future(begun)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 50], ids=str)
def test_a_cancelled_create(bundle: Any, runtime: Runtime, cgroup2: Any, steps: int) -> None:
    """A creation that is cancelled at whatever moment leaves no container, process, pipe or cgroup."""
    runtime.warm(2)

    async def live() -> None:
        before = descriptors()
        config = bundle.config("sleep", "1000")
        assert await cancel_after(steps, runtime.create_async("box", config, bundle=bundle.path, stdout=PIPE))
        assert [one for one in descriptors() if one.startswith("pipe:")] == [
            one for one in before if one.startswith("pipe:")
        ]
        assert list(runtime.list()) == []

    asyncio.run(live())


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 50], ids=str)
def test_a_cancelled_execute(bundle: Any, runtime: Runtime, cgroup2: Any, steps: int) -> None:
    """A further process whose start is cancelled is gone when the cancellation is; the container goes on."""
    config = bundle.config("sleep", "1000")

    async def live() -> None:
        async with await runtime.create_async("box", config, bundle=bundle.path) as container:
            await container.start_async()
            assert await cancel_after(steps, container.execute_async(["sleep", "1000"], stdout=PIPE))
            assert (cgroup2 / "box/cgroup.procs").read_text().split() == [str((await container.state_async())["pid"])]
            assert await cancel_after(steps, container.wait_async())
            assert (await container.state_async())["status"] == "running"

    asyncio.run(live())
