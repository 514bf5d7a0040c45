"""Tells how a machine was lost, from what QEMU said and left behind. Pure."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping

from kernelproof.vm.errors import MachineLost
from kernelproof.vm.guest.frames import AGENT_DIED

_PANIC = "Kernel panic - not syncing"

REMEDIES = {
    "panic": "read the oops in the kernel log: the test, or the kernel, is at fault",
    "hang": "read the stacks of all tasks in the kernel log; a test that needs longer asks for a longer deadline",
    "power-off": "do not power the machine off in a test",
    "reboot": "do not reboot the machine in a test",
    "agent": "do not kill all processes in a test: the agent that runs it is one of them",
    "qemu": "read what QEMU said; look for the kernel's out-of-memory killer in the host's log",
    "load": "run again: a template that does not load is made anew",
    "protocol": "run the test alone; if it repeats, report it: a guest may not break the protocol",
}


def judge_end(events: Iterable[Mapping[str, object]], console: str, status: int) -> tuple[str, str]:
    """The kind of loss and what was seen, for a QEMU that ended by itself.

    Args:
        events: QEMU's events, in their order.
        console: The end of the machine's console.
        status: QEMU's wait status.
    """
    names = [event.get("event") for event in events]
    reasons = [_reason(event) for event in events if event.get("event") == "SHUTDOWN"]
    if "GUEST_PANICKED" in names or _PANIC in console:
        return "panic", "the guest's kernel panicked"
    if AGENT_DIED in console and "guest-shutdown" in reasons:
        died = console.rpartition(AGENT_DIED)[2].split("\n")[0].strip()
        return "agent", f"the agent in the guest died with wait status {died[:20]}"
    if "guest-shutdown" in reasons:
        return "power-off", "the guest powered off"
    if "guest-reset" in reasons:
        return "reboot", "the guest rebooted"
    return "qemu", f"QEMU ended: {describe_status(status)}"


def _reason(event: Mapping[str, object]) -> object:
    data = event.get("data")
    return data.get("reason") if isinstance(data, dict) else None


def describe_status(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def lost(kind: str, subject: str, detail: str, log: str) -> MachineLost:
    """The error for a machine lost in this way."""
    return MachineLost(kind, subject, detail, REMEDIES[kind], log)
