"""Decides what a process does first that is forked from one that stands still, and what it goes on with. Pure; x86-64.

The process that stands still runs `CODE`: clone(2), and an int3. What clone(2) made makes a list of system calls, some
of which make its threads, and then goes on with the registers that it is to have: each thread finds its own where its
stack ends.

Sources: System V ABI, AMD64 supplement, "Process Initialization" and "The Red Zone"; elf(5); getauxval(3); recvmsg(2),
`struct msghdr`; clone(2), "C library/kernel differences".
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# x86-64 system calls, asm/unistd_64.h
WRITE, CLOSE, MMAP, SIGPROCMASK, MADVISE, DUP2, RECVMSG, CLONE = 1, 3, 9, 14, 28, 33, 47, 56
FCNTL, GETPPID, SETSID, PRCTL, SET_TID_ADDRESS, EVENTFD2, EPOLL_CREATE1, DUP3 = 72, 110, 112, 157, 218, 290, 291, 292
SECCOMP = 317

CODE = bytes.fromhex(
    "0f05"  #           syscall                   the process that stands still calls clone(2)
    "4885c0"  #         test rax, rax
    "7401"  #           jz   call
    "cc"  #             int3                      ...and stands still again; what follows is the new process's
    "488b03"  #   call: mov  rax, [rbx]           one `Call` after the other
    "488b7b08"  #       mov  rdi, [rbx+8]
    "488b7310"  #       mov  rsi, [rbx+16]
    "488b5318"  #       mov  rdx, [rbx+24]
    "4c8b5320"  #       mov  r10, [rbx+32]
    "4c8b4328"  #       mov  r8, [rbx+40]
    "0f05"  #           syscall
    "488b4b40"  #       mov  rcx, [rbx+64]        where its result is to be stored
    "4885c0"  #         test rax, rax
    "7422"  #           jz   zero
    "483b4330"  # judge: cmp rax, [rbx+48]
    "7c40"  #           jl   fail
    "483b4338"  #       cmp  rax, [rbx+56]
    "7f3a"  #           jg   fail
    "4885c9"  #         test rcx, rcx
    "7402"  #           jz   next
    "8901"  #           mov  [rcx], eax
    "4883c350"  # next: add  rbx, 80
    "48833b00"  #       cmp  qword [rbx], 0
    "7dc1"  #           jge  call
    "4c89e4"  #         mov  rsp, r12             all done: the registers of the first thread
    "eb09"  #           jmp  restore
    "4c8b4b48"  # zero: mov  r9, [rbx+72]         0 from a clone(2) that made a thread: this is it
    "4d85c9"  #         test r9, r9
    "74d5"  #           jz   judge
    "415f415e415d415c5d5b"  # restore: pop r15, r14, r13, r12, rbp, rbx
    "415b415a41594158"  #     pop r11, r10, r9, r8
    "58595a5e5f"  #           pop rax, rcx, rdx, rsi, rdi
    "9d"  #                   popfq
    "c28000"  #               ret 128
    "bf7e000000"  # fail: mov edi, 126
    "b8e7000000"  #     mov  eax, 231             exit_group(2)
    "0f05"  #           syscall
)

AT_ENTRY = 9
CLONE_PARENT = 0x8000  # a fork is our child, not the standing process's: so wait4(2) says what it used
WORD = 8
FAILED = 126  # exit status of a process whose calls went wrong
_POPPED = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("eflags", "rip"),
)
_RED_ZONE = 128  # below the stack pointer: not touched
AWAY = 1 << 16  # below it, of the 128 KiB that the kernel maps at least: fs/exec.c, setup_arg_pages()
_HEADER, _VECTOR, _BYTE, _CONTROL, _MASKS, _CALLS, ARGUMENTS = 0, 64, 80, 96, 256, 512, 16384  # from there
_MOST = 30  # descriptors: their control message ends before the masks
_MOST_THREADS = 32
_MOST_CALLS = (ARGUMENTS - _CALLS) // 80 - 1
_ANY = (1 << 63) - 1
_ALL = (1 << 64) - 1
# A program with threads waits for a grace period of the kernel when its table of descriptors is made larger: 8 ms
# (fs/file.c, expand_fdtable). QEMU comes to need 70; so it has this many from the start.
TABLE = 256


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of the new process; it ends with status `FAILED` if the result is not what is awaited.

    Args:
        number: Of the call.
        arguments: Five at most.
        least: The least result that is good.
        most: The greatest.
        store: Address that the result's lower half is written to; 0 for none.
        thread: It makes a thread, whose registers lie where its stack begins.
    """

    number: int
    arguments: tuple[int, ...] = ()
    least: int = 0
    most: int = _ANY
    store: int = 0
    thread: bool = False

    def pack(self) -> bytes:
        """As `CODE` reads it."""
        arguments = [argument & _ALL for argument in (*self.arguments, 0, 0, 0, 0, 0)[:5]]
        return struct.pack("=6QqqQQ", self.number, *arguments, self.least, self.most, self.store, self.thread)


def place_registers(registers: Mapping[str, int]) -> tuple[int, bytes]:
    """Where `CODE` finds a thread's registers, on its own stack below its red zone, and what stands there."""
    data = struct.pack(f"={len(_POPPED)}Q", *(registers[name] for name in _POPPED))
    return registers["rsp"] - _RED_ZONE - len(data), data


