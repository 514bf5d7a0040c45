"""A process that stands still under ptrace(2): its memory, its registers, and short runs to the next int3. x86-64 only.

All calls for one process come from the thread that attached it: the kernel takes them from no other.

Sources: ptrace(2), "Stopped states" and "PTRACE_SEIZE"; Linux, arch/x86/include/asm/user_64.h, `user_regs_struct`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

# linux/ptrace.h
_CONT, _GETREGS, _SETREGS, _SEIZE, _INTERRUPT, _GETSIGMASK = 7, 12, 13, 0x4206, 0x4207, 0x420A
_EVENT_EXEC = 4
_EVENT_STOP = 128
_OPTIONS = 1 << _EVENT_EXEC | 0x100000  # ...and PTRACE_O_EXITKILL: it ends with the thread that traces it
_ALL_CHILDREN = 0x40000000  # __WALL, wait(2)

NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_NO_CALL = (1 << 64) - 1  # in orig_rax: this stop is not within a system call that would be begun again

TRAP = b"\xcc"  # int3
CALL_AND_TRAP = b"\x0f\x05\xcc"  # syscall; int3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class TraceeEnded(Exception):
    """The process ended while it was to stand still; it is reaped."""


class Tracee:
    """One traced process, a child of ours. Closed by whoever made it.

    Args:
        pid: Of it. It is owned from here on, also where that fails.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._alive = True
        try:
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            kill(pid)
            raise

    @staticmethod
    def attach(pid: int) -> None:
        """Begin to trace a child of ours that runs; it is killed if this thread ends.

        Raises:
            OSError: EPERM, the host does not allow it or another traces it; ESRCH, it ended.
        """
        _ptrace(_SEIZE, pid, 0, _OPTIONS)

    @staticmethod
    def wait_for_exec(pid: int) -> None:
        """Wait until an attached process has called execve(2) and stands still before anything of the program ran.

        Raises:
            TraceeEnded: it ended before; it is reaped.
        """
        while _wait(pid) != signal.SIGTRAP | _EVENT_EXEC << 8:
            _ptrace(_CONT, pid)

    @staticmethod
    def stop(number: int) -> None:
        """Stop an attached thread that runs, and wait until it stands still; a system call is broken off.

        Raises:
            TraceeEnded: it ended before.
            OSError: ESRCH, it is gone.
        """
        _ptrace(_INTERRUPT, number)
        while _wait(number) >> 8 != _EVENT_STOP:
            _ptrace(_CONT, number)

    @staticmethod
    def go_on(number: int) -> None:
        """Let a thread that stands still run; errors as `stop`."""
        _ptrace(_CONT, number)

    @staticmethod
    def registers_of(number: int) -> dict[str, int]:
        """The registers of a thread that stands still, by the names in `NAMES`."""
        registers = (ctypes.c_uint64 * len(NAMES))()
        _ptrace(_GETREGS, number, 0, ctypes.addressof(registers))
        return dict(zip(NAMES, registers, strict=True))

    @staticmethod
    def mask_of(number: int) -> int:
        """The signals that a thread that stands still blocks."""
        mask = ctypes.c_uint64()
        _ptrace(_GETSIGMASK, number, ctypes.sizeof(mask), ctypes.addressof(mask))
        return mask.value

    def read(self, address: int, size: int) -> bytes:
        """Its memory; up to the end of what is mapped."""
        return os.pread(self._memory, size, address)

    def write(self, address: int, data: bytes) -> None:
        """Change its memory, also where it may only read: its own copy of a page.

        Raises:
            OSError: EIO or EFAULT, nothing is mapped there, or the host does not allow it.
        """
        if os.pwrite(self._memory, data, address) != len(data):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def registers(self) -> dict[str, int]:
        """Its registers, by the names in `NAMES`."""
        return self.registers_of(self.pid)

    def run(self, changes: Mapping[str, int] = {}) -> int:
        """Let it run to its next int3; signals meanwhile are dropped.

        Args:
            changes: Registers to set before.

        Returns:
            What its register rax has then: the result of a system call, below 0 an error number's negative.

        Raises:
            TraceeEnded: it ended; it is reaped.
        """
        if changes:
            registers = (ctypes.c_uint64 * len(NAMES))()
            _ptrace(_GETREGS, self.pid, 0, ctypes.addressof(registers))
            for name, value in {"orig_rax": _NO_CALL, **changes}.items():
                registers[NAMES.index(name)] = value
            _ptrace(_SETREGS, self.pid, 0, ctypes.addressof(registers))
        try:
            _ptrace(_CONT, self.pid)
            while _wait(self.pid) != signal.SIGTRAP:
                _ptrace(_CONT, self.pid)
        except TraceeEnded:
            self.forget()
            raise
        return ctypes.c_int64(self.registers()["rax"]).value

    def close(self) -> None:
        """Kill and reap it; a second call changes nothing."""
        if self._alive:
            self.forget()
            kill(self.pid)

    def forget(self) -> None:
        """Hold nothing of it any more; whoever started it kills and reaps it. A second call changes nothing."""
        if self._alive:
            self._alive = False
            os.close(self._memory)


def kill(pid: int) -> None:
    """Kill and reap a child of ours, traced or not."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        reap(pid)


def reap(number: int) -> None:
    """Wait for the end of a traced thread that was killed.

    Raises:
        ChildProcessError: it was reaped, or is not traced by this process.
    """
    with suppress(TraceeEnded):
        while True:
            _wait(number)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    ctypes.set_errno(0)
    if _libc.ptrace(request, pid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _wait(pid: int) -> int:
    """The signal of its next stop, and above the lowest byte the event."""
    _, status = os.waitpid(pid, _ALL_CHILDREN)
    if not os.WIFSTOPPED(status):
        raise TraceeEnded(pid, status)
    return status >> 8
