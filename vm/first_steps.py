"""Decides what a process forked from a linked one does first, and what it finds on its stack. Pure; x86-64 only.

Sources: System V ABI, AMD64 supplement, "Process Initialization"; elf(5); getauxval(3); recvmsg(2), `struct msghdr`.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# x86-64 system calls, asm/unistd_64.h
WRITE, CLOSE, MMAP, DUP2, RECVMSG, CLONE, FCNTL, GETPPID, SETSID, PRCTL = 1, 3, 9, 33, 47, 56, 72, 110, 112, 157

CODE = bytes.fromhex(
    "0f05"  #           syscall                   the linked process calls clone(2)
    "4885c0"  #         test rax, rax
    "7401"  #           jz   call
    "cc"  #             int3                      ...and stands still again; what follows is the new process's
    "488b03"  #   call: mov  rax, [rbx]           one `Call` after the other
    "488b7b08"  #       mov  rdi, [rbx+8]
    "488b7310"  #       mov  rsi, [rbx+16]
    "488b5318"  #       mov  rdx, [rbx+24]
    "0f05"  #           syscall
    "483b4320"  #       cmp  rax, [rbx+32]
    "7c19"  #           jl   fail
    "483b4328"  #       cmp  rax, [rbx+40]
    "7f13"  #           jg   fail
    "4883c330"  #       add  rbx, 48
    "48833b00"  #       cmp  qword [rbx], 0
    "7dd9"  #           jge  call
    "4c89e4"  #         mov  rsp, r12             its stack
    "4c89f2"  #         mov  rdx, r14             what the dynamic linker hands to the program
    "41ffe5"  #         jmp  r13                  the entry point
    "bf7e000000"  # fail: mov edi, 126
    "b8e7000000"  #     mov  eax, 231             exit_group(2)
    "0f05"  #           syscall
)

AT_ENTRY = 9
_WORD = 8
_RED_ZONE = 128  # below the stack pointer: not touched
_AWAY = 1 << 16  # below it, of the 128 KiB that the kernel maps at least: fs/exec.c, setup_arg_pages()
_HEADER, _VECTOR, _BYTE, _CONTROL, _CALLS, _ARGUMENTS = 0, 64, 80, 96, 256, 4096  # from there
_MOST = 30  # descriptors: their control message ends before the calls
_ANY = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of the new process; it ends with status 126 if the result is not what is awaited.

    Args:
        number: Of the call.
        arguments: Three at most.
        least: The least result that is good.
        most: The greatest.
    """

    number: int
    arguments: tuple[int, ...] = ()
    least: int = 0
    most: int = _ANY

    def pack(self) -> bytes:
        """As `CODE` reads it."""
        first, second, third = (*self.arguments, 0, 0, 0)[:3]
        return struct.pack("=6q", self.number, first, second, third, self.least, self.most)


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
    def base(self) -> int:
        """Address from which on memory is written."""
        return (self.pointer - _AWAY) & ~0xF

    @property
    def calls(self) -> int:
        """Address of the calls."""
        return self.base + _CALLS

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
        if stack < self.base + _ARGUMENTS:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return stack, vector.ljust(strings - stack, b"\0") + b"".join(words)

    def instruct(self, receiving: int, errors: int, descriptors: Sequence[int], parent: int) -> bytes:
        """What stands at `base`: the message that takes descriptors, and the calls of the new process.

        It asks to be killed with its parent, looks whether that still lives, takes the descriptors and says so; the
        first, for its stdout and stderr, comes under a number of no account, the others under `descriptors`.

        Args:
            receiving: Its end of the socket that they come through; it has this one and the first three open.
            errors: Any number but those of `descriptors`, above 2.
            descriptors: The numbers that the others will have.
            parent: PID of the parent.

        Raises:
            OSError: EMFILE, more than 29.
        """
        wanted = (errors, *descriptors)
        if len(wanted) > _MOST:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        place, size = self.base, socket.CMSG_LEN(4 * len(wanted))
        calls = (
            Call(PRCTL, (1, signal.SIGKILL)),  # PR_SET_PDEATHSIG
            Call(GETPPID, (), parent, parent),
            Call(SETSID),
            Call(RECVMSG, (receiving, place + _HEADER, 0), 1, 1),
            Call(WRITE, (receiving, place + _BYTE, 1), 1, 1),
            Call(CLOSE, (receiving,)),
            *_move(receiving, wanted),
            Call(DUP2, (errors, 1), 1, 1),
            Call(DUP2, (errors, 2), 2, 2),
            Call(CLOSE, (errors,)),
        )
        header = struct.pack("=QQQQQQQ", 0, 0, place + _VECTOR, 1, place + _CONTROL, size, 0)
        parts = {_HEADER: header, _VECTOR: struct.pack("=QQ", place + _BYTE, 1)}
        parts[_CALLS] = b"".join(call.pack() for call in calls) + struct.pack("=q", -1)
        memory = bytearray(_CALLS + len(parts[_CALLS]))
        for offset, data in parts.items():
            memory[offset : offset + len(data)] = data
        return bytes(memory)


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


def parse_auxiliary(data: bytes) -> dict[int, int]:
    """An auxiliary vector, by its keys."""
    pairs = struct.iter_unpack("=QQ", data[: len(data) // 16 * 16])
    return {int(key): int(value) for key, value in pairs}


def after_arguments(stack: bytes) -> bytes:
    """Of a first stack, what comes after the argument pointers, to the end of the auxiliary vector."""
    start = end = _WORD * (1 + int.from_bytes(stack[:_WORD], "little") + 1)
    while any(stack[end : end + _WORD]):  # the environment's pointers
        end += _WORD
    end += _WORD
    while any(stack[end : end + _WORD]):  # pairs; the key of the last is AT_NULL
        end += 2 * _WORD
    return stack[start : end + 2 * _WORD]
