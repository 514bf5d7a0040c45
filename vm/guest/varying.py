"""Makes a repetition of a test differ from the others: fewer CPUs, and everything some moments later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

CPUS = Path("/sys/devices/system/cpu")


def vary(variation: Mapping[str, object], cpus: Path = CPUS) -> None:
    """Take CPUs out and spin.

    Args:
        variation: `cpus`: how many stay; `spin`: rounds of doing nothing.
        cpus: Where the kernel has them.

    Raises:
        OSError: as write(2) refuses; EBUSY.
    """
    wanted = cast("int", variation["cpus"])
    for online in sorted(cpus.glob("cpu[1-9]*/online"), key=lambda path: int(path.parent.name[3:]))[wanted - 1 :]:
        online.write_text("0")
    for _ in range(cast("int", variation["spin"])):
        pass
