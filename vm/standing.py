"""A process with threads that stands still, and forks of it that go on where it stands.

It is stopped under ptrace(2) for good. A fork has its memory, its threads and its descriptors, but for those that it is
given instead; what it costs is the copy of the page tables, and then of the pages that are written to.

Sources: ptrace(2); madvise(2), MADV_DOFORK; proc_pid_fd(5).
"""

from __future__ import annotations

import os
import signal
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from kernelproof.vm.first_steps import CODE, MADVISE, MMAP
from kernelproof.vm.handing_over import NotTaken, fork
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
from kernelproof.vm.tracee import CALL_AND_TRAP, Tracee, TraceeEnded, reap

_PAGE = 4096
_AREA = 2304  # bytes of what the C library keeps of a thread that are searched: glibc's struct pthread
_SCHED = 2  # CPUCLOCK_SCHED, include/linux/posix-timers_types.h
_TRIES = 1000  # until a thread is met in a system call
_MADV_DOFORK = 11
_SHARED = ("signalfd",)  # descriptors without a file that forks may share: what they tell is the reader's own
_EVENT, _POLL = "anon_inode:[eventfd]", "anon_inode:[eventpoll]"


File = tuple[int, int]  # device and inode: what says that two descriptors are one file


class NotStanding(Exception):
    """Nothing can be forked from this process; says why."""


class Standing:
    """A stopped process, a child of ours. Made by `stop`; used by the thread that made it, closed by any.

    Args:
        tracee: Its first thread; owned from here on.
        others: Its other threads.
        sending: What descriptors are sent through; closed with it.
        start: The registers that it forks with.
        keeper: What lets the thread that traces go on: it is held until all of the process is reaped.
    """

    def __init__(
        self,
        tracee: Tracee,
        others: Sequence[int],
        sending: socket.socket,
        start: Mapping[str, int],
        keeper: object,
    ) -> None:
        self._tracee = tracee
        self._sending = sending
        self._start = dict(start)
        self._end = weakref.finalize(self, _end, tracee, tuple(others), sending, keeper)

    @classmethod
    def stop(
        cls, pid: int, sending: socket.socket, receiving: int, places: Sequence[Sequence[int]], keeper: object
    ) -> Standing:
        """Stop a child of ours.

        Args:
            pid: Of it. It is owned from here on: killed and reaped when this is closed or forgotten, or when it fails.
            sending: One end of a SOCK_SEQPACKET socket; owned from here on.
            receiving: The other end's number there.
            places: For each descriptor that a fork is given: the numbers there that it takes the place of.
            keeper: As for the class.

        Raises:
            NotStanding: see there; the process is of no use any more.
        """
        known: list[int] = []
        with ExitStack() as made:
            made.callback(sending.close)
            try:
                tracee = Tracee(pid)
                made.callback(lambda: _end(tracee, known[1:], sending))
                threads = _stop_threads(pid, known)
                code = _prepare(tracee, threads[0])
                offset = find_number_offset(
                    {each.number: tracee.read(each.registers["fs_base"], _AREA) for each in threads[1:]}
                )
                numbers = _read_numbers(pid, receiving, places)
                writes, start = plan_copies(threads, offset, numbers, os.getpid())
                for address, data in writes:
                    tracee.write(address, data)
            except TraceeEnded as error:
                raise NotStanding(f"process {pid} ended") from error
            except (OSError, ValueError) as error:
                raise NotStanding(f"process {pid}: {error}") from error
            made.pop_all()
            return cls(tracee, known[1:], sending, {**start, "rip": code}, keeper)

    def fork(self, descriptors: Sequence[int]) -> tuple[int, float]:
        """Fork a process, a child of ours in a session of its own, which is killed when this thread ends.

        Args:
            descriptors: One for each of the `places`.

        Returns:
            Its PID; not yet waited for. And the seconds of processor time that this process took to make it.

        Raises:
            OSError: as fork(2) refuses: EAGAIN, ENOMEM. It is closed then.
            NotStanding: it is of no use any more, and closed.
        """
        try:
            before = read_clock(self._tracee.pid)
            pid = fork(self._tracee, self._start, self._sending, descriptors)
            return pid, read_clock(self._tracee.pid) - before
        except NotTaken as error:
            os.waitpid(error.pid, 0)
            self.close()
            raise NotStanding("a fork did not take its descriptors") from error
        except TraceeEnded as error:
            self.close()
            raise NotStanding("the process that stood still is gone") from error
        except OSError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return not self._end.alive

    def close(self) -> None:
        """Kill and reap it; what was forked from it goes on. A second call changes nothing."""
        self._end()


