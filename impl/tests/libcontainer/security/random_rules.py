"""Random rules, and calls that come close to what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompArgument, SeccompRule
from kernelproof.impl.libcontainer.security.bpf import Call
from kernelproof.impl.libcontainer.security.seccomp import OPERATORS
from kernelproof.impl.tests.libcontainer.security.rules_read import ACTIONS

if TYPE_CHECKING:
    import random

    from kernelproof.impl.libcontainer.security.architectures import Architecture

NAMES = ("read", "write", "openat", "clone", "personality", "ioctl", "fcntl", "prctl", "mmap", "socket", "execve")
LITTLE_ENDIAN = (
    ("X86_64",),
    ("X86_64", "X86"),
    ("X86_64", "X32"),
    ("X86_64", "X86", "X32"),
    ("AARCH64", "ARM"),
    ("RISCV64",),
)
BIG_ENDIAN = (("S390X", "S390"), ("PPC64",), ("MIPS64", "MIPS", "MIPS64N32"))


def random_policy(
    chance: random.Random, machines: list[Architecture], *, most_rules: int, most_arguments: int, mixed: bool
) -> Seccomp:
    """Rules for some of the names; with `mixed` several actions for one call, and an argument named twice."""
    default = chance.choice(list(ACTIONS))
    rules = []
    for name in chance.sample(NAMES, chance.randint(1, len(NAMES))):
        actions = [each for each in ACTIONS if mixed or each != default]
        action = chance.choice(actions)
        for _ in range(chance.randint(1, most_rules)):
            action = chance.choice(actions) if mixed else action
            count = chance.randint(0 if mixed else min(most_arguments, 1), most_arguments)
            indices = [chance.randrange(6) for _ in range(count)] if mixed else chance.sample(range(6), count)
            arguments = tuple(random_argument(chance, index, machines) for index in indices)
            rules.append(SeccompRule((name,), action, args=arguments))
    return Seccomp(default, architectures=tuple(each.name for each in machines), flags=(), syscalls=tuple(rules))


def random_argument(chance: random.Random, index: int, machines: list[Architecture]) -> SeccompArgument:
    """A comparison whose value fits the narrowest of the machines."""
    wide = all(each.wide for each in machines)
    value = chance.choice((chance.randint(0, 3), chance.getrandbits(64 if wide else 32), (1 << 32) - 1))
    value = value | chance.randint(0, 2) << 32 if wide else value
    operator = chance.choice((*OPERATORS, "SCMP_CMP_EQ"))
    second = chance.getrandbits(64) & value if operator == "SCMP_CMP_MASKED_EQ" else 0
    return SeccompArgument(index, value, operator, second)


def random_call(chance: random.Random, policy: Seccomp, machines: list[Architecture]) -> Call:
    """A call that is often one that the rules name, with arguments close to theirs."""
    machine = chance.choice(machines)
    numbers = machine.numbers()
    rule = chance.choice(policy.syscalls)
    named = numbers.get(rule.names[0], 3)
    others = (chance.choice(tuple(numbers.values())), chance.randint(0, 500), chance.getrandbits(32), 0xFFFFFFFF)
    number = chance.choice((named, named, named, *others))
    arguments = [chance.choice((chance.randint(0, 20), chance.getrandbits(64))) for _ in range(6)]
    for each in rule.args:
        near = (each.value, each.value + 1, max(each.value - 1, 0), each.value_two | chance.getrandbits(3))
        arguments[each.index] = chance.choice(near) & (1 << 64) - 1
    if not machine.wide:
        arguments = [each & 0xFFFFFFFF for each in arguments]
    return Call(machine.audit if chance.random() > 0.02 else 0x1234, number, tuple(arguments))
