"""The host's side against a QEMU and a guest that lie: every lie is a lost machine, quickly, and nothing else."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.vm.errors import GuestError, MachineLost, VmError
from kernelproof.vm.machine import Machine
from kernelproof.vm.memory import create_memory
from kernelproof.vm.process import Spawner
from kernelproof.vm.qemu import MachineSpec, Role
from kernelproof.vm.running import Program, Running

SPEC = MachineSpec(
    qemu_version=(10, 0, 0),
    qemu_arguments=(str(Path(__file__).with_name("fake_qemu.py")),),
    machine="pc-q35-10.0",
    accelerator="tcg",
    cpu="qemu64",
    cpus=1,
    memory_mib=1,
    time="real",
    words=(),
    kernel_digest="",
    initrd_digests=(),
)

Open = Callable[[str], Machine]


@pytest.fixture
def open_machine() -> Iterator[Open]:
    memory, spawner, opened = create_memory("test", 4096), Spawner(), []

    def open_fake(role: str) -> Machine:
        program = Program(sys.executable, (("FAKE_QEMU", role),))
        running = Running.start(SPEC, Role.CLONE, program, memory, spawner)
        opened.append(running)
        running.load(memory)
        return Machine(running, {}, paused=True, virtual=False)

    yield open_fake
    for running in opened:
        running.close()
    os.close(memory)


def ping(machine: Machine, timeout: float = 120.0) -> object:
    return machine.request({"kind": "ping"}, timeout=timeout)


def test_honest_guest(open_machine: Open) -> None:
    """The stand-in does what a real one does, unless it is told to lie."""
    assert ping(open_machine("honest")) == {"kind": "pong"}


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ("oversized", "a frame of 17825792 bytes announced"),
        ("unknown-frame", "unknown kind of frame b'Q'"),
        ("bytes-for-message", "a frame of kind b'B' came where b'J' was due"),
        ("no-json", "no JSON object in UTF-8"),
        ("not-utf8", "no JSON object in UTF-8"),
        ("wrong-kind", "a message of kind 'collected' came"),
        ("deep", "nested deeper"),
        ("nan", "not plain"),
    ],
)
def test_lie(open_machine: Open, lie: str, seen: str) -> None:
    """What the protocol does not allow ends the machine at once, and says what was seen."""
    machine = open_machine(lie)
    began = time.monotonic()
    with pytest.raises(MachineLost, match=seen) as caught:
        ping(machine)
    assert caught.value.kind == "protocol"
    assert time.monotonic() - began < 120
    with pytest.raises(RuntimeError, match="closed"):
        ping(machine)


def test_guest_that_never_stops(open_machine: Open) -> None:
    """Answers without end are refused when they are more than a conversation may be."""
    stream = open_machine("endless").stream({"kind": "item", "nodeid": "x"}, timeout=120)
    # Counted as they are read, or while they wait to be: whichever is first too much.
    with pytest.raises(MachineLost, match=r"more than (67108864|67633152) bytes"):
        for _ in stream:
            pass


def test_guest_that_speaks_unasked(open_machine: Open) -> None:
    """What nobody asked for is not read into memory without bound, however long the host waits for something else."""
    machine = open_machine("unasked")
    # Seen while the guest is let go on, or while something else is waited for: whenever it has become too much.
    with pytest.raises(VmError, match="nothing asked for"):  # noqa: PT012 - either may be the one
        ping(machine)
        machine._running.channel.wait_until_ended(time.monotonic() + 120)


def test_answer_out_of_step(open_machine: Open) -> None:
    """What came unasked is no answer to the next request."""
    machine = open_machine("out-of-step")
    ping(machine)
    with pytest.raises(MachineLost, match="where b'J' was due") as caught:
        ping(machine)
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize("lie", ["traversal", "absolute"])
def test_path_that_leaves(open_machine: Open, tmp_path: Path, lie: str) -> None:
    """A file whose name leaves the directory is not written."""
    (tmp_path / "a/b").mkdir(parents=True)
    directory = os.open(tmp_path / "a/b", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(MachineLost, match="does not stay where it belongs"):
            open_machine(lie).pull("/x", directory, "out")
    finally:
        os.close(directory)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]
    assert not Path("/tmp/escaped").exists()


def test_more_output_than_allowed(open_machine: Open) -> None:
    """Output beyond 8 MiB is not kept, whatever the guest says of its length."""
    done = open_machine("more-output-than-said").run(["x"])
    assert len(done.stdout_bytes) == 8 * 1024 * 1024


def test_error_text_is_safe(open_machine: Open) -> None:
    """The guest's words in an error are safe to show."""
    with pytest.raises(GuestError) as caught:
        ping(open_machine("error"))
    assert "\x1b" not in str(caught.value) + caught.value.text + caught.value.type


def test_end_inside_a_frame(open_machine: Open) -> None:
    """A QEMU that ends inside an answer is told with its exit status."""
    with pytest.raises(MachineLost, match="exit status 0") as caught:
        ping(open_machine("truncated"))
    assert caught.value.kind == "qemu"


