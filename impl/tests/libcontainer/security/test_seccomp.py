"""From rules to a filter: what it answers, how long it is, what is refused."""

from __future__ import annotations

import random

import pytest

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompArgument, SeccompRule
from kernelproof.impl.libcontainer.security.actions import ALLOW, ERRNO, KILL_PROCESS, NOTIFY
from kernelproof.impl.libcontainer.security.architectures import (
    ARCHITECTURES,
    X32_BIT,
    native_architecture,
    parse_numbers,
)
from kernelproof.impl.libcontainer.security.bpf import Call, run
from kernelproof.impl.libcontainer.security.seccomp import ACTIONS, FLAGS, NEW_LISTENER, OPERATORS, compile_seccomp
from kernelproof.impl.tests.libcontainer.security.random_rules import (
    BIG_ENDIAN,
    LITTLE_ENDIAN,
    random_call,
    random_policy,
)
from kernelproof.impl.tests.libcontainer.security.rules_read import ENOSYS, expected

X86_64 = ARCHITECTURES["SCMP_ARCH_X86_64"]
ERROR, ALLOWED = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"


def answer(policy: Seccomp, number: int, *arguments: int, arch: int = X86_64.audit) -> int:
    """What the filter answers on x86-64."""
    return run(compile_seccomp(policy, native=X86_64).words, Call(arch, number, arguments))[0]


@pytest.mark.parametrize("arches", LITTLE_ENDIAN + BIG_ENDIAN, ids="-".join)
@pytest.mark.parametrize("mixed", [False, True], ids=["one-action", "mixed"])
def test_program_answers_as_the_rules_read(arches: tuple[str, ...], mixed: bool) -> None:
    """For random rules and calls the program returns what reading the rules one by one gives."""
    machines = [ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in arches]
    chance = random.Random(f"{arches} {mixed}")
    decided: set[int] = set()
    for _ in range(20):
        policy = random_policy(chance, machines, most_rules=4, most_arguments=3, mixed=mixed)
        program = compile_seccomp(policy, native=machines[0])
        for _ in range(60):
            call = random_call(chance, policy, machines)
            action, _ = run(program.words, call, little=machines[0].little)
            assert hex(action) == hex(expected(policy, call)), f"{policy} {call.number} {call.arguments}"
            decided.add(action)
    assert len(decided) >= 5


def every_second(count: int) -> Seccomp:
    """A list of calls with as many gaps as calls, for three machines."""
    listed = sorted(X86_64.numbers(), key=X86_64.numbers().__getitem__)[: 2 * count : 2]
    machines = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    return Seccomp(ERROR, architectures=machines, syscalls=(SeccompRule(tuple(listed), ALLOWED),))


def test_long_list_is_searched_by_halving() -> None:
    """A list of 180 names for three machines stays below 1200 instructions, and no call takes more than 20 of them."""
    program = compile_seccomp(every_second(180), native=X86_64)
    steps = [run(program.words, Call(X86_64.audit, number))[1] for number in range(500)]
    assert len(program) < 1200
    assert max(steps) <= 20


def test_thousands_of_values_fit_one_program() -> None:
    """2000 rules for single values of an argument stay below 4096 instructions, and each value is found."""
    values = [number * 7 for number in range(2000)]
    wanted = set(values)
    rules = tuple(SeccompRule(("ioctl",), ALLOWED, args=(SeccompArgument(1, each, "SCMP_CMP_EQ"),)) for each in values)
    program = compile_seccomp(Seccomp(ERROR, syscalls=rules), native=X86_64)
    assert len(program) < 4096
    number = X86_64.numbers()["ioctl"]
    for value in range(0, 14100, 5):
        action, steps = run(program.words, Call(X86_64.audit, number, (0, value)))
        assert (action, steps < 32) == (ALLOW if value in wanted else ERRNO | 1, True)
    assert run(program.words, Call(X86_64.audit, number, (0, 7 | 1 << 32)))[0] == ERRNO | 1


def test_program_that_is_too_long_is_refused() -> None:
    """More conditions than 4096 instructions can ask for are refused with how many there would be."""
    rules = tuple(
        SeccompRule(("ioctl",), ALLOWED, args=(SeccompArgument(1, each << 32 | each, "SCMP_CMP_GT"),))
        for each in range(2000)
    )
    with pytest.raises(ValueError, match=r"\d{4} instructions, 4096 are the most"):
        compile_seccomp(Seccomp(ERROR, syscalls=rules), native=X86_64)


def newest_by_default(policy: Seccomp) -> int:
    """The wrong variant: what the rules do not name gets the default action, however new it is."""
    return ERRNO | (policy.default_errno_ret or 1)


def newest_as_compiled(policy: Seccomp) -> int:
    """The answer for a call that no kernel had when the rules were written."""
    return answer(policy, 100_000)


