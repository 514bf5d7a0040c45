"""What a fork of a process with threads does to have threads, descriptors and event counters of its own, by value."""

from __future__ import annotations

import struct

import pytest

from kernelproof.vm.first_steps import (
    CLONE,
    CLOSE,
    DUP2,
    DUP3,
    EPOLL_CREATE1,
    EVENTFD2,
    SET_TID_ADDRESS,
    SIGPROCMASK,
    Orders,
)
from kernelproof.vm.thread_copies import (
    Event,
    Numbers,
    Poll,
    Thread,
    find_number_offset,
    parse_event,
    parse_kept_apart,
    parse_poll,
    plan_copies,
)
from kernelproof.vm.tracee import NAMES

ALL = (1 << 64) - 1
CALL = struct.Struct("=10q")
POLL = 7


def thread(number: int, **registers: int) -> Thread:
    stack = 0x7FFF0000 + number * 0x100000
    base = dict.fromkeys(NAMES, 0) | {"orig_rax": POLL, "rax": ALL - 513, "rip": 0x1002, "rsp": stack}
    return Thread(number, base | {"fs_base": 0x5000 * number} | registers, number << 8)


def test_call_that_was_put_off_begins_again() -> None:
    """ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND and ERESTART_RESTARTBLOCK: the call is made once more."""
    for number in (512, 513, 514, 516):
        registers = thread(1, rax=ALL + 1 - number).begin_again()
        assert (registers["rip"], registers["rax"]) == (0x1000, POLL)


@pytest.mark.parametrize("rax", [0, 5, ALL + 1 - 4, ALL + 1 - 515])
def test_call_that_ended_does_not(rax: int) -> None:
    """A result, EINTR among them, is what the program gets."""
    registers = thread(1, rax=rax).begin_again()
    assert (registers["rip"], registers["rax"]) == (0x1002, rax)


def test_thread_outside_a_call() -> None:
    """It is not waiting, and what looks like a call put off is its own business."""
    running = thread(1, orig_rax=ALL)
    assert not running.is_waiting
    assert running.begin_again()["rip"] == 0x1002
    assert thread(1).is_waiting


def test_event() -> None:
    """The counter is hexadecimal, the flags octal: proc_pid_fdinfo(5)."""
    text = "pos:\t0\nflags:\t02004002\nmnt_id:\t15\nino:\t7\neventfd-count:               1f\neventfd-id: 3\n"
    assert parse_event(4, text) == Event(4, 31, 0o2004002)
    with pytest.raises(ValueError, match="descriptor 4 is no eventfd"):
        parse_event(4, "pos:\t0\nflags:\t02004002\n")


def test_poll() -> None:
    """The flags are octal; each descriptor that it watches has a line: proc_pid_fdinfo(5)."""
    text = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t7\n"
    assert parse_poll(4, text) == Poll(4, 0o2000002)
    for wrong in ("pos:\t0\n", text + "tfd:        5 events:       19 data:                5  pos:0 ino:b sdev:9\n"):
        with pytest.raises(ValueError, match="descriptor 4, an epoll that watches others, would be shared"):
            parse_poll(4, wrong)


def test_number_of_a_thread() -> None:
    """The one place where each thread's area has that thread's number."""
    areas = {number: b"".join(word.to_bytes(4, "little") for word in (9, 8, number, 9)) for number in (8, 9)}
    assert find_number_offset(areas) == 8
    for wrong in ({}, {9: areas[9]}, {7: areas[9]}):
        with pytest.raises(ValueError, match="number of a thread was found at"):
            find_number_offset(wrong)


def test_kept_apart() -> None:
    """Mappings with the flag "dc", and no others: proc_pid_smaps(5)."""
    text = (
        "7f00-7f40 rw-p 00000000 00:00 0\nSize: 4 kB\nVmFlags: rd wr mr mw me dc ac \n"
        "7f40-7f50 rw-p 00000000 00:00 0 /dc\nVmFlags: rd wr mr \n"
    )
    assert parse_kept_apart(text) == [(0x7F00, 0x40)]


def planned() -> tuple[list[tuple[int, bytes]], dict[str, int], list[tuple[int, ...]]]:
    threads = [thread(1), thread(2), thread(3)]
    numbers = Numbers([0, 1, 2, 3, 5, 6, 8, 9], 5, [[6], [1, 2]], [Event(8, 3, 0o2004002)], [Poll(9, 0o2000002)])
    writes, start = plan_copies(threads, 0x2D0, numbers, 4711)
    base, memory = writes[-1]
    calls = memory[Orders(base).calls - base :]
    return writes, start, list(CALL.iter_unpack(calls[:-8]))


def test_threads_are_made_with_their_masks_and_numbers() -> None:
    """Each is made while its mask is in force, on its stack, with its fs; the first gets its own mask back at last."""
    writes, start, calls = planned()
    base, memory = writes[-1]
    orders = Orders(base)
    made = [call for call in calls if call[0] in (SIGPROCMASK, CLONE)]
    assert [call[0] for call in made] == [SIGPROCMASK, CLONE, SIGPROCMASK, CLONE, SIGPROCMASK]
    masks = [struct.unpack_from("=Q", memory, call[2] - base)[0] for call in made if call[0] == SIGPROCMASK]
    assert masks == [2 << 8, 3 << 8, 1 << 8]
    for call, number, (stack, data) in zip(made[1::2], (2, 3), writes[1:3], strict=True):
        own = 0x5000 * number + 0x2D0
        assert call[1:] == (0x3D0F00, stack, own, own, 0x5000 * number, 1, (1 << 63) - 1, 0, 1)
        assert stack + len(data) + 128 == 0x7FFF0000 + number * 0x100000
        assert struct.unpack("=17Q", data)[10::6] == (POLL, 0x1000)  # rax and rip: it polls again
    (counted,) = [call for call in calls if call[0] == SET_TID_ADDRESS]
    assert counted[1] == counted[8] == 0x5000 + 0x2D0
    assert start == {"rbx": orders.calls, "r12": writes[0][0]}


def test_descriptors_and_counters() -> None:
    """What comes takes the lowest free numbers and goes where it is wanted; each counter is made anew in its place."""
    _, _, calls = planned()
    table = {0: "null", 1: "old", 2: "old", 3: "memory", 6: "link", 8: "event"}  # 5 is closed when all are here
    table |= {4: "new link", 7: "new errors", 9: "poll"}
    for number, first, second, third, *_ in calls[6:]:
        if number in (DUP2, DUP3):
            table[second] = table[first]
        elif number == EVENTFD2:
            assert (first, second) == (3, 0o2004000)
            lowest = min(set(range(20)) - set(table))
            table[lowest] = "new event"
        elif number == EPOLL_CREATE1:
            table[min(set(range(20)) - set(table))] = "new poll"
        elif number == CLOSE:
            del table[first]
        if number == DUP3:
            assert third == 0o2000000
    assert table == {
        **{0: "null", 1: "new errors", 2: "new errors", 3: "memory", 6: "new link", 8: "new event", 9: "new poll"},
    }
