"""What a filter must answer, read from the rules without compiling anything: the model that programs are held to."""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompArgument, SeccompRule
from kernelproof.impl.libcontainer.security.actions import ALLOW, ERRNO, KILL_PROCESS, LOG, TRACE, TRAP
from kernelproof.impl.libcontainer.security.architectures import ARCHITECTURES, MULTIPLEXERS, X32_BIT, Architecture
from kernelproof.impl.libcontainer.security.bpf import Call

ENOSYS = ERRNO | 38
ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_ERRNO": ERRNO | 1,
    "SCMP_ACT_TRACE": TRACE | 1,
}
REFUSING = ("SCMP_ACT_TRAP", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO")


def expected(policy: Seccomp, call: Call) -> int:
    """The action of the first rule that matches, ENOSYS above all that the rules name, else the default."""
    machine = machine_of(policy, call)
    if machine is None:
        return KILL_PROCESS
    numbers = machine.numbers()
    listed = [rule for rule in policy.syscalls if any(name in numbers for name in rule.names)]
    for rule in policy.syscalls:
        for name in rule.names:
            if matches(rule, name, call, machine, policy):
                return ACTIONS[rule.action]
    highest = highest_named(policy, machine)
    newer = listed and highest is not None and call.number > highest
    return ENOSYS if newer and policy.default_action in REFUSING else ACTIONS[policy.default_action]


def machine_of(policy: Seccomp, call: Call) -> Architecture | None:
    """The listed architecture that a call belongs to."""
    for name in policy.architectures:
        each = ARCHITECTURES[name]
        x32_number = call.number >= X32_BIT and call.number != 0xFFFFFFFF
        if each.audit == call.arch and (each.table not in ("x86_64", "x32") or x32_number == (each.table == "x32")):
            return each
    return None


def matches(rule: SeccompRule, name: str, call: Call, machine: Architecture, policy: Seccomp) -> bool:
    """Whether a rule holds for a call, directly or behind a multiplexer."""
    numbers = machine.numbers()
    if numbers.get(name) == call.number:
        indices = [each.index for each in rule.args]
        together = all if len(set(indices)) == len(indices) else any
        return together(holds(each, call.arguments[each.index], machine) for each in rule.args) or not rule.args
    first = next(each for each in policy.syscalls if name in each.names)
    for multiplexer, members in MULTIPLEXERS:
        if name in members and numbers.get(multiplexer) == call.number and not rule.args and first is rule:
            return call.arguments[0] & _all_bits(machine) == members[name]
    return False


def _all_bits(machine: Architecture) -> int:
    return (1 << (64 if machine.wide else 32)) - 1


def holds(argument: SeccompArgument, value: int, machine: Architecture) -> bool:
    """Whether a comparison holds, in the machine's width."""
    bits = _all_bits(machine)
    value, wanted = value & bits, argument.value & bits
    if argument.op == "SCMP_CMP_MASKED_EQ":
        return value & wanted == argument.value_two & bits
    return {
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_GT": value > wanted,
    }[argument.op]


def highest_named(policy: Seccomp, machine: Architecture) -> int | None:
    """The highest number that the rules name on a machine, multiplexers included."""
    numbers = machine.numbers()
    found = [numbers[name] for rule in policy.syscalls for name in rule.names if name in numbers]
    for multiplexer, members in MULTIPLEXERS:
        for name in members:
            first = next((each for each in policy.syscalls if name in each.names), None)
            if first is not None and not first.args and multiplexer in numbers:
                found.append(numbers[multiplexer])
    return max(found, default=None)
