"""Every way in which a machine is lost is told apart, within its deadline, with the kernel log."""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path

import pytest

from kernelproof.vm import console
from kernelproof.vm.errors import MachineLost
from kernelproof.vm.machine import Machine
from kernelproof.vm.template import Template

SOON = 300.0  # wall seconds on a busy host; an idle one needs 0.1 to 0.2


def lose(machine: Machine, *command: str, timeout: float = 60.0) -> MachineLost:
    began = time.monotonic()
    with pytest.raises(MachineLost) as caught:
        machine.run(command, timeout=timeout)
    assert time.monotonic() - began < SOON
    with pytest.raises(RuntimeError, match="closed"):
        machine.run(["true"])
    return caught.value


def test_panic(machine: Machine) -> None:
    """A panic is told with the oops."""
    error = lose(machine, "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert error.kind == "panic"
    assert "sysrq_handle_crash" in error.log
    assert "Kernel panic - not syncing" in error.log


def test_power_off(machine: Machine) -> None:
    """A guest that powers off is told as that."""
    assert lose(machine, "busybox", "poweroff", "-f").kind == "power-off"


def test_reboot(machine: Machine) -> None:
    """A guest that reboots is told as that."""
    assert lose(machine, "busybox", "reboot", "-f").kind == "reboot"


def test_agent_killed(machine: Machine) -> None:
    """An agent that is killed is told as that, with its wait status."""
    error = lose(machine, "sh", "-c", "kill -9 $PPID; sleep 1000")
    assert error.kind == "agent"
    assert "wait status 9" in error.detail


def test_all_killed(machine: Machine) -> None:
    """A guest in which everything was killed is told as a lost agent."""
    assert lose(machine, "sh", "-c", "echo i > /proc/sysrq-trigger; sleep 1000").kind == "agent"


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("while :; do :; done", "NMI: Not continuing"),
        ("mkfifo /tmp/f; cat /tmp/f", "wait_for_partner"),
    ],
    ids=["busy", "blocked"],
)
def test_hang(machine: Machine, script: str, shown: str) -> None:
    """At its deadline a guest that is busy or blocked in the kernel is made to show the stacks of all its tasks."""
    machine.run(["true"])
    error = lose(machine, "sh", "-c", script, timeout=1.0)
    assert error.kind == "hang"
    assert "NMI" in error.log
    assert "task:python3" in error.log
    assert shown in error.log


def test_hang_without_interrupts(machine: Machine) -> None:
    """A guest that stands still for another reason is lost within its deadline as well."""
    pid = machine._running.child.pid
    os.kill(pid, signal.SIGSTOP)
    error = lose(machine, "true", timeout=1.0)
    assert error.kind == "hang"


def test_qemu_killed(machine: Machine) -> None:
    """A QEMU that something kills is told as that, with the signal."""
    os.kill(machine._running.child.pid, signal.SIGKILL)
    error = lose(machine, "true")
    assert error.kind == "qemu"
    assert "SIGKILL" in error.detail


def test_log_is_safe_to_show(machine: Machine) -> None:
    """What the guest writes to its console is shown without control characters."""
    machine.run(["sh", "-c", r"printf '\033[31mred\007\n' > /dev/console"])
    assert "\\x1b[31mred\\x07\n" in machine.log()


def test_log_begins_with_the_clone(template: Template) -> None:
    """A clone's log holds what came after its start only."""
    with template.clone() as machine:
        machine.run(["sh", "-c", "echo '<1>marked' > /dev/kmsg"])
        assert "marked" in machine.log()
        assert "SeaBIOS" not in machine.log()


def test_console_flood_is_bounded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that floods its console is not kept in full."""
    monkeypatch.setattr(console, "LIMIT", 300_000)
    for _ in range(3):
        machine.run(["sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x > /dev/console"], timeout=120)
    assert os.fstat(machine._running.console.descriptor).st_size < 300_000
    assert machine.log().startswith("[earlier lines left out]\n")


def test_forgotten_machine(template: Template) -> None:
    """A machine that is forgotten is killed and reaped, and its descriptors are closed."""
    before = len(os.listdir("/proc/self/fd"))
    machine = template.clone()
    pid = machine._running.child.pid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of its sockets
        del machine
    assert not Path(f"/proc/{pid}").exists()
    assert len(os.listdir("/proc/self/fd")) == before