def read_clock(pid: int) -> float:
    """The processor time of a process and all its threads, in seconds: clock_getcpuclockid(3).

    Raises:
        OSError: EINVAL, there is none.
    """
    return time.clock_gettime(~pid << 3 | _SCHED)


def identify(status: os.stat_result) -> File:
    """The file that a status is of. Pure."""
    return status.st_dev, status.st_ino


def find_numbers(pid: int) -> dict[File, list[int]]:
    """The descriptors of a process, by their files."""
    found: dict[File, list[int]] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it was closed at this moment
            found.setdefault(identify(os.stat(f"/proc/{pid}/fd/{name}")), []).append(int(name))
    return found


def _end(tracee: Tracee, others: Sequence[int], sending: socket.socket, keeper: object = None) -> None:
    # The kernel reaps what a thread traced when that ends, and wakes nobody who waits for it: so it must not end now.
    # `keeper` is held by whoever calls this.
    tracee.forget()
    sending.close()
    with suppress(ProcessLookupError):
        os.kill(tracee.pid, signal.SIGKILL)
    for number in (*others, tracee.pid):  # the first thread can't be reaped before the others are
        with suppress(ChildProcessError):
            reap(number)


def _stop_threads(pid: int, known: list[int]) -> list[Thread]:
    """Attach to all threads, the first first, and let each stop while it waits in a system call; `known` are they."""
    while new := [number for number in map(int, os.listdir(f"/proc/{pid}/task")) if number not in known]:
        for number in sorted(new, key=lambda number: number != pid):
            Tracee.attach(number)
            Tracee.stop(number)
            known.append(number)
    return [_stop_in_a_call(number, is_first=number == pid) for number in known]


def _stop_in_a_call(number: int, *, is_first: bool) -> Thread:
    for _ in range(_TRIES):
        thread = Thread(number, Tracee.registers_of(number), Tracee.mask_of(number))
        if thread.is_waiting or is_first:  # the first is the one that forks, and keeps all that it has
            return thread
        Tracee.go_on(number)
        Tracee.stop(number)
    raise ValueError(f"thread {number} does not come to rest")


def _prepare(tracee: Tracee, first: Thread) -> int:
    """Let it have `CODE`, and let forks have all of its memory; the address of the code."""
    place = first.registers["rip"]
    there = tracee.read(place, len(CALL_AND_TRAP))
    tracee.write(place, CALL_AND_TRAP)

    def call(number: int, *arguments: int) -> int:
        names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
        result = tracee.run({"rip": place, "rax": number, **dict(zip(names, arguments, strict=False))})
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    # PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS
    code = call(MMAP, 0, _PAGE, 5, 0x22, (1 << 64) - 1, 0)
    with open(f"/proc/{tracee.pid}/smaps", encoding="utf-8", errors="surrogateescape") as file:
        apart = parse_kept_apart(file.read())
    for address, length in apart:
        call(MADVISE, address, length, _MADV_DOFORK)
    tracee.write(code, CODE)
    tracee.write(place, there)
    return code


def _read_numbers(pid: int, receiving: int, places: Sequence[Sequence[int]]) -> Numbers:
    numbers = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    events: list[Event] = []
    polls: list[Poll] = []
    for number in numbers:
        kind = os.readlink(f"/proc/{pid}/fd/{number}")
        if kind in (_EVENT, _POLL):
            with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
                told = file.read()
            if kind == _EVENT:
                events.append(parse_event(number, told))
            else:
                polls.append(parse_poll(number, told))
        elif kind.startswith("anon_inode:") and kind.partition("[")[2].rstrip("]") not in _SHARED:
            raise ValueError(f"descriptor {number}, {kind}, would be shared by all forks")
    return Numbers(numbers, receiving, places, events, polls)