@pytest.mark.rule("K16", ours=newest_as_compiled, wrong=newest_by_default, raises=AssertionError)
def test_library_can_fall_back(subject) -> None:  # type: ignore[no-untyped-def]
    """A call newer than the rules gets the errno that makes a C library use an older one."""
    assert subject(Seccomp(ERROR, syscalls=(SeccompRule(("read", "openat"), ALLOWED),))) == ENOSYS


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_newer_call_is_absent(default: str) -> None:
    """Where the default refuses, a call above all that the rules name gets ENOSYS, and one between them the default."""
    policy = Seccomp(default, syscalls=(SeccompRule(("read", "openat"), ALLOWED),))
    top = X86_64.numbers()["openat"]
    assert [answer(policy, number) for number in (0, top, top + 1, 100_000)] == [ALLOW, ALLOW, ENOSYS, ENOSYS]
    assert answer(policy, 1) not in (ALLOW, ENOSYS)


def test_newer_call_is_absent_behind_a_rule_of_the_default_action() -> None:
    """A rule that only repeats the default names its call all the same: that call is no newer one."""
    policy = Seccomp(ERROR, syscalls=(SeccompRule(("read",), ALLOWED), SeccompRule(("openat",), ERROR)))
    assert answer(policy, X86_64.numbers()["openat"]) == ERRNO | 1


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_newer_call_is_as_others_where_the_default_lets_pass(default: str) -> None:
    """Where the default does not refuse, there is no ENOSYS."""
    policy = Seccomp(default, syscalls=(SeccompRule(("read",), ERROR),))
    assert answer(policy, 100_000) == answer(policy, 1) != ENOSYS


def test_foreign_machine_kills() -> None:
    """A call of a machine that is not listed kills the process, x32 on x86-64 included, though all else is allowed."""
    policy = Seccomp(ALLOWED)
    assert answer(policy, 0, arch=0x40000003) == KILL_PROCESS
    assert answer(policy, X32_BIT) == KILL_PROCESS
    assert answer(policy, 0xFFFFFFFF) == ALLOW  # -1: a tracer has taken the call away


def test_native_machine_is_always_in() -> None:
    """The native architecture is judged by the rules although the list does not name it."""
    policy = Seccomp(ERROR, architectures=("SCMP_ARCH_X86",), syscalls=(SeccompRule(("read",), ALLOWED),))
    assert answer(policy, X86_64.numbers()["read"]) == ALLOW


def test_first_rule_that_matches_decides() -> None:
    """Of two rules for one call the earlier one decides where both match."""
    narrow = SeccompRule(("openat",), ERROR, 13, args=(SeccompArgument(0, 5, "SCMP_CMP_EQ"),))
    wide = SeccompRule(("openat",), ALLOWED)
    number = X86_64.numbers()["openat"]
    assert answer(Seccomp("SCMP_ACT_KILL", syscalls=(narrow, wide)), number, 5) == ERRNO | 13
    assert answer(Seccomp("SCMP_ACT_KILL", syscalls=(wide, narrow)), number, 5) == ALLOW


def test_argument_named_twice_is_an_alternative() -> None:
    """Two conditions of one entry on the same argument hold each for itself; on different ones both must hold."""
    same = (SeccompArgument(0, 1, "SCMP_CMP_EQ"), SeccompArgument(0, 2, "SCMP_CMP_EQ"))
    both = (SeccompArgument(0, 1, "SCMP_CMP_EQ"), SeccompArgument(1, 2, "SCMP_CMP_EQ"))
    number = X86_64.numbers()["personality"]
    answers = [
        [answer(Seccomp(ERROR, syscalls=(SeccompRule(("personality",), ALLOWED, args=args),)), number, *call) == ALLOW]
        for args, call in ((same, (1,)), (same, (2,)), (same, (3,)), (both, (1, 2)), (both, (1, 3)), (both, (2, 2)))
    ]
    assert answers == [[True], [True], [False], [True], [False], [False]]


def test_high_half_counts() -> None:
    """A value that agrees in its low 32 bits alone does not match."""
    policy = Seccomp(
        ERROR, syscalls=(SeccompRule(("personality",), ALLOWED, args=(SeccompArgument(0, 8, "SCMP_CMP_EQ"),)),)
    )
    number = X86_64.numbers()["personality"]
    assert [answer(policy, number, value) == ALLOW for value in (8, 8 | 1 << 32)] == [True, False]


def test_names_that_no_machine_has_are_skipped() -> None:
    """A system call that none of the architectures has is skipped and told."""
    policy = Seccomp(ERROR, syscalls=(SeccompRule(("read", "frobnicate", "s390_pci_mmio_read"), ALLOWED),))
    assert compile_seccomp(policy, native=X86_64).skipped == ("frobnicate", "s390_pci_mmio_read")


