"""What PID 1 does before it starts the agent, without a machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import pytest

from kernelproof.vm.guest import init

ROWS = (("tun",), ("dummy", "numdummies=0"), ("nosuch",), ("veth",))
Lacking = Callable[..., list[list[str]]]


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Lacking:
    """Lets a kernel lack modules, as modprobe(8) reports it; the arguments of each modprobe that follows."""

    def lack(*missing: str) -> list[list[str]]:
        seen: list[list[str]] = []

        def call(words: Sequence[str]) -> int:
            _, names = words[: words.index("--")], words[words.index("--") + 1 :]
            seen.append(list(names))
            return int(any(name in missing for name in names))

        monkeypatch.setattr(subprocess, "call", call)
        return seen

    return lack


def test_modules_are_loaded_by_one_program(lacking: Lacking) -> None:
    """All that have no parameters at once, the others one by one."""
    seen = lacking()
    assert init.load_modules(ROWS) == ()
    assert seen == [["tun", "nosuch", "veth"], ["dummy", "numdummies=0"]]


def test_missing_modules_are_named(lacking: Lacking) -> None:
    """Each that the kernel lacks, in the order of the profile, whether it has parameters or not."""
    lacking("nosuch", "dummy")
    assert init.load_modules(ROWS) == ("dummy", "nosuch")


def test_no_modules(lacking: Lacking) -> None:
    """A profile may have none, or none without parameters."""
    seen = lacking()
    assert init.load_modules([]) == ()
    assert init.load_modules([("dummy", "numdummies=0")]) == ()
    assert seen == [["dummy", "numdummies=0"]]
