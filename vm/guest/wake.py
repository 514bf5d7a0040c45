"""Makes a clone a machine of its own: its clock, its kernel's entropy, its `random`.

All clones of a template are the same machine until this ran; it runs before anything else of the first message.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

_RNDRESEEDCRNG = 0x5207


def apply_wake(wake: Mapping[str, object], urandom: Path = Path("/dev/urandom")) -> None:
    """Set the wall clock, reseed the kernel's generator, seed `random`.

    Bytes written to urandom alone change nothing that is read from it; the ioctl(2) that follows does, on every kernel.

    Args:
        wake: `clock_ns` (nanoseconds since the epoch), `entropy` (hexadecimal), `seed` (an integer).
        urandom: The device to feed.

    Raises:
        OSError: as clock_settime(2), open(2), write(2) and ioctl(2) refuse.
        KeyError, ValueError: not a wake.
    """
    time.clock_settime_ns(time.CLOCK_REALTIME, int(str(wake["clock_ns"])))
    descriptor = os.open(urandom, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, bytes.fromhex(str(wake["entropy"])))
        fcntl.ioctl(descriptor, _RNDRESEEDCRNG)
    finally:
        os.close(descriptor)
    random.seed(int(str(wake["seed"])))
