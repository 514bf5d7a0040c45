"""Clones are machines of their own, leave nothing behind, and are all that a worker needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.vm.machine import Machine
from kernelproof.vm.snapshot import SessionTemplate
from kernelproof.vm.template import Template

DIRTY = """
set -e
hostname dirty; sysctl -qw kernel.pid_max=4242 net.ipv4.ip_forward=1
ip link add dirty type veth peer name dirty2; ip addr add 10.9.8.7/24 dev dirty; ip link set lo down
mkdir /mnt/dirty; mount -t tmpfs dirty /mnt/dirty; echo dirty > /etc/dirty; echo x > /srv/mark
mount -t cgroup2 none /sys/fs/cgroup; mkdir /sys/fs/cgroup/dirty
ip netns add dirty; useradd dirty; echo dirty > /dev/kmsg; date -s '2001-01-01'; rm -rf /usr/share
dd if=/dev/urandom of=/run/fill bs=1M count=64 2>/dev/null
sleep 1000 > /dev/null 2>&1 & setsid sleep 1000 > /dev/null 2>&1 &
"""

LOOK = """
hostname; cat /proc/sys/kernel/pid_max /proc/sys/net/ipv4/ip_forward; ip -br addr; ls /mnt /etc /run /usr/share
cat /proc/self/mounts /etc/passwd; ls /sys/fs/cgroup; dmesg | grep -c dirty;
ps --ppid 2 -p 2 --deselect -o comm; ip netns; cat /srv/mark
"""


def look(machine: Machine) -> str:
    return machine.run(["sh", "-c", LOOK]).stdout


def test_isolation(prepared: SessionTemplate) -> None:
    """What one clone does to itself, the next does not find."""
    with prepared.clone() as clean:
        before = look(clean)
    with prepared.clone() as victim:
        done = victim.run(["sh", "-c", DIRTY])
        assert done.returncode == 0, done.stderr
        assert look(victim) != before
        with prepared.clone() as beside:
            assert look(beside) == before
    with prepared.clone() as after:
        assert look(after) == before
    assert before.endswith("prepared\n")


def test_clock_goes_on(template: Template) -> None:
    """A clone's clock shows little more than when its template said its last, though that counted another pace."""
    with template.clone() as machine:
        # One command: between two an idle machine's clock leaps from timer to timer while the host is at other work.
        line, times = machine.run(["sh", "-c", "dmesg | tail -n 1; cat /proc/uptime"]).stdout.splitlines()
    uptime = float(times.split()[0])
    said = re.match(r"\[ *(\d+\.\d+)\]", line)
    assert said is not None, line
    assert float(said[1]) < uptime < float(said[1]) + 60


def test_entropy(prepared: SessionTemplate) -> None:
    """Clones differ in what their kernels draw at random, and in Python's `random`; the seed is known."""
    drawn = set()
    for _ in range(4):
        with prepared.clone() as machine:
            kernel = machine.run(
                ["sh", "-c", "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1"]
            )
            drawn.add((kernel.stdout, machine.call("random:random"), machine.seed))
    for values in zip(*drawn, strict=True):
        assert len(set(values)) == 4


def snapshot_of_host() -> tuple[int, int, set[str], int]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    threads = len(os.listdir("/proc/self/task"))
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir("/proc/self/fd")), threads, set(children), resident


@pytest.mark.long
def test_nothing_leaks(prepared: SessionTemplate, full_number: Callable[[int], int]) -> None:
    """200 clones in a row (a tenth of them in an ordinary run) leave no descriptor, thread, process or memory."""
    for _ in range(3):
        with prepared.clone() as machine:
            machine.request({"kind": "ping"}, timeout=60)
    before = snapshot_of_host()
    for _ in range(max(20, full_number(200))):
        with prepared.clone() as machine:
            machine.request({"kind": "ping"}, timeout=60)
    after = snapshot_of_host()
    assert after[:3] == before[:3]
    assert after[3] - before[3] < 8 * 1024 * 1024


WORKER = """
import json, sys
from kernelproof.vm.snapshot import SessionTemplate
with SessionTemplate.attach(json.load(sys.stdin)).clone() as machine:
    print(machine.run(["cat", "/srv/mark"]).stdout, end="")
"""


def test_worker(prepared: SessionTemplate) -> None:
    """Another process makes clones of the session template that this one holds, from plain data."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    done = subprocess.run(command, input=json.dumps(prepared.export()), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("prepared\n", "", 0)


def test_session_of_a_session(prepared: SessionTemplate) -> None:
    """A session template can be prepared further: the next snapshot has both preparations."""
    further, made = prepared.derive(lambda machine: machine.run(["sh", "-c", "echo more >> /srv/mark"]).returncode)
    assert made == 0
    with further.clone() as machine:
        assert machine.run(["cat", "/srv/mark"]).stdout == "prepared\nmore\n"
    further.close()


def test_many_at_once(template: Template) -> None:
    """Clones live side by side, each from the same memory."""
    machines = [template.clone() for _ in range(4)]
    try:
        for number, machine in enumerate(machines):
            machine.run(["hostname", f"m{number}"])
        assert [machine.run(["hostname"]).stdout for machine in machines] == [f"m{number}\n" for number in range(4)]
    finally:
        for machine in machines:
            machine.close()
