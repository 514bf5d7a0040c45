"""What a process forked from a linked one does first, and what lies on its stack, by value."""

from __future__ import annotations

import struct

import pytest

from kernelproof.vm.first_steps import (
    CLONE,
    CLOSE,
    CODE,
    DUP2,
    FCNTL,
    GETPPID,
    RECVMSG,
    WRITE,
    Call,
    FirstStack,
    after_arguments,
    parse_auxiliary,
    place_registers,
)

AUXILIARY = struct.pack("=6Q", 9, 0x401000, 6, 4096, 0, 0)  # AT_ENTRY, AT_PAGESZ, AT_NULL
ENVIRONMENT = struct.pack("=2Q", 0x7000, 0)
STACK = FirstStack(0x7FFFF000, ENVIRONMENT + AUXILIARY)
ORDERS = STACK.orders
CALL = struct.Struct("=10q")


def calls(descriptors: tuple[int, ...], *, receiving: int = 9, errors: int = 255) -> list[tuple[int, ...]]:
    memory = STACK.instruct(receiving, errors, descriptors, 4711)[ORDERS.calls - ORDERS.base :]
    assert memory[-8:] == struct.pack("=q", -1)
    return list(CALL.iter_unpack(memory[:-8]))


def moved(found: list[tuple[int, ...]], start: tuple[int, ...]) -> dict[int, str]:
    """Play the calls: what each number is open for at the end."""
    table = {0: "null", 1: "null", 2: "null", 9: "socket"}
    for number, first, second, third, _, _, least, most, _, _ in found:
        if number == RECVMSG:
            free = (place for place in range(3, 100) if place not in table)
            table.update(zip(free, ("errors", *map(str, start)), strict=False))
        elif number == DUP2:
            assert least == most == second
            table[second] = table[first]
        elif number == FCNTL:
            assert (second, least, most) == (0, third, third)
            assert third not in table
            table[third] = table[first]
        elif number == CLOSE:
            del table[first]
    return table


@pytest.mark.parametrize(
    "descriptors",
    [(), (11, 12), (12, 11), (3, 4, 5), (5, 4, 3), (4,), (9,), (9, 10, 3), (300, 3), tuple(range(3, 9))],
)
def test_descriptors_come_under_their_numbers(descriptors: tuple[int, ...]) -> None:
    """Whatever numbers are wanted, also those that the kernel puts something else at first; nothing else is open."""
    errors = max((*descriptors, 254)) + 1
    table = moved(calls(descriptors, errors=errors), descriptors)
    assert table == {0: "null", 1: "errors", 2: "errors", **{number: str(number) for number in descriptors}}


def test_parent_is_looked_at_after_the_signal_is_asked_for() -> None:
    """A parent that died in between is found out: the second call's only good result is its PID."""
    first, second = calls((11,))[:2]
    assert first[:3] == (157, 1, 9)  # prctl, PR_SET_PDEATHSIG, SIGKILL
    assert second == (GETPPID, 0, 0, 0, 0, 0, 4711, 4711, 0, 0)


def test_taking_is_told_after_it_was_done() -> None:
    """The next process must not take this one's descriptors: so it says that it has them."""
    numbers = [call[0] for call in calls((11, 12))]
    assert numbers.index(WRITE) == numbers.index(RECVMSG) + 1


def test_message() -> None:
    """The header names one byte and room for as many descriptors as come: recvmsg(2)."""
    memory = STACK.instruct(9, 255, (11, 12), 1)
    name, name_size, vector, vectors, control, size, flags = struct.unpack_from("=7Q", memory)
    assert (name, name_size, vectors, flags) == (0, 0, 1, 0)
    assert size == 16 + 3 * 4  # struct cmsghdr, three numbers
    assert control + size <= ORDERS.calls
    place, length = struct.unpack_from("=QQ", memory, vector - ORDERS.base)
    assert length == 1
    assert ORDERS.base <= place < control


