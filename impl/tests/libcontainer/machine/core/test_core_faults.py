"""Every system call of an operation fails once, and the runtime is killed after each once: nothing stays behind.

The list is recorded, never written: one traced run gives the calls that the operation makes on this kernel, in the
runtime and in processes that it makes. A traced process is a fork of the test's own; strace attaches to it, lets the
k-th call fail or kills there, and afterwards `delete --force` must leave the host as it was.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernelproof.impl.libcontainer import Request, Runtime, lifecycle, running
from kernelproof.impl.libcontainer.config.records import Process
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.controlgroups import MakeCgroup
from kernelproof.impl.libcontainer.operations import Site, StartError
from kernelproof.impl.libcontainer.process import cloning
from kernelproof.impl.libcontainer.state import ContainerError, list_ids
from kernelproof.impl.tests.libcontainer.machine.core.conftest import KINDS

pytestmark = pytest.mark.machine(profile="runtimes")

# Calls whose failing says nothing about the runtime: memory, signals, time, and the end of the process.
UNTOUCHED = re.compile(
    r"^(mmap|munmap|mprotect|madvise|brk|mremap|rt_sig\w+|exit\w*|restart_syscall|clock_\w+|getrandom|futex|sched_yield)$"
)
CALL = re.compile(r"^(\d+) +(\w+)\(")


class Call(NamedTuple):
    """The n-th call of one name, of the runtime or of the container's process; where both make it, of both."""

    name: str
    number: int


def create(bundle: Any) -> lifecycle.Started:
    """Makes a container."""
    config = bundle.config("sleep", "1000")
    text = dump(config, own=True).encode()
    return lifecycle.create(str(bundle.states), config, Request("box", str(bundle.path)), config_text=text)


def run(bundle: Any) -> lifecycle.Started:
    """Makes a container whose program begins at once."""
    config = bundle.config("sleep", "1000")
    text = dump(config, own=True).encode()
    request = Request("box", str(bundle.path), waits=False)
    return lifecycle.run(str(bundle.states), config, request, config_text=text)


def take(bundle: Any) -> None:
    """Has a container made that is ready, and takes it; the program's helper is traced too, from its start on."""
    config = bundle.config("sleep", "1000")
    with Runtime(bundle.states) as runtime:
        runtime.prepare(config, bundle=bundle.path)
        runtime.create("box", config, bundle=bundle.path)


def prepare(bundle: Any, what: str) -> None:
    """Leads a container to where an operation can be done."""
    if what in ("create", "run", "take"):
        return
    os.close(create(bundle).pidfd)
    if what != "start":
        lifecycle.start(str(bundle.states), "box")


def act(bundle: Any, what: str) -> None:
    """Does an operation, as a process that is traced."""
    if what == "create":
        create(bundle)
    elif what == "run":
        run(bundle)
    elif what == "take":
        take(bundle)
    elif what == "start":
        lifecycle.start(str(bundle.states), "box")
    elif what == "exec":
        running.execute(str(bundle.states), "box", Process("/", ("sleep", "1000"), ("PATH=/bin",)))
    else:
        lifecycle.delete(str(bundle.states), "box", force=True)


