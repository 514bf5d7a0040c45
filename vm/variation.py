"""What differs between the repetitions of a test, all of it from one number: entropy, pace, a delay, CPUs. Pure.

The number is told with each repetition; with it that one can be run again. A guest is a deterministic program only as
far as its inputs are: in real time, interrupts come when they come.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

SHIFTS = (0, 1, 2, 3)  # an instruction takes 2^n nanoseconds of virtual time
SPIN = 200_000  # rounds at most: some 20 ms of an emulated CPU


class Variation(NamedTuple):
    """One repetition.

    Args:
        seed: The number that it comes from; also that of the guest's `random`.
        entropy: What the kernel's generator is fed, hexadecimal.
        shift: Of the instruction counter; virtual time only.
        spin: Rounds of doing nothing before the test.
        cpus: How many of the machine's CPUs the test has.
    """

    seed: int
    entropy: str
    shift: int
    spin: int
    cpus: int

    def describe(self) -> dict[str, int]:
        """What is told of it."""
        return {"seed": self.seed, "shift": self.shift, "spin": self.spin, "cpus": self.cpus}


def repetition_seed(run_seed: int, nodeid: str, number: int) -> int:
    """The seed of an item's repetition: 48 bits, so that it is exact in any JSON."""
    text = f"{run_seed} {number} {nodeid}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big")


def draw_variation(seed: int, cpus: int) -> Variation:
    """The repetition that a seed stands for.

    Args:
        seed: Any number.
        cpus: How many the machine has.
    """
    digest = _digest(seed)
    entropy = hashlib.sha256(f"kernelproof entropy {seed}".encode()).hexdigest()
    spin = int.from_bytes(digest[:4], "big") % SPIN
    return Variation(seed, entropy, draw_shift(seed), spin, 1 + digest[5] % cpus)


def draw_shift(seed: int) -> int:
    """The pace of that repetition: what its template is made for."""
    return SHIFTS[_digest(seed)[4] % len(SHIFTS)]


def _digest(seed: int) -> bytes:
    return hashlib.sha256(f"kernelproof variation {seed}".encode()).digest()
