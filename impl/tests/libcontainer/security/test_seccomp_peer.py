"""The compiled filter beside the one that libseccomp makes of the same rules.

Exactly alike for one rule a call. Several rules of one action are a union by libseccomp's manual: this package's
program is, and libseccomp's is in nearly all cases. Several of different actions have no order there, so they are not
compared.

Source: seccomp_rule_add(3), DESCRIPTION; seccomp/libseccomp#148.
"""

from __future__ import annotations

import ctypes
import random
from ctypes.util import find_library
from tempfile import TemporaryFile
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompArgument, SeccompRule
from kernelproof.impl.libcontainer.security.actions import KILL_PROCESS
from kernelproof.impl.libcontainer.security.architectures import ARCHITECTURES, Architecture
from kernelproof.impl.libcontainer.security.bpf import Call, run
from kernelproof.impl.libcontainer.security.seccomp import OPERATORS, compile_seccomp
from kernelproof.impl.tests.libcontainer.security.random_rules import LITTLE_ENDIAN, random_call, random_policy
from kernelproof.impl.tests.libcontainer.security.rules_read import ACTIONS, ENOSYS, expected

_X32_TOKEN = 0x4000003E
_BAD_ARCH, _ALREADY_THERE = 2, -17  # SCMP_FLTATR_ACT_BADARCH; -EEXIST: the native architecture is always in


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


@pytest.fixture(scope="module")
def library() -> Any:
    """libseccomp, where it is installed."""
    try:
        library = ctypes.CDLL(find_library("seccomp") or "libseccomp.so.2")
    except OSError as error:
        pytest.skip(f"libseccomp is not installed here: {error}")
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def made_by_library(library: Any, policy: Seccomp, machines: list[Architecture]) -> bytes:
    """The program that libseccomp makes."""
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ACTIONS[policy.default_action])))
    try:
        library.seccomp_attr_set(context, _BAD_ARCH, ctypes.c_uint32(KILL_PROCESS))
        library.seccomp_arch_remove(context, ctypes.c_uint32(0))
        for each in machines:
            token = _X32_TOKEN if each.table == "x32" else each.audit
            assert library.seccomp_arch_add(context, ctypes.c_uint32(token)) in (0, _ALREADY_THERE)
        for rule in policy.syscalls:
            number = library.seccomp_syscall_resolve_name(rule.names[0].encode())
            arguments = (_Comparison * max(len(rule.args), 1))(
                *[
                    _Comparison(each.index, OPERATORS.index(each.op) + 1, each.value, each.value_two)
                    for each in rule.args
                ]
            )
            action = ctypes.c_uint32(ACTIONS[rule.action])
            assert library.seccomp_rule_add_array(context, action, number, len(rule.args), arguments) == 0
        with TemporaryFile() as file:
            assert library.seccomp_export_bpf(context, file.fileno()) == 0
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


@pytest.mark.parametrize("names", LITTLE_ENDIAN, ids="-".join)
@pytest.mark.parametrize("most_arguments", [0, 2])
def test_programs_agree(library: Any, names: tuple[str, ...], most_arguments: int) -> None:
    """For random rules and calls this package's program and libseccomp's return the same action."""
    machines = [ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in names]
    chance = random.Random(f"{names} {most_arguments}")
    decided: set[int] = set()
    for _ in range(10):
        policy = random_policy(chance, machines, most_rules=1, most_arguments=most_arguments, mixed=False)
        ours, theirs = compile_seccomp(policy, native=machines[0]), made_by_library(library, policy, machines)
        for _ in range(100):
            call = random_call(chance, policy, machines)
            mine, other = run(ours.words, call)[0], run(theirs, call)[0]
            if expected(policy, call) == ENOSYS:  # of newer calls: libseccomp has no such thing, runtimes add it
                other = ENOSYS
            assert hex(mine) == hex(other), f"{policy} {call.arch:#x} {call.number} {call.arguments}"
            decided.add(mine)
    assert len(decided) >= 4


@pytest.mark.parametrize("most_arguments", [1, 2, 3])
def test_several_rules_are_a_union(library: Any, most_arguments: int) -> None:
    """Of several rules with one action any that holds decides; where libseccomp differs, it is from that union."""
    machines = [ARCHITECTURES["SCMP_ARCH_X86_64"]]
    chance = random.Random(f"union {most_arguments}")
    same = differing = 0
    for _ in range(40):
        policy = random_policy(chance, machines, most_rules=3, most_arguments=most_arguments, mixed=False)
        ours, theirs = compile_seccomp(policy, native=machines[0]), made_by_library(library, policy, machines)
        for _ in range(60):
            call = random_call(chance, policy, machines)
            union = expected(policy, call)
            assert hex(run(ours.words, call)[0]) == hex(union), f"{policy} {call.number} {call.arguments}"
            if union != ENOSYS:
                is_same = run(theirs, call)[0] == union
                same, differing = same + is_same, differing + (not is_same)
    assert differing < same // 100


def test_ranges_that_overlap(library: Any) -> None:
    """Two ranges of one argument, the wider one first, and a third rule: the wider one holds for all that it names."""
    machines = [ARCHITECTURES["SCMP_ARCH_X86_64"]]
    conditions = ((3, 0x2_0000_0001, "SCMP_CMP_LE"), (3, 2, "SCMP_CMP_LE"), (4, 0x2_FFFF_FFFF, "SCMP_CMP_GT"))
    rules = tuple(SeccompRule(("execve",), "SCMP_ACT_TRAP", args=(SeccompArgument(*each),)) for each in conditions)
    policy = Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_X86_64",), flags=(), syscalls=rules)
    ours, theirs = compile_seccomp(policy, native=machines[0]), made_by_library(library, policy, machines)
    number = machines[0].numbers()["execve"]
    answers = set()
    for value in (0, 2, 3, 0xFFFF_FFFF, 0x1_0000_0000, 0x1_0000_0003, 0x2_0000_0000, 0x2_0000_0001):
        call = Call(machines[0].audit, number, (0, 0, 0, value, 0, 0))
        assert run(ours.words, call)[0] == ACTIONS["SCMP_ACT_TRAP"], hex(value)
        answers.add(run(theirs, call)[0])
    assert answers <= {ACTIONS["SCMP_ACT_TRAP"], ACTIONS["SCMP_ACT_ALLOW"]}
