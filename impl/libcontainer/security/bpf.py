"""Classic BPF as seccomp(2) takes it: an assembler that writes from the end, and an interpreter.

A jump of classic BPF goes forward only, and a conditional one at most 255 instructions far. Written from the last
instruction to the first, every target is there before the jump to it: no second pass mends an offset.
"""

from __future__ import annotations

import struct

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# Codes, linux/bpf_common.h: class, size or operation, source.
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
GREATER_OR_EQUAL = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

_CONDITIONAL = (EQUAL, GREATER, GREATER_OR_EQUAL)
_FAR = 250  # of 255: mending one target of a jump may put two instructions between it and the other

# struct seccomp_data, linux/seccomp.h.
NUMBER_OFFSET = 0
ARCH_OFFSET = 4
ARGUMENTS_OFFSET = 16
DATA_BYTES = 64


class Code:
    """A program under construction. A label is what the methods return: the place of an instruction, from the end."""

    __slots__ = ("_labels", "_reversed")

    def __init__(self) -> None:
        self._reversed: list[tuple[int, int, int, int]] = []
        self._labels: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return len(self._reversed)

    def ret(self, value: int) -> int:
        """Return an action."""
        return self._shared((RETURN, 0, 0, value), (RETURN, value))

    def load(self, offset: int, then: int) -> int:
        """Load a word of the system call's data, and go on."""
        return self._followed(LOAD, offset, then)

    def mask(self, bits: int, then: int) -> int:
        """Keep some bits of what is loaded, and go on."""
        return self._followed(AND, bits, then)

    def jump(self, code: int, value: int, yes: int, no: int) -> int:
        """Compare what is loaded with a value: EQUAL, GREATER or GREATER_OR_EQUAL."""
        if yes == no:
            return yes
        key = (code, value, yes, no)
        known = self._labels.get(key)
        if known is not None and self._distance(known) < _FAR:
            return known
        yes, no = self._near(yes), self._near(no)
        self._reversed.append((code, self._distance(yes), self._distance(no), value))
        self._labels[key] = len(self._reversed) - 1
        return len(self._reversed) - 1

    def words(self) -> bytes:
        """The program as the kernel takes it; the instruction written last comes first."""
        return b"".join([struct.pack("=HBBI", *each) for each in reversed(self._reversed)])

    def _distance(self, label: int) -> int:
        # Between the instruction that is written next and the label.
        return len(self._reversed) - label - 1

    def _shared(self, instruction: tuple[int, int, int, int], key: tuple[int, ...]) -> int:
        known = self._labels.get(key)
        if known is None or self._distance(known) > _FAR:
            self._reversed.append(instruction)
            known = self._labels[key] = len(self._reversed) - 1
        return known

    def _followed(self, code: int, value: int, then: int) -> int:
        known = self._labels.get((code, value, then))
        if known is not None:
            return known
        if self._distance(then):
            self._reversed.append((JUMP, 0, 0, self._distance(then)))
        self._reversed.append((code, 0, 0, value))
        label = self._labels[code, value, then] = len(self._reversed) - 1
        return label

    def _near(self, label: int) -> int:
        if self._distance(label) <= _FAR:
            return label
        code, _, _, value = self._reversed[label]
        if code == RETURN:
            return self.ret(value)
        key = (JUMP, label)
        known = self._labels.get(key)
        if known is None or self._distance(known) > _FAR:
            self._reversed.append((JUMP, 0, 0, self._distance(label)))
            known = self._labels[key] = len(self._reversed) - 1
        return known


class Call:
    """What the kernel tells a filter of one system call."""

    __slots__ = ("arch", "arguments", "number")

    def __init__(self, arch: int, number: int, arguments: tuple[int, ...] = ()) -> None:
        self.arch = arch
        self.number = number
        self.arguments = (*arguments, *(0,) * (6 - len(arguments)))

    def data(self, *, little: bool) -> bytes:
        """struct seccomp_data of a machine of the given byte order."""
        return struct.pack(f"{'<' if little else '>'}IIQ6Q", self.number, self.arch, 0, *self.arguments)


def run(program: bytes, call: Call, *, little: bool = True) -> tuple[int, int]:
    """Do what the kernel would, and return the action and how many instructions it took.

    Args:
        program: eight bytes an instruction, in this machine's byte order.
        call: the system call.
        little: the byte order of the machine that the program is for.

    Raises:
        ValueError: an instruction that filters of this package don't have, or a jump beyond the end.
    """
    data, order = call.data(little=little), "<" if little else ">"
    place = loaded = steps = 0
    while place < len(program) // 8:
        code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * place)
        place, steps = place + 1, steps + 1
        if code == LOAD:
            (loaded,) = struct.unpack_from(f"{order}I", data, value)
        elif code == AND:
            loaded &= value
        elif code == JUMP:
            place += value
        elif code in _CONDITIONAL:
            place += yes if _holds(code, loaded, value) else no
        elif code == RETURN:
            return value, steps
        else:
            raise ValueError(f"no instruction of a filter: code {code:#x} at {place - 1}")
    raise ValueError(f"the program ends without a return, after {steps} steps")


def _holds(code: int, loaded: int, value: int) -> bool:
    if code == EQUAL:
        return loaded == value
    return loaded > value if code == GREATER else loaded >= value
