"""Decides how a fork of a process with threads gets threads, descriptors and event counters of its own. Pure.

fork(2) copies the thread that calls it, and no other. What the others are to the program lies in memory, which is
copied, but for their registers, their signal masks, and their numbers: each is made anew with the first two, and the
kernel writes its number to where the C library keeps it. A thread can be copied while it waits in a system call, which
the copy begins again: what it has in vector registers need not outlive a call.

An eventfd(2) would be shared by all forks, so that one took another's events, and an epoll(7) what each watches: each
fork gets its own. (QEMU makes an epoll where it can have no io_uring, and uses it from 64 descriptors on.)

Sources: clone(2); eventfd(2); epoll_create(2); proc_pid_fdinfo(5); signal(7), "Interruption of system calls"; System V
ABI, AMD64 supplement, "Registers"; Linux, include/linux/errno.h, ERESTARTSYS and those after it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kernelproof.vm.first_steps import (
    CLONE,
    CLOSE,
    DUP2,
    DUP3,
    EPOLL_CREATE1,
    EVENTFD2,
    SET_TID_ADDRESS,
    SIGPROCMASK,
    TABLE,
    Call,
    Orders,
    place_registers,
)

_ALL = (1 << 64) - 1
_AGAIN = {_ALL + 1 - number for number in (512, 513, 514, 516)}  # what a call returns that a signal put off
_CALL_BYTES = 2  # of the instruction `syscall`
# CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: what pthread_create(3) asks for.
_THREAD = 0x3D0F00
_SIG_SETMASK = 2
_CLOEXEC, _EVENT_FLAGS = 0o2000000, 0o2004000


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread of a process that stands still.

    Args:
        number: Its TID.
        registers: By the names of `tracee.NAMES`.
        mask: Its blocked signals.
    """

    number: int
    registers: Mapping[str, int]
    mask: int

    @property
    def is_waiting(self) -> bool:
        """Whether it is in a system call."""
        return self.registers["orig_rax"] < 1 << 63

    def begin_again(self) -> dict[str, int]:
        """The registers that its copy goes on with."""
        registers = dict(self.registers)
        if self.is_waiting and registers["rax"] in _AGAIN:
            registers["rip"] -= _CALL_BYTES
            registers["rax"] = registers["orig_rax"]
        return registers


@dataclass(frozen=True, slots=True)
class Event:
    """A descriptor of eventfd(2).

    Args:
        number: Of the descriptor.
        count: What it holds.
        flags: As proc_pid_fdinfo(5) shows them.
    """

    number: int
    count: int
    flags: int