@dataclass(frozen=True, slots=True)
class Orders:
    """Where a process that stands still has what its forks do: below its first thread's stack.

    Args:
        base: Address from which on memory is written.
    """

    base: int

    @classmethod
    def below(cls, pointer: int) -> Orders:
        """Below a stack pointer."""
        return cls((pointer - AWAY) & ~0xF)

    @property
    def calls(self) -> int:
        """Address of the calls."""
        return self.base + _CALLS

    def mask(self, place: int) -> int:
        """Address of a signal mask."""
        return self.base + _MASKS + WORD * place

    def pack(self, calls: Sequence[Call], descriptors: int, masks: Sequence[int] = ()) -> bytes:
        """What stands at `base`.

        Args:
            calls: All of them.
            descriptors: How many the message that it receives brings.
            masks: Signal masks.

        Raises:
            OSError: EMFILE, more than fit.
        """
        if descriptors > _MOST or len(calls) > _MOST_CALLS or len(masks) > _MOST_THREADS:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        size = socket.CMSG_LEN(4 * descriptors)
        header = struct.pack("=QQQQQQQ", 0, 0, self.base + _VECTOR, 1, self.base + _CONTROL, size, 0)
        parts = {_HEADER: header, _VECTOR: struct.pack("=QQ", self.base + _BYTE, 1), _BYTE: b"."}
        parts[_MASKS] = struct.pack(f"={len(masks)}Q", *masks)
        parts[_CALLS] = b"".join(call.pack() for call in calls) + struct.pack("=q", -1)
        memory = bytearray(_CALLS + len(parts[_CALLS]))
        for offset, data in parts.items():
            memory[offset : offset + len(data)] = data
        return bytes(memory)

    def introduce(self, receiving: int, parent: int) -> list[Call]:
        """It asks to be killed with its parent, looks whether that still lives, takes descriptors, and says so.

        Args:
            receiving: Its end of the socket that they come through; closed then.
            parent: PID of the parent.
        """
        return [
            Call(PRCTL, (1, signal.SIGKILL)),  # PR_SET_PDEATHSIG
            Call(GETPPID, (), parent, parent),
            Call(SETSID),
            Call(RECVMSG, (receiving, self.base + _HEADER, 0), 1, 1),
            Call(WRITE, (receiving, self.base + _BYTE, 1), 1, 1),
            Call(CLOSE, (receiving,)),
        ]


@dataclass(frozen=True, slots=True)
class FirstStack:
    """What lies on the stack of a linked process.

    Args:
        pointer: Its stack pointer at the entry point.
        tail: What comes after the argument pointers: those of the environment, and the auxiliary vector.
    """

    pointer: int
    tail: bytes

    @property
    def orders(self) -> Orders:
        """What its forks do."""
        return Orders.below(self.pointer)

    def place(self, command: Sequence[str]) -> tuple[int, bytes]:
        """The stack of a process with another argument vector.

        Returns:
            Where its stack pointer is, a multiple of 16, and what stands there.

        Raises:
            OSError: E2BIG.
        """
        words = [os.fsencode(word) + b"\0" for word in command]
        address = strings = self.pointer - _RED_ZONE - sum(map(len, words))
        pointers = []
        for word in words:
            pointers.append(address)
            address += len(word)
        vector = struct.pack(f"={len(words) + 2}Q", len(words), *pointers, 0) + self.tail
        stack = (strings - len(vector)) & ~0xF
        if stack < self.orders.base + ARGUMENTS + 512:  # ...and room for its registers
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return stack, vector.ljust(strings - stack, b"\0") + b"".join(words)

    def instruct(self, receiving: int, errors: int, descriptors: Sequence[int], parent: int) -> bytes:
        """What stands at the orders' base. Of the descriptors that come the first is its stdout and stderr.

        Args:
            receiving: As for `introduce`; it has this one and the first three open.
            errors: Any number but those of `descriptors`, above 2.
            descriptors: The numbers that the others will have.
            parent: PID of the parent.

        Raises:
            OSError: EMFILE, more than 29.
        """
        wanted = (errors, *descriptors)
        calls = [
            *self.orders.introduce(receiving, parent),
            *_move(receiving, wanted),
            Call(DUP2, (errors, 1), 1, 1),
            Call(DUP2, (errors, 2), 2, 2),
            Call(CLOSE, (errors,)),
        ]
        return self.orders.pack(calls, len(wanted))


def _move(receiving: int, wanted: Sequence[int]) -> list[Call]:
    """From the lowest free numbers, where the kernel puts what comes, to those that are wanted."""
    free = [number for number in range(3, 4 + len(wanted)) if number != receiving][: len(wanted)]
    above = max((*wanted, *free)) + 1
    calls: list[Call] = []
    sources = []
    for number in free:
        if number in wanted:  # it would be written over before its turn
            away = above + len(calls)
            calls += [Call(FCNTL, (number, 0, away), away, away), Call(CLOSE, (number,))]  # F_DUPFD
            number = away
        sources.append(number)
    for number, place in zip(sources, wanted, strict=True):
        calls += [Call(DUP2, (number, place), place, place), Call(CLOSE, (number,))]
    return calls


def choose_number(descriptors: Sequence[int], limit: int) -> int:
    """A number above all `descriptors`, and so high that the process's table has room; below `limit`."""
    wanted = max((*descriptors, TABLE - 2)) + 1
    return wanted if wanted < limit else max((*descriptors, 2)) + 1


def parse_auxiliary(data: bytes) -> dict[int, int]:
    """An auxiliary vector, by its keys."""
    pairs = struct.iter_unpack("=QQ", data[: len(data) // 16 * 16])
    return {int(key): int(value) for key, value in pairs}


def after_arguments(stack: bytes) -> bytes:
    """Of a first stack, what comes after the argument pointers, to the end of the auxiliary vector."""
    start = end = WORD * (1 + int.from_bytes(stack[:WORD], "little") + 1)
    while any(stack[end : end + WORD]):  # the environment's pointers
        end += WORD
    end += WORD
    while any(stack[end : end + WORD]):  # pairs; the key of the last is AT_NULL
        end += 2 * WORD
    return stack[start : end + 2 * WORD]