def test_most_descriptors() -> None:
    """29 besides stdout's fit; more are refused and not written over what comes behind them."""
    STACK.instruct(9, 255, tuple(range(20, 49)), 1)
    with pytest.raises(OSError, match="Too many open files"):
        STACK.instruct(9, 255, tuple(range(20, 50)), 1)


@pytest.mark.parametrize("command", [("qemu",), ("qemu", "", "ä\udcff", "x" * 1000), ("q", "12345678")])
def test_stack(command: tuple[str, ...]) -> None:
    """argc, the arguments' addresses, a null, environment and auxiliary vector as they were; 16 bytes aligned."""
    stack, data = STACK.place(command)
    assert stack % 16 == 0
    assert stack + len(data) == STACK.pointer - 128
    count, *pointers = struct.unpack_from(f"={len(command) + 2}Q", data)
    assert count == len(command)
    assert pointers.pop() == 0
    words = [data[pointer - stack :].split(b"\0")[0].decode("utf-8", "surrogateescape") for pointer in pointers]
    assert words == list(command)
    assert data[8 * (len(command) + 2) :].startswith(STACK.tail)


def test_command_that_is_too_long() -> None:
    """What would run into the calls is refused as execve(2) refuses it."""
    STACK.place(("x" * 48_000,))
    with pytest.raises(OSError, match="Argument list too long"):
        STACK.place(("x" * 49_000,))


def test_first_stack_is_read() -> None:
    """Argument pointers are skipped, the rest is kept up to AT_NULL, and what lies behind it is not."""
    stack = struct.pack("=4Q", 2, 0x7100, 0x7200, 0) + ENVIRONMENT + AUXILIARY + b"strings\0"
    assert after_arguments(stack) == ENVIRONMENT + AUXILIARY
    assert parse_auxiliary(AUXILIARY) == {9: 0x401000, 6: 4096, 0: 0}


def test_call_by_value() -> None:
    """Ten words: number, five arguments, the least and the greatest good result, where it is stored, a thread's."""
    assert Call(DUP2, (5, 1), 1, 1).pack() == CALL.pack(33, 5, 1, 0, 0, 0, 1, 1, 0, 0)
    assert Call(GETPPID).pack() == CALL.pack(110, 0, 0, 0, 0, 0, 0, (1 << 63) - 1, 0, 0)
    assert Call(CLONE, (1, 2, 3, 4, (1 << 64) - 5), 1, store=6, thread=True).pack() == CALL.pack(
        *(56, 1, 2, 3, 4, -5, 1, (1 << 63) - 1, 6, 1)
    )


def test_registers_lie_below_the_red_zone() -> None:
    """In the order in which they are popped, flags and instruction last; `ret 128` leads back to the stack pointer."""
    first = ["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"]
    names = [*first, "eflags", "rip"]
    registers = {name: place for place, name in enumerate(names)} | {"rsp": 100_000}
    address, data = place_registers(registers)
    assert list(struct.unpack("=17Q", data)) == list(range(17))
    assert address + len(data) + 128 == 100_000


def test_code_by_value() -> None:
    """Its length, and its jumps: each leads to the beginning of an instruction that the listing names."""
    assert len(CODE) == 124
    jumps = {0x05: 0x08, 0x28: 0x4C, 0x2E: 0x70, 0x34: 0x70, 0x39: 0x3D, 0x45: 0x08, 0x4A: 0x55, 0x53: 0x2A}
    for place, target in jumps.items():
        assert place + 2 + int.from_bytes(CODE[place + 1 : place + 2], "little", signed=True) == target
    for place, start in {0x08: "488b03", 0x2A: "483b4330", 0x3D: "4883c350", 0x4C: "4c8b4b48", 0x55: "415f"}.items():
        assert CODE[place:].hex().startswith(start)
    assert CODE[0x70:].hex() == "bf7e000000b8e70000000f05"
