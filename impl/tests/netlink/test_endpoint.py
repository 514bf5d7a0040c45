"""A socket to the kernel: what it leaves open where it cannot be had, and how long it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kernelproof.impl.netlink import endpoint
from kernelproof.impl.netlink.endpoint import KernelSocket
from kernelproof.impl.netlink.monitor import Event, Monitor
from kernelproof.impl.netlink.rtnl import Rtnl


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"groups": [100_000]}, OSError),
        ({"groups": ["links"]}, TypeError),
        ({"receive_buffer_bytes": "many"}, TypeError),
    ],
    ids=["group", "word", "size"],
)
def test_a_socket_that_cannot_be_had_leaves_nothing_open(
    how: dict[str, Any], reason: type[Exception], descriptors: Callable[[], list[str]]
) -> None:
    """A group or an option that is refused gives back both descriptors."""
    before = descriptors()
    with pytest.raises(reason):
        KernelSocket(**how)
    assert descriptors() == before


@pytest.mark.parametrize("seconds", [3e6, 1e30, float("inf")])
def test_a_monitor_waits_for_as_long_as_told(namespace: int, seconds: float) -> None:
    """A time that poll(2) cannot wait at once, or an endless one, is waited for until something comes."""
    with Monitor("link", netns=namespace) as monitor, Rtnl(namespace) as net:
        timer = threading.Timer(0.05, lambda: net.link_set("lo", up=True))
        timer.start()
        event = next(monitor.events(timeout_seconds=seconds))
        timer.join()
    assert isinstance(event, Event)


@pytest.mark.parametrize("longest", [1, 7, 1000])
def test_a_long_wait_is_made_of_several(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """A time above what poll(2) takes is waited for in parts, and is not over before."""
    monkeypatch.setattr(endpoint, "_LONGEST_POLL", longest)
    kernel = KernelSocket()
    began = time.monotonic()
    assert not kernel.wait(0.03)
    assert time.monotonic() - began >= 0.03
    assert not kernel.wait(0)
    kernel.wake()
    assert kernel.wait(0.03)
    kernel.close()