def traced(bundle: Any, what: str, options: list[str], log: Path) -> int:
    """Does an operation in a process that strace has attached to; how it ended, as waitpid tells."""
    prepare(bundle, what)
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            act(bundle, what)
            os._exit(0)
        except (OSError, ContainerError, ValueError, RuntimeError, StartError):
            os._exit(1)
        finally:
            os._exit(2)
    _, stopped = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(stopped)
    tracer = subprocess.Popen(["strace", "-qq", "-f", "-o", str(log), *options, "-p", str(pid)], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    status = Path(f"/proc/{pid}/status")
    while "TracerPid:\t0\n" in status.read_text(encoding="ascii"):
        if tracer.poll() is not None:  # it was killed at its first call, while it stood still
            break
    os.kill(pid, signal.SIGCONT)
    _, ended = os.waitpid(pid, 0)
    clean_until(bundle, tracer)
    tracer.stderr.close()
    return ended


def record(bundle: Any, what: str, log: Path) -> list[Call]:
    """The calls that an operation makes here, in order."""
    assert os.waitstatus_to_exitcode(traced(bundle, what, [], log)) == 0
    counts: Counter[tuple[str, str]] = Counter()
    calls: dict[Call, None] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        found = CALL.match(line)
        if found is not None and not UNTOUCHED.match(found[2]):
            counts[found[1], found[2]] += 1
            calls[Call(found[2], counts[found[1], found[2]])] = None
    return list(calls)


def clean_until(bundle: Any, tracer: subprocess.Popen[bytes]) -> None:
    """Cleans until the tracer has ended: it stays as long as the container's process does, and as a helper."""
    end = time.monotonic() + 60
    while True:
        clean(bundle)
        try:
            tracer.wait(0.1)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise
        else:
            return clean(bundle)


def clean(bundle: Any) -> None:
    """What an administrator does after it: deletes the container, and what was made ready and is listed."""
    for identifier in {"box", *list_ids(str(bundle.states))}:
        lifecycle.delete(str(bundle.states), identifier, force=True)
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def chosen(calls: list[Call], count: int) -> list[Call]:
    """Some calls, spread evenly."""
    step = max(1, len(calls) // count)
    return calls[::step]


def leftovers(bundle: Any, before: dict[str, object]) -> list[str]:
    now = bundle.belongings()
    return [name for name in before if before[name] != now[name]]


@pytest.mark.long
@pytest.mark.rule("K18")
@pytest.mark.parametrize("how", ["fails", "killed"])
@pytest.mark.parametrize("what", ["run", "create", "start", "exec", "delete", "take"])
def test_each_call(
    bundle: Any, cgroup2: Path, tmp_path: Path, full_number: Callable[[int], int], what: str, how: str
) -> None:
    """With each call failing, or the runtime killed at it, `delete --force` leaves nothing behind."""
    bundle.states.mkdir(mode=0o700)
    before = bundle.belongings()
    calls = record(bundle, what, tmp_path / "log")
    assert leftovers(bundle, before) == []
    tried = chosen(calls, full_number(600))
    wrong = []
    for call in tried:
        action = "error=ENOSPC" if how == "fails" else "signal=SIGKILL"
        options = ["-e", f"trace={call.name}", "-e", f"inject={call.name}:{action}:when={call.number}"]
        traced(bundle, what, options, tmp_path / "log")
        left = leftovers(bundle, before)
        if left:
            wrong.append((call, left))
            before = bundle.belongings()
    print(f"{what}: {len(calls)} calls recorded, {len(tried)} of them {how}")
    assert wrong == []
    assert len(calls) > 20


@pytest.mark.parametrize("kinds", [KINDS, (*KINDS, "time")], ids=["cloned", "by a scout"])
def test_a_process_that_can_not_begin(
    bundle: Any, cgroup2: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...]
) -> None:
    """What fails in the new process is told by the runtime, and the runtime alone takes back what it did.

    A new process in which an exception went up its stack was a second runtime: it took all back, its own cgroup first.
    """
    bundle.states.mkdir(mode=0o700)
    before = bundle.belongings()
    undoing = bundle.path / "undoing"
    undo = MakeCgroup.undo

    def watched(self: MakeCgroup, site: Site) -> None:
        with undoing.open("a", encoding="ascii") as file:
            file.write(f"{os.readlink('/proc/self')} ")
        undo(self, site)

    def refuse(site: Site, *channels: object) -> None:
        raise OSError(errno.ENOSPC, "made up")

    monkeypatch.setattr(MakeCgroup, "undo", watched)
    monkeypatch.setattr(cloning, "keep_only", refuse)
    config = bundle.config("sleep", "1000", kinds=kinds)
    text = dump(config, own=True).encode()
    with pytest.raises((StartError, ContainerError), match="made up") as caught:
        lifecycle.create(str(bundle.states), config, Request("box", str(bundle.path)), config_text=text)
    assert getattr(caught.value, "errno", errno.ENOSPC) == errno.ENOSPC
    assert undoing.read_text(encoding="ascii").split() == [str(os.getpid())]
    clean(bundle)
    undoing.unlink()
    assert leftovers(bundle, before) == []


def test_a_missing_undo_is_found(bundle: Any, cgroup2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the undoing of one operation taken out, the same test finds what stays behind."""
    bundle.states.mkdir(mode=0o700)
    before = bundle.belongings()

    def nothing(self: MakeCgroup, site: Site) -> None:
        return

    monkeypatch.setattr(MakeCgroup, "undo", nothing)
    traced(bundle, "create", ["-e", "inject=clone3:error=ENOSPC"], tmp_path / "log")
    left = leftovers(bundle, before)
    (cgroup2 / "box").rmdir()
    assert left == ["cgroups"]


def test_strace_is_there() -> None:
    """The profile has what injects the faults."""
    assert subprocess.run(["strace", "-V"], capture_output=True, check=True).returncode == 0
    assert sys.platform == "linux"
