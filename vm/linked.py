"""A program that was linked once, and processes of it that begin where linking has ended.

QEMU needs 50 libraries and 270,000 relocations: 13 ms of processor time and 2,000 page faults, for a machine that does
its work in 140 ms. So one process of it is kept, stopped at its entry point, where the dynamic linker has done its
part and nothing of the program itself has run: no constructor, no thread. A machine is a fork of that process. Before
the program's first instruction it has its descriptors, its argument vector and `PR_SET_PDEATHSIG`.

A host that does not allow ptrace(2), and a processor other than x86-64, do without: `Linked.start` says why.

Sources: ptrace(2); clone(2), CLONE_PARENT; unix(7), SCM_RIGHTS; PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import os
import platform
import resource
import select
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from signal import SIGCHLD, SIGKILL

from kernelproof.vm.first_steps import AT_ENTRY, CLONE, CODE, MMAP, FirstStack, after_arguments, parse_auxiliary
from kernelproof.vm.tracee import CALL_AND_TRAP, TRAP, Tracee, TraceeEnded, kill

_CLONE_PARENT = 0x8000  # it is our child, not the linked process's: so wait4(2) says what it used
_PAGE = 4096
_MOST_STACK = 1 << 22
# A program with threads waits for a grace period of the kernel when its table of descriptors is made larger: 8 ms
# (fs/file.c, expand_fdtable). QEMU comes to need 70; so it has this many from the start.
_TABLE = 256

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
        self._start = {
            **{"rip": code, "rax": CLONE, "rdi": _CLONE_PARENT | SIGCHLD, "rsi": 0, "rdx": 0, "r10": 0, "r8": 0},
            **{"rbx": self._stack.calls, "r13": entry, "r14": registers["rdx"]},
        }

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
        instructions = self._stack.instruct(self._receiving, number, descriptors, os.getpid())
        try:
            socket.send_fds(self._socket, [b"."], (errors, *descriptors))
        except ConnectionError as error:
            raise TraceeEnded(self._tracee.pid) from error
        try:
            self._tracee.write(stack, data)
            self._tracee.write(self._stack.base, instructions)
            pid = self._tracee.run({**self._start, "r12": stack})
        except OSError as error:  # it can't be reached
            raise TraceeEnded(self._tracee.pid) from error
        if pid < 0:
            self.close()  # what was sent lies in the socket still
            raise OSError(-pid, os.strerror(-pid))
        try:
            if not self._was_taken(pid):
                self.close()
        except BaseException:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            self.close()
            raise
        return pid

    def _was_taken(self, pid: int) -> bool:
        """Wait until the child has its descriptors: the next one must not take them."""
        ended = os.pidfd_open(pid)
        try:
            waiting = select.poll()
            for descriptor in (self._socket.fileno(), ended):
                waiting.register(descriptor, select.POLLIN)
            ready = dict(waiting.poll())
        finally:
            os.close(ended)
        return self._socket.fileno() in ready and self._socket.recv(1) == b"."

    def close(self) -> None:
        """Kill and reap the linked process; what was forked from it goes on."""
        self.closed = True
        self._tracee.close()
        self._socket.close()


def choose_number(descriptors: Sequence[int], limit: int) -> int:
    """A number above all `descriptors`, and so high that the process's table has room; below `limit`. Pure."""
    wanted = max((*descriptors, _TABLE - 2)) + 1
    return wanted if wanted < limit else max((*descriptors, 2)) + 1


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
    tracee.write(entry, there)
    return entry, code, registers
