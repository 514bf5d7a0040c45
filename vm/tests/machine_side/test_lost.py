"""How a machine was lost, from what it left behind."""

from __future__ import annotations

import signal

import pytest

from kernelproof.vm.errors import LOST_KINDS
from kernelproof.vm.lost import REMEDIES, describe_status, judge_end, lost

OFF = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
RESET = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}
PANICKED = {"event": "GUEST_PANICKED", "data": {"action": "run"}}
DIED = "[1.0] x\nkernelproof: AGENT DIED status 9\n"
PANIC = "[1.0] Kernel panic - not syncing: sysrq triggered crash\n"


@pytest.mark.parametrize(
    ("events", "console", "kind"),
    [
        ([PANICKED, RESET], "", "panic"),
        ([RESET], PANIC, "panic"),
        ([OFF], DIED, "agent"),
        ([OFF], "", "power-off"),
        ([RESET], "", "reboot"),
        ([RESET], DIED, "reboot"),
        ([], DIED, "qemu"),
        ([{"event": "SHUTDOWN"}, {"event": "STOP", "data": {}}], "", "qemu"),
    ],
)
def test_kind(events: list[dict[str, object]], console: str, kind: str) -> None:
    """A panic counts before all, with or without its device; then the agent, power-off, reboot; else QEMU."""
    assert judge_end(events, console, signal.SIGKILL)[0] == kind


def test_details() -> None:
    """The agent's status and QEMU's end are told."""
    assert judge_end([OFF], DIED, 0)[1] == "the agent in the guest died with wait status 9"
    assert judge_end([], "", signal.SIGKILL)[1] == "QEMU ended: killed by SIGKILL"
    assert describe_status(1 << 8) == "exit status 1"


def test_every_kind_has_a_remedy() -> None:
    """Each kind of loss has its remedy, and the error shows it."""
    assert set(REMEDIES) == set(LOST_KINDS)
    error = lost("hang", "clone", "no answer", "log")
    assert (error.kind, error.log) == ("hang", "log")
    assert REMEDIES["hang"] in str(error)
