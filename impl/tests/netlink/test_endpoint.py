"""A socket to the kernel: what it leaves open where it cannot be had."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kernelproof.impl.netlink.endpoint import KernelSocket


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"groups": [100_000]}, OSError),
        ({"groups": ["links"]}, TypeError),
        ({"receive_buffer_bytes": "many"}, TypeError),
    ],
    ids=["group", "word", "size"],
)
def test_a_socket_that_cannot_be_had_leaves_nothing_open(how: dict[str, Any], reason: type[Exception]) -> None:
    """A group or an option that is refused gives back both descriptors."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(reason):
        KernelSocket(**how)
    assert os.listdir("/proc/self/fd") == before
