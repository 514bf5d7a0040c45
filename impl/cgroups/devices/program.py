"""Rules about devices as a BPF program of version 2: compiled, read, run. Pure.

The kernel asks the program about each access with a context of three numbers (linux/bpf.h, struct bpf_cgroup_dev_ctx):
access and type, major, minor. The rules are asked from the last to the first. A register holds the kinds of access
that no rule has decided yet: a rule that allows takes its kinds out of it, and when none is left the answer is yes; a
rule that refuses one that is left ends with no.

Source: Documentation/bpf/standardization/instruction-set.rst; cgroup-v2.rst, Device controller.
"""

from __future__ import annotations

import struct

from kernelproof.impl.cgroups.devices.rules import KINDS, Device, DeviceRule, check_rules
from kernelproof.impl.cgroups.errors import FormatError

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_BLOCK, _CHARACTER = 1, 2  # BPF_DEVCG_DEV_
_TYPES = {"b": _BLOCK, "c": _CHARACTER}
_ALL = (1 << len(KINDS)) - 1

_LOAD_WORD = 0x61  # LDX, MEM, W
_MOVE, _MOVE_REGISTER = 0xB7, 0xBF
_AND, _SHIFT_RIGHT = 0x57, 0x77
_JUMP, _JUMP_NOT_EQUAL, _JUMP_SET = 0x05, 0x55, 0x45
_EXIT = 0x95

_RESULT, _CONTEXT, _LEFT, _TYPE, _MAJOR, _MINOR = range(6)  # registers
_ENCODED = struct.Struct("=BBhi")


class Instruction(NamedTuple):
    """One instruction of eight bytes."""

    code: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0

    def encode(self) -> bytes:
        """The eight bytes, in this machine's order."""
        registers = self.destination | self.source << 4
        return _ENCODED.pack(self.code, registers, self.offset, self.immediate)


def compile_rules(rules: Sequence[DeviceRule]) -> tuple[Instruction, ...]:
    """A program that answers as `rules.is_allowed` does.

    Raises:
        LimitError: a rule that no kernel could keep.
    """
    program = [
        Instruction(_LOAD_WORD, _LEFT, _CONTEXT, 0),
        Instruction(_MOVE_REGISTER, _TYPE, _LEFT),
        Instruction(_AND, _TYPE, immediate=0xFFFF),
        Instruction(_SHIFT_RIGHT, _LEFT, immediate=16),
        Instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        Instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(check_rules(rules)):
        program += _compile(rule)
        if not _conditions(rule) and access_bits(rule.access) == _ALL:
            break  # it decides all that is left: what is before it is never asked
    else:
        program += _answer(0)
    return tuple(program)


def access_bits(access: str) -> int:
    """Kinds of access as bits of the context."""
    return sum(1 << KINDS.index(kind) for kind in access)


def _conditions(rule: DeviceRule) -> list[tuple[int, int]]:
    asked = [(_TYPE, _TYPES.get(rule.type)), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    return [(register, value) for register, value in asked if value is not None]


def _answer(value: int) -> list[Instruction]:
    return [Instruction(_MOVE, _RESULT, immediate=value), Instruction(_EXIT)]


def _compile(rule: DeviceRule) -> list[Instruction]:
    bits = access_bits(rule.access)
    if rule.allow and bits == _ALL:
        body = _answer(1)
    elif rule.allow:
        body = [
            Instruction(_AND, _LEFT, immediate=_ALL & ~bits),
            Instruction(_JUMP_NOT_EQUAL, _LEFT, offset=2, immediate=0),
            *_answer(1),
        ]
    elif bits == _ALL:
        body = _answer(0)
    else:
        body = [
            Instruction(_JUMP_SET, _LEFT, offset=1, immediate=bits),
            Instruction(_JUMP, offset=2),
            *_answer(0),
        ]
    conditions = _conditions(rule)
    jumps = [
        Instruction(_JUMP_NOT_EQUAL, register, offset=len(conditions) - 1 - index + len(body), immediate=value)
        for index, (register, value) in enumerate(conditions)
    ]
    return jumps + body


def encode_program(program: Iterable[Instruction]) -> bytes:
    """The program as the kernel takes it."""
    return b"".join(instruction.encode() for instruction in program)


def decode_program(code: bytes) -> tuple[Instruction, ...]:
    """The instructions in bytes, as far as this module writes them.

    Raises:
        FormatError: no whole number of instructions.
    """
    if len(code) % _ENCODED.size:
        raise FormatError("program", code.hex(), f"{len(code)} bytes are no whole number of instructions")
    return tuple(
        Instruction(op, registers & 15, registers >> 4, offset, immediate)
        for op, registers, offset, immediate in _ENCODED.iter_unpack(code)
    )


_JUMPS: dict[int, Callable[[list[int], Instruction], bool]] = {
    _JUMP: lambda registers, one: True,
    _JUMP_NOT_EQUAL: lambda registers, one: registers[one.destination] != one.immediate,
    _JUMP_SET: lambda registers, one: bool(registers[one.destination] & one.immediate),
}
_SETS: dict[int, Callable[[list[int], Instruction], int]] = {
    _MOVE: lambda registers, one: one.immediate,
    _MOVE_REGISTER: lambda registers, one: registers[one.source],
    _AND: lambda registers, one: registers[one.destination] & one.immediate,
    _SHIFT_RIGHT: lambda registers, one: registers[one.destination] >> one.immediate,
}


def run(program: Sequence[Instruction], device: Device, access: str) -> bool:
    """Run a program as the kernel would: the answer about an access.

    Raises:
        FormatError: an instruction that `compile_rules` does not write, or a jump out of the program.
    """
    words = {0: access_bits(access) << 16 | _TYPES[device.type], 4: device.major, 8: device.minor}
    registers = [0] * 6
    at = 0
    while 0 <= at < len(program):
        instruction = program[at]
        at += 1
        if instruction.code == _EXIT:
            return bool(registers[_RESULT])
        if instruction.code in _JUMPS:
            at += instruction.offset if _JUMPS[instruction.code](registers, instruction) else 0
        elif instruction.code == _LOAD_WORD:
            registers[instruction.destination] = words[instruction.offset]
        elif instruction.code in _SETS:
            registers[instruction.destination] = _SETS[instruction.code](registers, instruction)
        else:
            raise FormatError("program", hex(instruction.code), f"unknown instruction at {at - 1}")
    raise FormatError("program", str(at), "a jump out of the program")


_SHOWN = {
    _LOAD_WORD: "{to} = *(u32 *)({source} + {offset})",
    _MOVE: "{to} = {immediate}",
    _MOVE_REGISTER: "{to} = {source}",
    _AND: "{to} &= {immediate}",
    _SHIFT_RIGHT: "{to} >>= {immediate}",
    _JUMP: "goto {target}",
    _JUMP_NOT_EQUAL: "if {to} != {immediate} goto {target}",
    _JUMP_SET: "if {to} & {immediate} goto {target}",
    _EXIT: "exit",
}


def format_program(program: Sequence[Instruction]) -> str:
    """The program as text, an instruction a line, in the notation of the kernel's verifier."""
    lines = []
    for number, (code, to, source, offset, immediate) in enumerate(program):
        values = {"to": f"r{to}", "source": f"r{source}", "offset": offset, "immediate": immediate}
        shown = _SHOWN.get(code, f"code {code:#x}").format(**values, target=number + 1 + offset)
        lines.append(f"{number}: {shown}")
    return "\n".join(lines)
