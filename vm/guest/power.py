"""Power cuts for a test that goes on after them, as a disc would see them.

The test's disc can lose its power (profile `disk`). A cut makes a second disc: what the first one holds at this moment
and would still hold without power. The test mounts that one and looks.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from kernelproof.vm.guest.write_log import IncompleteLog, replay

DISCS = Path("/dev/disc")
SCRATCH = "scratch"
_BLKFLSBUF = 0x1261
_WAIT_SECONDS = 5.0  # for a write that is under way


def cut(name: str = SCRATCH, discs: Path = DISCS) -> tuple[Path, int]:
    """Make `NAME-after` what is left of `NAME`; good once in a machine.

    Returns:
        The device, and how many writes survived.

    Raises:
        FileNotFoundError: the machine has no such disc.
        ValueError: the log is full or damaged.
        OSError: as for reading and writing the devices.
    """
    after = discs / f"{name}-after"
    log = os.open(discs / f"{name}-log", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(after, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)  # EBUSY: it is mounted
        try:
            return after, _replay(log, target)
        finally:
            os.close(target)
    finally:
        os.close(log)


def _replay(log: int, target: int) -> int:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        fcntl.ioctl(log, _BLKFLSBUF)  # what was read of it before is old
        try:
            survived = replay(log, target)
        except IncompleteLog:
            if time.monotonic() >= deadline:
                raise
        else:
            os.fsync(target)
            return survived
