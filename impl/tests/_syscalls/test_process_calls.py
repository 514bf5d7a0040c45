"""Calls on processes that need neither root nor a newer kernel; what the kernel promises is shown in machines."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import (
    ancestry,
    execution,
    memory_files,
    priorities,
    scheduling,
    sessions,
    signals,
    waiting,
)
from kernelproof.impl._syscalls.bpf import load_program
from kernelproof.impl._syscalls.clones import check_clone
from kernelproof.impl._syscalls.limits import Resource, prlimit
from kernelproof.impl._syscalls.namespaces import CloneFlag
from kernelproof.impl._syscalls.surroundings import getcwd, umask
from kernelproof.impl._syscalls.waiting import IdType, WaitOption


@pytest.fixture
def ended() -> int:
    """The pid of a child that ended with 7."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})


def test_waitid_tells_pid_and_status(ended: int) -> None:
    """waitid gives pid, code and status, and with NOWAIT leaves the child for wait4."""
    assert waiting.waitid(IdType.PID, ended, WaitOption.EXITED | WaitOption.NOWAIT) == (ended, 1, 7)
    assert waiting.wait4(ended, WaitOption.ALL) == (ended, 7 << 8)


def test_waitid_without_event() -> None:
    """waitid with NOHANG gives None when no child did what was asked for."""
    with subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE) as living:  # it waits for us
        assert waiting.waitid(IdType.PID, living.pid, WaitOption.STOPPED | WaitOption.NOHANG) is None
        living.kill()


def test_prlimit_reads_without_a_change() -> None:
    """prlimit without new limits gives the present ones."""
    first = prlimit(0, Resource.NOFILE)
    assert first == prlimit(0, Resource.NOFILE)
    assert 0 < first[0] <= first[1]


def test_umask_gives_the_mask_before() -> None:
    """umask returns what it replaced."""
    before = umask(0o027)
    assert umask(before) == 0o027


def test_getcwd_is_the_kernels(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """getcwd returns the path without its end of string."""
    monkeypatch.chdir(str(tmp_path))
    assert getcwd() == os.getcwd()


def test_timer_stops() -> None:
    """A timer runs for as long as it is told, and one that is set to 0 sends nothing."""
    signals.set_timer(signals.Timer.REAL, 60_000_000)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 0 < left <= 60
    assert interval == 0
    signals.set_timer(signals.Timer.REAL, 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_seals_are_read_back() -> None:
    """What add_seals set get_seals tells."""
    with open(memory_files.memfd_create("unit", memory_files.MemfdFlag.ALLOW_SEALING), "wb") as file:
        memory_files.add_seals(file.fileno(), memory_files.Seal.GROW)
        assert memory_files.get_seals(file.fileno()) == memory_files.Seal.GROW


def test_check_clone_makes_no_child() -> None:
    """A question about flags leaves no child; the flags are named in what it raises."""
    before = list_children()
    with pytest.raises(OSError, match="Invalid argument") as refused:
        check_clone(CloneFlag.NEWNS | CloneFlag.FS)
    assert "NEWNS" in refused.value.__notes__[0]
    assert list_children() == before


def list_children() -> list[str]:
    """The children of this thread, zombies too."""
    return Path("/proc/thread-self/children").read_text().split()


@pytest.mark.parametrize(
    ("call", "number"),
    [
        pytest.param(lambda: signals.kill(os.getpid(), 65), errno.EINVAL, id="kill"),
        pytest.param(lambda: sessions.setpgid(0, -1), errno.EINVAL, id="setpgid"),
        pytest.param(lambda: ancestry.set_parent_death_signal(65), errno.EINVAL, id="prctl"),
        pytest.param(lambda: priorities.sched_setaffinity(()), errno.EINVAL, id="sched_setaffinity"),
        pytest.param(lambda: scheduling.sched_setattr(0, 99), errno.EINVAL, id="sched_setattr"),
        pytest.param(lambda: execution.execve("/nowhere", ["x"]), errno.ENOENT, id="execve"),
        pytest.param(lambda: execution.execveat(-1, "x", ["x"]), errno.EBADF, id="execveat"),
    ],
)
def test_refusal_names_the_call(call: Callable[[], object], number: int, request: pytest.FixtureRequest) -> None:
    """What the kernel refuses is an OSError with its number, and a note with the call."""
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        call()
    assert refused.value.errno == number
    assert refused.value.__notes__[0].startswith(request.node.callspec.id.replace("kill", "kill("))


def test_program_of_the_kernel_that_is_refused() -> None:
    """The verifier's words stand beside its refusal; who may load no program is told the call."""
    with pytest.raises(OSError) as refused:  # noqa: PT011 its number is checked
        load_program(1, b"\x95" + bytes(7))  # a socket filter that ends without an answer
    note = refused.value.__notes__[-1]
    assert "R0 !read_ok" in note if refused.value.errno == errno.EACCES else note.startswith("bpf(")


@pytest.fixture
def allowed_node() -> Iterator[int]:
    """A memory node that this thread may use; its policy is the default one again afterwards."""
    try:
        before = scheduling.get_mempolicy()
    except OSError as error:
        pytest.skip(f"no NUMA policy here: {error}")
    allowed = Path("/proc/thread-self/status").read_text().partition("Mems_allowed_list:\t")[2]
    yield int(allowed.replace("-", ",").replace("\n", ",").split(",")[0])
    scheduling.set_mempolicy(*before)


def test_memory_policy_has_its_nodes(allowed_node: int) -> None:
    """Memory comes from the nodes that were named; one that no machine has is refused, not left out."""
    bind, preferred = 2, 1
    scheduling.set_mempolicy(bind, (allowed_node,))
    assert scheduling.get_mempolicy() == (bind, (allowed_node,))
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        scheduling.set_mempolicy(preferred, (1023,))


def test_word_with_a_nul_byte_is_refused() -> None:
    """A word of a command that holds a NUL byte never reaches the kernel."""
    with pytest.raises(ValueError, match="NUL"):
        execution.execve("/bin/true", ["true", "a\0b"])