_READ = SeccompRule(("read",), ALLOWED)
_NOTIFY = SeccompRule(("mkdir",), "SCMP_ACT_NOTIFY")


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Seccomp("SCMP_ACT_NOPE"), "defaultAction: there is no action 'SCMP_ACT_NOPE'"),
        (Seccomp(ERROR, syscalls=(SeccompRule(("read",), "ALLOW"),)), r"syscalls\[0\]: there is no action 'ALLOW'"),
        (Seccomp(ALLOWED, default_errno_ret=1), "takes no errno"),
        (Seccomp(ERROR, default_errno_ret=4096), "errno 4096"),
        (Seccomp(ERROR, architectures=("SCMP_ARCH_VAX",)), r"architectures\[0\]: there is no 'SCMP_ARCH_VAX'"),
        (Seccomp(ERROR, flags=("SECCOMP_FILTER_FLAG_X",)), r"flags\[0\]"),
        (Seccomp(ERROR, syscalls=(_READ.replace(args=(SeccompArgument(0, 0, "=="),)),)), r"args\[0\].op"),
        (Seccomp(ERROR, syscalls=(_READ.replace(args=(SeccompArgument(6, 0, "SCMP_CMP_EQ"),)),)), "0 to 5"),
        (Seccomp(ERROR, syscalls=(SeccompRule((), ALLOWED),)), "names no system call"),
        (Seccomp("SCMP_ACT_NOTIFY", listener_path="/s"), "SCMP_ACT_NOTIFY would stop the runtime"),
        (Seccomp(ERROR, listener_path="/s", syscalls=(_NOTIFY.replace(names=("write",)),)), "for write would stop"),
        (Seccomp(ERROR, listener_path="/s", syscalls=(_NOTIFY.replace(names=("sendmsg",)),)), "for sendmsg would stop"),
        (Seccomp(ERROR, syscalls=(_NOTIFY,)), "listenerPath"),
        (Seccomp(ERROR, listener_metadata="x"), "listenerMetadata"),
        (
            Seccomp(ERROR, listener_path="/s", flags=("SECCOMP_FILTER_FLAG_TSYNC",), syscalls=(_NOTIFY,)),
            "exclude each other",
        ),
        (Seccomp(ERROR, flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)), "is for filters with SCMP_ACT_NOTIFY"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(policy: Seccomp, told: str) -> None:
    """A name that nobody knows, or a combination that would hang the runtime, is an error that says where."""
    with pytest.raises(ValueError, match=told):
        compile_seccomp(policy, native=X86_64)


def test_notification_asks_for_a_listener() -> None:
    """A rule that notifies sets the flag for a listener, and its calls get the action."""
    policy = Seccomp(ALLOWED, listener_path="/s", flags=(), syscalls=(_NOTIFY,))
    program = compile_seccomp(policy, native=X86_64)
    assert (program.notifies, program.flags) == (True, NEW_LISTENER)
    assert run(program.words, Call(X86_64.audit, X86_64.numbers()["mkdir"]))[0] == NOTIFY


def test_flags_when_nothing_is_said() -> None:
    """Without flags the filter is loaded with SPEC_ALLOW; with an empty list with none."""
    assert [compile_seccomp(Seccomp(ALLOWED, flags=flags), native=X86_64).flags for flags in (None, ())] == [4, 0]


def test_multiplexed_calls_are_covered() -> None:
    """On 32-bit x86 a rule for socket covers socketcall with the number of socket, and no other of its numbers."""
    x86 = ARCHITECTURES["SCMP_ARCH_X86"]
    words = compile_seccomp(Seccomp(ERROR, syscalls=(SeccompRule(("socket",), ALLOWED),)), native=x86).words
    number = x86.numbers()["socketcall"]
    assert [run(words, Call(x86.audit, number, (kind,)))[0] == ALLOW for kind in (1, 2)] == [True, False]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_table_of_a_machine(name: str) -> None:
    """Each machine has a table with read, and from 424 on the numbers that are the same everywhere."""
    numbers = ARCHITECTURES[name].numbers()
    base = {"mips": 4000, "mips64": 5000, "mips64n32": 6000, "x32": X32_BIT}.get(ARCHITECTURES[name].table, 0)
    assert len(numbers) > 300
    assert "read" in numbers
    assert numbers["openat2"] - base == 437


def test_tables_are_those_of_the_installed_headers() -> None:
    """The x86-64 table has what is known elsewhere in this package, by the same numbers."""
    numbers = X86_64.numbers()
    assert (numbers["seccomp"], numbers["execve"], numbers["landlock_restrict_self"]) == (317, 59, 446)


def test_unknown_machine_is_an_error() -> None:
    """A machine without a table is a LookupError that lists the known ones."""
    with pytest.raises(LookupError, match=r"'vax'.*x86_64"):
        native_architecture("vax")


def test_line_without_a_number_is_an_error() -> None:
    """A table with a line that is no pair is refused."""
    with pytest.raises(ValueError, match="unpack"):
        parse_numbers("# comment\nread 0\nwrite\n")


def test_names_are_those_that_a_configuration_may_use() -> None:
    """What the check of a configuration lets through can be compiled, and the other way round."""
    assert tuple(ARCHITECTURES) == names.SECCOMP_ARCHITECTURES
    assert set(ACTIONS) == set(names.SECCOMP_ACTIONS)
    assert set(OPERATORS) == set(names.SECCOMP_OPERATORS)
    assert set(FLAGS) == set(names.SECCOMP_FLAGS)
