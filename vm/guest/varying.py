"""Makes a repetition of a test differ from the others: fewer CPUs, and everything some moments later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

CPUS = Path("/sys/devices/system/cpu")
AGENT = Path("/usr/lib/kernelproof-agent")  # in machines alone


def vary(variation: Mapping[str, object], cpus: Path = CPUS) -> None:
    """Take CPUs out and spin.

    Args:
        variation: `cpus`: how many stay, 0 for all; `spin`: rounds of doing nothing.
        cpus: Where the kernel has them.

    Raises:
        OSError: as write(2) refuses; EBUSY.
        RuntimeError: this is no machine, and its CPUs are not ours to take.
    """
    if wanted := cast("int", variation["cpus"]):
        _take_out(cpus, wanted)
    for _ in range(cast("int", variation["spin"])):
        pass


def _take_out(cpus: Path, wanted: int) -> None:
    if cpus == CPUS and not AGENT.is_dir():
        raise RuntimeError("not in a machine: its CPUs stay")
    for online in sorted(cpus.glob("cpu[1-9]*/online"), key=lambda path: int(path.parent.name[3:]))[wanted - 1 :]:
        online.write_text("0")