@dataclass(frozen=True, slots=True)
class Poll:
    """A descriptor of epoll(7) that watches none.

    Args:
        number: Of the descriptor.
        flags: As proc_pid_fdinfo(5) shows them.
    """

    number: int
    flags: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The descriptors of a process that stands still.

    Args:
        open: All of them.
        receiving: Its end of a socket that its forks get descriptors through.
        places: For each descriptor that comes: the numbers that are to be it.
        events: Those that each fork is to have for itself.
        polls: Likewise.
    """

    open: Collection[int]
    receiving: int
    places: Sequence[Sequence[int]]
    events: Sequence[Event]
    polls: Sequence[Poll] = ()


def parse_event(number: int, information: str) -> Event:
    """An eventfd, by the text of proc_pid_fdinfo(5).

    Raises:
        ValueError: it is none.
    """
    count = re.search(r"^eventfd-count:\s*([0-9a-f]+)$", information, re.M)
    flags = re.search(r"^flags:\s*([0-7]+)$", information, re.M)
    if count is None or flags is None:
        raise ValueError(f"descriptor {number} is no eventfd")
    return Event(number, int(count[1], 16), int(flags[1], 8))


def parse_poll(number: int, information: str) -> Poll:
    """An epoll, by the text of proc_pid_fdinfo(5).

    Raises:
        ValueError: it watches a descriptor, which forks would share.
    """
    flags = re.search(r"^flags:\s*([0-7]+)$", information, re.M)
    if flags is None or re.search(r"^tfd:", information, re.M):
        raise ValueError(f"descriptor {number}, an epoll that watches others, would be shared by all forks")
    return Poll(number, int(flags[1], 8))


def find_number_offset(areas: Mapping[int, bytes]) -> int:
    """Where the C library keeps a thread's number, from where its fs register points.

    Args:
        areas: What lies there, by TID.

    Raises:
        ValueError: it is not found, or in more than one place.
    """
    found: set[int] | None = None
    for number, area in areas.items():
        word = number.to_bytes(4, "little")
        here = {place for place in range(0, len(area) - 3, 4) if area[place : place + 4] == word}
        found = here if found is None else found & here
    if found is None or len(found) != 1:
        raise ValueError(f"the C library's number of a thread was found at {sorted(found or ())}")
    return found.pop()


def parse_kept_apart(smaps: str) -> list[tuple[int, int]]:
    """Address and length of the mappings that forks do not get, madvise(2) MADV_DONTFORK: "dc" in proc_pid_smaps(5)."""
    found, start, end = [], 0, 0
    for line in smaps.splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = int(span[1], 16), int(span[2], 16)
        elif line.startswith("VmFlags:") and "dc" in line.split():
            found.append((start, end - start))
    return found


def plan_copies(
    threads: Sequence[Thread], offset: int, numbers: Numbers, parent: int
) -> tuple[list[tuple[int, bytes]], dict[str, int]]:
    """What is written into the memory of a process that stands still, once, for all of its forks.

    Args:
        threads: All of its threads, the first first.
        offset: As `find_number_offset` says.
        numbers: Its descriptors.
        parent: PID of the parent of its forks.

    Returns:
        What is written, each with its address; and the registers with which a fork goes from call to call.

    Raises:
        OSError: EMFILE, more of anything than there is room for.
    """
    first, *others = threads
    orders = Orders.below(first.registers["rsp"])
    placed = {thread.number: place_registers({**thread.registers, **thread.begin_again()}) for thread in threads}
    calls = [
        *orders.introduce(numbers.receiving, parent),
        *_take_descriptors(numbers),
        Call(DUP2, (0, TABLE - 1), TABLE - 1, TABLE - 1),
        Call(CLOSE, (TABLE - 1,)),
        Call(SET_TID_ADDRESS, (_own(first, offset),), store=_own(first, offset)),
    ]
    for place, thread in enumerate((*others, first)):  # a new thread has the mask of the one that makes it
        calls.append(Call(SIGPROCMASK, (_SIG_SETMASK, orders.mask(place), 0, 8)))
        if thread is not first:
            own, stack = _own(thread, offset), placed[thread.number][0]
            calls.append(Call(CLONE, (_THREAD, stack, own, own, thread.registers["fs_base"]), 1, thread=True))
    memory = orders.pack(calls, len(numbers.places), [thread.mask for thread in (*others, first)])
    return [*placed.values(), (orders.base, memory)], {"rbx": orders.calls, "r12": placed[first.number][0]}


def _take_descriptors(numbers: Numbers) -> list[Call]:
    count = len(numbers.places)
    used = set(numbers.open)
    free = [number for number in range(3, 5 + len(used) + count) if number not in used]
    calls = []
    for number, places in zip(free, numbers.places, strict=False):
        calls += [Call(DUP2, (number, place), place, place) for place in places]
        calls.append(Call(CLOSE, (number,)))
    lowest = min(free[0], numbers.receiving)  # that was closed by now
    made: list[tuple[Event | Poll, Call]] = [
        *((each, Call(EVENTFD2, (each.count, each.flags & _EVENT_FLAGS), lowest, lowest)) for each in numbers.events),
        *((each, Call(EPOLL_CREATE1, (0,), lowest, lowest)) for each in numbers.polls),
    ]
    for each, call in made:
        put = Call(DUP3, (lowest, each.number, each.flags & _CLOEXEC), each.number, each.number)
        calls += [call, put, Call(CLOSE, (lowest,))]
    return calls


def _own(thread: Thread, offset: int) -> int:
    return thread.registers["fs_base"] + offset
