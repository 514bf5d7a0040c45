"""A program that was linked once, and processes of it that begin where linking has ended.

QEMU needs 50 libraries and 270,000 relocations: 13 ms of processor time and 2,000 page faults, for a machine that does
its work in 140 ms. So one process of it is kept, stopped at its entry point, where the dynamic linker has done its
part and nothing of the program itself has run: no constructor, no thread. A machine is a fork of that process. Before
the program's first instruction it has its descriptors, its argument vector and `PR_SET_PDEATHSIG`. It has no io_uring.

A host that does not allow ptrace(2), and a processor other than x86-64, do without: `Linked.start` says why.

Sources: ptrace(2); clone(2), CLONE_PARENT; unix(7), SCM_RIGHTS; PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import os
import platform
import resource
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from kernelproof.vm.first_steps import (
    AT_ENTRY,
    CODE,
    MMAP,
    FirstStack,
    after_arguments,
    choose_number,
    parse_auxiliary,
    place_registers,
)
from kernelproof.vm.handing_over import NotTaken, fork
from kernelproof.vm.tracee import CALL_AND_TRAP, TRAP, Tracee, TraceeEnded, kill
from kernelproof.vm.without_rings import take_rings

_PAGE = 4096
_FILTER = 2048  # from the start of the page that begins with `CODE`
_MOST_STACK = 1 << 22

# Says that it is there, waits to be traced, becomes the program. (unset: what the shell itself adds)
_WAIT = 'unset PWD OLDPWD SHLVL; echo; read -r go && exec "$0" </dev/null >/dev/null'
_SHELL = "/bin/sh"


class NotLinked(Exception):
    """This host or this program does without; says why."""


class Linked:
    """A process that stands at its program's entry point. Made by `start`; used and closed by the thread that made it.

    Args:
        tracee: The process; closed with it.
        socket: What descriptors are sent through; closed with it.
        receiving: The other end's number in the process.
        entry: Address of the entry point.
        code: Address of `first_steps.CODE` in the process.
        registers: Its registers at the entry point.
    """

    def __init__(
        self,
        tracee: Tracee,
        socket: socket.socket,
        receiving: int,
        entry: int,
        code: int,
        registers: Mapping[str, int],
    ) -> None:
        self.closed = False
        self._tracee = tracee
        self._socket = socket
        self._receiving = receiving
        pointer = registers["rsp"]
        self._stack = FirstStack(pointer, after_arguments(tracee.read(pointer, _MOST_STACK)))
        self._first = {**registers, "rip": entry}
        self._start = {"rip": code, "rbx": self._stack.orders.calls}

    @classmethod
    def start(cls, executable: str, environment: Mapping[str, str]) -> Linked:
        """Start the program and stop it at its entry point.

        Args:
            executable: Absolute path.
            environment: All of its environment, and of all that are forked from it.

        Raises:
            NotLinked: it can't be had here.
            OSError: no descriptors, no processes.
        """
        _demand_binary(executable)
        with ExitStack() as made:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            made.callback(ours.close)
            with theirs:
                pid = _start_traced(executable, environment, theirs.fileno())
                number = theirs.fileno()
            try:
                tracee = Tracee(pid)
                made.callback(tracee.close)
                linked = cls(tracee, ours, number, *_stop_at_entry(tracee))
            except TraceeEnded as error:
                raise NotLinked(f"{executable} ended before its first instruction") from error
            except OSError as error:
                raise NotLinked(f"{executable} can't be changed by ptrace(2): {error.strerror}") from error
            made.pop_all()
            return linked

    def spawn(self, command: Sequence[str], descriptors: Sequence[int], errors: int) -> int:
        """Fork a process, a child of ours in a session of its own, which is killed when this thread ends.

        Args:
            command: Argument vector.
            descriptors: Those that the child inherits, under their numbers.
            errors: Descriptor for the child's stdout and stderr.

        Returns:
            Its PID; not yet waited for. It ended with status 126 if it could not be given what it needs.

        Raises:
            OSError: as fork(2) refuses: EAGAIN, ENOMEM; E2BIG, a `command` that is too long.
            TraceeEnded: the linked process is of no use any more; another can be started.
        """
        number = choose_number(descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        stack, data = self._stack.place(command)
        place, registers = place_registers({**self._first, "rsp": stack})
        orders = self._stack.instruct(self._receiving, number, descriptors, os.getpid())
        try:
            self._tracee.write(stack, data)
            self._tracee.write(place, registers)
            self._tracee.write(self._stack.orders.base, orders)
        except OSError as error:  # it can't be reached
            raise TraceeEnded(self._tracee.pid) from error
        try:
            return fork(self._tracee, {**self._start, "r12": place}, self._socket, (errors, *descriptors))
        except NotTaken as error:
            self.close()
            return error.pid
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Kill and reap the linked process; what was forked from it goes on."""
        self.closed = True
        self._tracee.close()
        self._socket.close()


def _demand_binary(executable: str) -> None:
    if platform.machine() != "x86_64" or struct.calcsize("P") != 8:
        raise NotLinked(f"{platform.machine()}: only x86-64 is known")
    try:
        with open(executable, "rb") as program:
            head = program.read(20)
    except OSError as error:
        raise NotLinked(f"{executable}: {error.strerror}") from error
    if head[:5] != b"\x7fELF\x02" or head[18:20] != b"\x3e\x00":  # 64 bits, EM_X86_64
        raise NotLinked(f"{executable} is not a program for x86-64")


def _start_traced(executable: str, environment: Mapping[str, str], descriptor: int) -> int:
    """A child of ours that became the program and has run nothing of it."""
    process = subprocess.Popen(
        (_SHELL, "-c", _WAIT, executable),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=dict(environment),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdout.readline()  # Popen returns within the shell's own execve(2), whose stop is not the one meant
        try:
            Tracee.attach(process.pid)
        except OSError as error:
            process.kill()
            process.wait()
            raise NotLinked(f"ptrace(2): {error.strerror}") from error
        process.returncode = 0  # from here on it is reaped by whoever waits for its stops
        with suppress(BrokenPipeError):
            process.stdin.write(b"go\n")
            process.stdin.flush()
    try:
        Tracee.wait_for_exec(process.pid)
    except TraceeEnded as error:
        raise NotLinked(f"{executable} can't be run") from error
    except OSError as error:
        kill(process.pid)
        raise NotLinked(f"ptrace(2): {error.strerror}") from error
    return process.pid


def _stop_at_entry(tracee: Tracee) -> tuple[int, int, dict[str, int]]:
    """Let it run to its entry point; says where that is, where it got `CODE`, and its registers there."""
    with open(f"/proc/{tracee.pid}/auxv", "rb") as told:
        entry = parse_auxiliary(told.read()).get(AT_ENTRY, 0)
    there = tracee.read(entry, len(CALL_AND_TRAP))
    tracee.write(entry, TRAP)
    tracee.run()
    tracee.write(entry, CALL_AND_TRAP)
    registers = tracee.registers()
    # PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS
    call = {"rax": MMAP, "rdi": 0, "rsi": _PAGE, "rdx": 5, "r10": 0x22, "r8": (1 << 64) - 1, "r9": 0}
    code = tracee.run({**call, "rip": entry})
    if code < 0:
        raise OSError(-code, os.strerror(-code))
    tracee.write(code, CODE)
    take_rings(tracee, entry, code + _FILTER)
    tracee.write(entry, there)
    return entry, code, registers
