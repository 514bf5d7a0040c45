"""What a filter's return value does to the call, the thread and the process."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.security.filters import errno_action, install, install_all, no_core, number_of, probe
from kernelproof.impl.libcontainer.security.actions import (
    ALLOW,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NOTIFY,
    TRACE,
    TRAP,
)
from kernelproof.impl.libcontainer.security.kernel_actions import read_actions, write_logged

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild, OutputOf
    from kernelproof.conformance.security.conftest import Ending
    from kernelproof.conformance.seen import Seen

SECONDS = 30
LOGGED = Path("/proc/sys/kernel/seccomp/actions_logged")


def call_and_leave(*actions: int) -> None:
    """Be under filters and make the probed call; the exit status is the errno that it gave."""
    no_core()
    install_all(*actions)
    try:
        os.sched_yield()
    except OSError as error:
        os._exit(error.errno or 0)
    os._exit(0)


@behaviour("seccomp.filter.unknown-action-kills-process")
def test_unknown_action(ending: Ending, seen: Seen) -> None:
    """A return value that is no action ends the process by SIGSYS."""
    assert seen(ending(lambda: call_and_leave(0x12340000))) == -signal.SIGSYS


@behaviour("seccomp.action.errno-value")
def test_errno_without_the_call(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """The call fails with the filter's errno, and is not done."""

    def ask() -> str:
        install(errno_action(errno.EXDEV), "mkdir", "mkdirat")
        return seen.errno_of(os.mkdir, tmp_path / "made")

    assert seen(in_child(ask)) == "EXDEV"
    assert not (tmp_path / "made").exists()


@behaviour("seccomp.action.errno-sixteen-bits")
def test_errno_of_sixteen_bits(in_child: InChild, seen: Seen) -> None:
    """The whole 16 bits of data arrive as errno."""

    def ask() -> int:
        install(errno_action(0xFFFF))
        try:
            os.sched_yield()
        except OSError as error:
            return error.errno or 0
        return 0

    assert seen(in_child(ask)) == 0xFFFF


@behaviour("seccomp.action.precedence")
@pytest.mark.parametrize("turned", [False, True], ids=["first", "last"])
def test_stronger_action_decides(ending: Ending, seen: Seen, turned: bool) -> None:
    """Of two filters the stronger action decides, whichever was installed first."""
    ladder = [
        (KILL_PROCESS, -signal.SIGSYS),
        (KILL_THREAD, -signal.SIGSYS),
        (TRAP, -signal.SIGSYS),
        (errno_action(errno.EXDEV), errno.EXDEV),
        (NOTIFY, errno.ENOSYS),
        (TRACE, errno.ENOSYS),
        (LOG, 0),
        (ALLOW, 0),
    ]
    found = []
    for (strong, _), (weak, _) in pairwise(ladder):
        pair = (weak, strong) if turned else (strong, weak)
        found.append(ending(partial(call_and_leave, *pair)))
    assert seen(found) == [int(expected) for _, expected in ladder[:-1]]


@behaviour("seccomp.action.same-precedence-newest-wins")
def test_newest_errno(in_child: InChild, seen: Seen) -> None:
    """Of two errnos that of the filter installed last is given."""

    def ask() -> str:
        install_all(errno_action(errno.EXDEV), errno_action(errno.EDOM))
        return probe(seen)

    assert seen(in_child(ask)) == "EDOM"


@behaviour("seccomp.action.kill-process-ignores-handler")
def test_whole_process_is_killed(ending: Ending, seen: Seen) -> None:
    """All threads end, with SIGSYS in the wait status, although there is a handler for it."""

    def run() -> None:
        no_core()
        signal.signal(signal.SIGSYS, lambda *_: os._exit(9))
        install(KILL_PROCESS)
        threading.Thread(target=os.sched_yield).start()
        signal.sigtimedwait([signal.SIGUSR1], SECONDS)

    assert seen(ending(run)) == -signal.SIGSYS


@behaviour("seccomp.action.kill-thread-spares-others")
def test_other_thread_goes_on(output_of: OutputOf, seen: Seen) -> None:
    """Only the thread that made the call ends; another one of the process goes on."""

    def run() -> None:
        install(KILL_THREAD)
        reader, writer = os.pipe()
        done = threading.Event()

        def call() -> None:
            os.write(writer, str(threading.get_native_id()).encode())
            done.wait(SECONDS)
            _yield_without_lock()
            os.write(writer, b"went on")

        threading.Thread(target=call, daemon=True).start()
        tid = os.read(reader, 20).decode()
        done.set()
        task = Path("/proc/self/task") / tid
        deadline = time.monotonic() + SECONDS
        while task.exists() and time.monotonic() < deadline:
            os.getppid()  # nothing tells a thread's end before Linux 6.9
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        os.write(1, b"the thread went on" if poll.poll(0) or task.exists() else b"alive")
        os._exit(0)

    assert seen(output_of(run)) == "alive"


def _yield_without_lock() -> None:
    # By ctypes: os.sched_yield holds the interpreter's lock, which would die with the thread.
    ctypes.CDLL(None).syscall(number_of("sched_yield"))


_CATCH = """
import ctypes, os, sys
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def caught(number, info, context):
    words = (ctypes.c_int * 8).from_address(info)
    os.write(1, f"{words[0]} {words[1]} {words[2]} {words[6]}".encode())
    os._exit(0)
handler = HANDLER(caught)
MASK = ctypes.c_ubyte * 128
class Action(ctypes.Structure):
    _fields_ = [("handler", HANDLER), ("mask", MASK), ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
libc.sigaction(31, ctypes.byref(Action(handler, MASK(), 4, None)), None)
libc.syscall(int(sys.argv[1]))
"""


@behaviour("seccomp.action.trap-siginfo")
def test_trap_tells_the_call(output_of: OutputOf, seen: Seen) -> None:
    """SIGSYS comes with si_code SYS_SECCOMP, the call's number and the data of the return value."""

    def run() -> None:
        install(TRAP | 77)
        os.execv(sys.executable, [sys.executable, "-ISc", _CATCH, str(number_of("sched_yield"))])

    assert seen(output_of(run)) == f"{int(signal.SIGSYS)} 77 1 {number_of('sched_yield')}"


@behaviour("seccomp.action.trace-without-tracer")
def test_no_tracer(in_child: InChild, seen: Seen) -> None:
    """Without a tracer the call fails with ENOSYS."""

    def ask() -> str:
        install(TRACE)
        return probe(seen)

    assert seen(in_child(ask)) == "ENOSYS"


@behaviour("seccomp.action.notif-without-listener")
def test_no_listener(in_child: InChild, seen: Seen) -> None:
    """Without a listener, or once its descriptor is closed, the call fails with ENOSYS."""

    def without() -> str:
        install(NOTIFY)
        return probe(seen)

    def closed() -> str:
        os.close(install(NOTIFY, flags=8))
        return probe(seen)

    assert seen([in_child(without), in_child(closed)]) == ["ENOSYS", "ENOSYS"]


@behaviour("seccomp.query.actions-avail-order")
def test_actions_in_order(seen: Seen) -> None:
    """The available actions stand in decreasing precedence, from kill_process to allow."""
    order = ["kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log", "allow"]
    assert seen(list(read_actions())) == order


@behaviour("seccomp.query.actions-logged-refuses-allow")
def test_allow_is_not_logged(seen: Seen) -> None:
    """allow can't be written to actions_logged: EINVAL, and what was there stays."""
    before = LOGGED.read_text()
    assert seen.errno_of(write_logged, ["allow"]) == "EINVAL"
    assert LOGGED.read_text() == before