def test_silence(open_machine: Open) -> None:
    """A guest that says nothing is lost at its deadline, with what the NMI brought out."""
    machine = open_machine("silent")
    began = time.monotonic()
    with pytest.raises(MachineLost) as caught:
        ping(machine, timeout=0.2)
    assert time.monotonic() - began >= 0.2
    assert caught.value.kind == "hang"
    assert "NMI: the stacks of all tasks" in caught.value.log


def test_end_behind_the_deadline(open_machine: Open) -> None:
    """A guest that is about to end when its time is over is told by how it ends, not as one that hangs."""
    with pytest.raises(MachineLost, match="wait status 9") as caught:
        ping(open_machine("ends-late"), timeout=1.5)
    assert caught.value.kind == "agent"


def test_end_that_does_not_come(open_machine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that only says so is given its time, and hangs."""
    for name in ("ANSWER_SECONDS", "STACKS_SECONDS", "NMI_SECONDS", "END_SECONDS"):
        monkeypatch.setattr(f"kernelproof.vm.running.{name}", 0.2)
    with pytest.raises(MachineLost) as caught:
        ping(open_machine("says-it-ends"), timeout=0.2)
    assert caught.value.kind == "hang"


@pytest.mark.parametrize("lie", ["drip", "events"])
def test_never_ending_talk(open_machine: Open, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    """What comes on and on, a byte of a frame or an event of QEMU's at a time, moves no deadline."""
    for name in ("ANSWER_SECONDS", "NMI_SECONDS"):
        monkeypatch.setattr(f"kernelproof.vm.running.{name}", 0.2)
    machine = open_machine(lie)
    with pytest.raises(MachineLost) as caught:
        ping(machine, timeout=0.5)
    assert caught.value.kind == "hang"
    assert len(machine._running.channel.events) <= 256


def test_control_stream_without_lines(open_machine: Open) -> None:
    """A monitor that sends a line without end is given up, long before the deadline and without keeping it."""
    machine = open_machine("long-line")
    began = time.monotonic()
    with pytest.raises(MachineLost, match="a line of more than 1048576 bytes") as caught:
        ping(machine, timeout=300)
    assert time.monotonic() - began < 60
    assert caught.value.kind == "qemu"


@pytest.mark.parametrize(
    ("role", "seen"),
    [("fail", "failed"), ("refuse", "no such state"), ("die", "load of migration failed")],
)
def test_state_that_does_not_load(open_machine: Open, role: str, seen: str) -> None:
    """A state that QEMU does not load is told as that, in QEMU's words."""
    with pytest.raises(MachineLost, match=seen) as caught:
        open_machine(role)
    assert caught.value.kind == "load"


def test_qemu_that_does_not_greet(open_machine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that does not greet is lost at its deadline."""
    monkeypatch.setattr("kernelproof.vm.running.START_SECONDS", 0.5)
    with pytest.raises(MachineLost, match="no answer") as caught:
        open_machine("mute")
    assert caught.value.kind == "qemu"


def test_stream_left_early(open_machine: Open) -> None:
    """A conversation that is left before its end closes the machine."""
    machine = open_machine("unfinished")
    stream = machine.stream({"kind": "item", "nodeid": "x"}, timeout=120)
    assert next(stream)["kind"] == "report"
    with pytest.raises(RuntimeError, match="under way"):
        ping(machine)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="closed"):
        ping(machine)


def test_bad_requests_close_nothing(open_machine: Open) -> None:
    """A request that can't be sent is refused before anything is, and the machine goes on."""
    machine = open_machine("honest")
    with pytest.raises(LookupError, match="no message of kind 'dance'"):
        machine.request({"kind": "dance"}, timeout=1)
    with pytest.raises(TypeError, match="can't be sent"):
        machine.call("os:getpid", b"x")  # type: ignore[arg-type]
    for function in ("os.getpid", "os:", ":x", "os:system('x')", "os:a b", "a-b:c"):
        with pytest.raises(ValueError, match="not of the form"):
            machine.call(function)
    assert ping(machine) == {"kind": "pong"}


CONTROLLER = """
import os, sys
from kernelproof.vm.memory import create_memory
from kernelproof.vm.process import Spawner
from kernelproof.vm.running import Program, Running
from kernelproof.vm.qemu import Role
from kernelproof.vm.tests.interruptible import listen
from kernelproof.vm.tests.machine_side.test_lying_guest import SPEC
memory = create_memory("test", 4096)
listen()
running = Running.start(SPEC, Role.CLONE, Program(sys.executable, (("FAKE_QEMU", "honest"),)), memory, Spawner())
print(running.child.pid, flush=True)
os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize("number", [9, 15, 2], ids=["SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_outlives_its_starter(number: int) -> None:
    """However the process that started QEMU is ended, QEMU ends with it."""
    code = CONTROLLER.format(number=number)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr
    pid = int(done.stdout)
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], 60)[0]
    finally:
        os.close(ended)
