"""The table of system call numbers, against the kernel's own headers."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.architecture import UnsupportedPlatformError, system_call_number

RECORDED = tomllib.loads((Path(__file__).parents[3] / "fixtures/syscalls/numbers.toml").read_text())
ROWS = [
    (machine, name, number)
    for machine, table in (("x86_64", "x86-64"), ("aarch64", "generic"), ("riscv64", "generic"))
    for name, number in RECORDED[table].items()
]


@pytest.mark.parametrize(("machine", "name", "number"), ROWS)
def test_number_is_the_headers(machine: str, name: str, number: int) -> None:
    """A number is the one that the kernel's header for the machine defines."""
    assert system_call_number(name, machine, sixty_four_bits=True) == number


def test_numbers_that_differ_between_machines_are_in_the_record() -> None:
    """The record holds calls whose number depends on the machine, so a swapped column cannot pass."""
    assert RECORDED["x86-64"]["pivot_root"] != RECORDED["generic"]["pivot_root"]


@pytest.mark.parametrize("machine", ["i686", "armv7l", "ppc64le", "s390x", "loongarch64", ""])
def test_unknown_machine_is_an_error(machine: str) -> None:
    """A machine that the table lacks gets an error that names it, never another machine's number."""
    with pytest.raises(UnsupportedPlatformError, match=f"openat2: .*{machine!r}.*x86_64, aarch64, riscv64"):
        system_call_number("openat2", machine)


def test_32_bit_process_is_an_error() -> None:
    """A 32-bit process gets an error also where uname names a known 64-bit machine."""
    with pytest.raises(UnsupportedPlatformError, match="32-bit pointers"):
        system_call_number("openat2", "x86_64", sixty_four_bits=False)


def test_unknown_call_is_an_error() -> None:
    """A call without a row is a LookupError, never a guessed number."""
    with pytest.raises(LookupError, match="frobnicate"):
        system_call_number("frobnicate", "x86_64", sixty_four_bits=True)
