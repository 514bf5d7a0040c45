"""Makes a clone a machine of its own: its clock, its kernel's entropy, its `random`.

All clones of a template are the same machine until this ran; it runs before anything else of the first message. It is
the first code that every clone runs, and under TCG all code is slow the first time: it does no more than it must.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

_RNDRESEEDCRNG = 0x5207


class Waker:
    """Applies wakes. Made before the snapshot.

    Args:
        urandom: The device that is fed; opened here and kept open.

    Raises:
        OSError: as open(2) refuses.
    """

    def __init__(self, urandom: Path = Path("/dev/urandom")) -> None:
        self._urandom = os.open(urandom, os.O_WRONLY | os.O_CLOEXEC)

    def __call__(self, wake: Mapping[str, object]) -> None:
        """Set the wall clock, reseed the kernel's generator, seed `random`.

        Bytes written to urandom alone change nothing that is read from it; the ioctl(2) that follows does, on every
        kernel.

        Args:
            wake: `clock_ns` (nanoseconds since the epoch), `entropy` (hexadecimal), `seed` (an integer).

        Raises:
            OSError: as clock_settime(2), write(2) and ioctl(2) refuse.
            KeyError, TypeError, ValueError: not a wake.
        """
        time.clock_settime_ns(time.CLOCK_REALTIME, cast("int", wake["clock_ns"]))
        os.write(self._urandom, bytes.fromhex(cast("str", wake["entropy"])))
        fcntl.ioctl(self._urandom, _RNDRESEEDCRNG)
        random.seed(cast("int", wake["seed"]))


def settle_on_first_cpu() -> None:
    """Come to rest on the lowest CPU that this process may use, and be free to leave it.

    The host's message is an interrupt of the first CPU: an agent that was snapshotted on another one is woken across
    CPUs in every clone, which costs a tenth of a short test.
    """
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        os.sched_setaffinity(0, (min(allowed),))
        os.sched_setaffinity(0, allowed)
