"""What a template is brought to before it is saved: its tick, its memory, its warmed code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.vm.guest.resident import list_writable, make_resident
from kernelproof.vm.phase import parse_tick_ahead

LAPIC = """dumping local APIC state for CPU 0\r
\r
LVTT\t 0x000000ec active-hi edge                 one-shot     Fixed  (vec 236)\r
Timer\t DCR=0x3 (divide by 16) initial_count = 249826 current_count = {left}\r
ISR\t (none)\r
IRR\t {requested}\r
"""


@pytest.mark.parametrize(
    ("left", "requested", "ahead"), [(249826, "(none)", 1.0), (124913, "(none)", 0.5), (249826, "236 ", 0.0)]
)
def test_tick_ahead_is_read(left: int, requested: str, ahead: float) -> None:
    """What is left of a tick is the ratio of the timer's counts, and nothing while an interrupt is not taken yet."""
    assert parse_tick_ahead(LAPIC.format(left=left, requested=requested)) == ahead


@pytest.mark.parametrize(
    "text", ["", "unknown command", LAPIC.replace("249826", "0").format(left=0, requested="(none)")]
)
def test_tick_of_a_monitor_that_does_not_tell_is_unknown(text: str) -> None:
    """A monitor that prints something else, or a timer that is off, is None: nobody waits for it."""
    assert parse_tick_ahead(text) is None


def test_only_private_writable_mappings_are_made_resident() -> None:
    """Read-only, shared and enormous mappings are left alone."""
    text = (
        "00001000-00003000 rw-p 00000000 00:00 0 [heap]\n"
        "00004000-00005000 r--p 00000000 08:01 7 /bin/true\n"
        "00006000-00007000 rw-s 00000000 00:05 8 /dev/zero\n"
        "7f0000000000-7f0010000000 rw-p 00000000 00:00 0\n"
    )
    assert list(list_writable(text)) == [(0x1000, 0x2000)]


def test_own_memory_can_be_made_resident() -> None:
    """All of the heap is there, its spare part included, where the kernel knows the advice."""
    Path("/proc/self/smaps").read_bytes()  # so that there is room for what the next look takes
    if not make_resident():
        return  # before Linux 5.14
    text = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    heap = text.partition("[heap]\n")[2].splitlines()
    sizes = {words[0]: int(words[1]) for line in heap[:30] if len(words := line.split()) == 3 and words[2] == "kB"}
    assert sizes["Size:"] - sizes["Rss:"] - sizes["Swap:"] <= 64  # what the look itself took


def test_rehearsal_puts_everything_back() -> None:
    """After the rehearsal the process has the folder, environment, import path and modules of before."""
    code = """
import os, sys
import kernelproof.vm.guest.rehearsal as rehearsal
wakes = []
def look():
    return os.getcwd(), dict(os.environ), list(sys.path), {name for name in sys.modules if "rehearsal" in name}
before = look()
rehearsal.rehearse(wakes.append)
assert look() == before, (before, look())
assert len(wakes) == rehearsal.SESSIONS * rehearsal.ITEMS, wakes
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
