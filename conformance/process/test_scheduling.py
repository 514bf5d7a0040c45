"""Nice values, policies, CPUs and I/O priorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import stat_fields, status_words
from kernelproof.impl._syscalls.limits import Resource, prlimit
from kernelproof.impl._syscalls.priorities import (
    SCHED_FIFO,
    SCHED_OTHER,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
    sched_setaffinity,
    sched_setscheduler,
    setpriority,
)
from kernelproof.impl._syscalls.scheduling import ioprio_get, ioprio_set
from kernelproof.impl._syscalls.waiting import wait4

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Unprivileged
    from kernelproof.conformance.seen import Seen

REAL_TIME, BEST_EFFORT, IDLE, MISSING = 1, 2, 3, 4  # I/O classes
NO_CPU = 1000


def nice() -> int:
    """This process's nice value."""
    return int(stat_fields()[16])


def policy(pid: int | str = "self") -> int:
    """A process's scheduling policy."""
    return int(stat_fields(pid)[38])


@behaviour("process.sched.nice-clamped")
def test_nice_values_out_of_range(in_child: InChild, seen: Seen) -> None:
    """Nice values are brought into -20 to 19."""

    def change() -> list[int]:
        found = []
        for number in (-21, -1000, 20, 1000):
            setpriority(number)
            found.append(nice())
        return found

    assert seen(in_child(change)) == [-20, -20, 19, 19]


@behaviour("process.sched.nice-lower-eacces")
def test_lowering_the_nice_value(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_NICE and RLIMIT_NICE the nice value can be raised, and not lowered: EACCES."""

    def change() -> list[Any]:
        assert prlimit(0, Resource.NICE) == (0, 0)
        return [*(seen.errno_of(setpriority, number) for number in (5, 4)), nice()]

    assert in_child(change) == ["no error", "no error", 4]
    assert seen(unprivileged(change)) == ["no error", "EACCES", 5]


@behaviour("process.sched.rt-unprivileged")
def test_real_time_policy(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_NICE and with RLIMIT_RTPRIO 0 SCHED_FIFO gives EPERM."""

    def change() -> list[Any]:
        assert prlimit(0, Resource.RTPRIO) == (0, 0)
        return [seen.errno_of(sched_setscheduler, SCHED_FIFO, 1), policy()]

    assert in_child(change) == ["no error", SCHED_FIFO]
    assert seen(unprivileged(change)) == ["EPERM", SCHED_OTHER]


@behaviour("process.sched.priority-misfit-einval")
def test_priority_of_another_policy(in_child: InChild, seen: Seen) -> None:
    """A priority that does not fit the policy gives EINVAL."""
    pairs = ((SCHED_FIFO, 0), (SCHED_FIFO, 100), (SCHED_RR, 0), (SCHED_OTHER, 1), (SCHED_FIFO, 99))
    answers = in_child(lambda: [seen.errno_of(sched_setscheduler, *pair) for pair in pairs])
    assert seen(answers) == ["EINVAL"] * 4 + ["no error"]


@behaviour("process.sched.reset-on-fork")
def test_policy_of_children(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A child has its parent's policy, and with SCHED_RESET_ON_FORK SCHED_OTHER."""

    def fork() -> list[list[int]]:
        found = []
        for flag in (0, SCHED_RESET_ON_FORK):
            sched_setscheduler(SCHED_FIFO | flag, 1)
            found.append([policy(), companion(lambda talk: talk.say(policy())).hear()])
        return found

    assert seen(in_child(fork)) == [[SCHED_FIFO, SCHED_FIFO], [SCHED_FIFO, SCHED_OTHER]]


@behaviour("process.sched.affinity-no-cpu-einval")
def test_no_cpu_left(in_child: InChild, seen: Seen) -> None:
    """A mask without a usable CPU gives EINVAL, one with a usable CPU among others does not."""

    def change() -> list[Any]:
        before = status_words("Cpus_allowed_list")
        answers = [seen.errno_of(sched_setaffinity, cpus) for cpus in ((), (NO_CPU,))]
        same = status_words("Cpus_allowed_list") == before
        return [*answers, same, seen.errno_of(sched_setaffinity, (0, NO_CPU)), status_words("Cpus_allowed_list")]

    assert seen(in_child(change)) == ["EINVAL", "EINVAL", True, "no error", ["0"]]


@behaviour("process.sched.affinity-esrch")
def test_affinity_of_nobody(companion: Companion, seen: Seen) -> None:
    """A pid that no thread has gives ESRCH."""
    pid = companion(lambda talk: None).pid
    wait4(pid)
    assert seen.errno_of(sched_setaffinity, (0,), pid) == "ESRCH"


@behaviour("process.sched.ioprio-class-rt")
def test_real_time_io(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without privilege the real-time class gives EPERM."""
    assert in_child(lambda: seen.errno_of(ioprio_set, 0, REAL_TIME, 4)) == "no error"
    assert seen(unprivileged(lambda: seen.errno_of(ioprio_set, 0, REAL_TIME, 4))) == "EPERM"


@behaviour("process.sched.ioprio-class-idle")
def test_idle_io(unprivileged: Unprivileged, seen: Seen) -> None:
    """Without privilege the idle class succeeds."""
    assert seen(unprivileged(lambda: [seen.errno_of(ioprio_set, 0, IDLE, 0), ioprio_get()[0]])) == ["no error", IDLE]


@behaviour("process.sched.ioprio-invalid-level")
def test_level_of_io(in_child: InChild, seen: Seen) -> None:
    """Level 8 gives EINVAL; 7 is the last."""
    assert in_child(lambda: [seen.errno_of(ioprio_set, 0, BEST_EFFORT, 7), ioprio_get()[1]]) == ["no error", 7]
    assert seen(in_child(lambda: seen.errno_of(ioprio_set, 0, BEST_EFFORT, 8))) == "EINVAL"


@behaviour("process.sched.ioprio-invalid-class")
def test_class_of_io(in_child: InChild, seen: Seen) -> None:
    """Class 4 gives EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(ioprio_set, 0, MISSING, 4))) == "EINVAL"
