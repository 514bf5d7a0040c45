"""From a configuration's rules to a program for seccomp(2), without a library.

The first rule of the list that matches a call decides, then the default action. In one entry conditions on different
arguments must all hold; where an argument is named twice, each condition stands for itself.

Rules of one call with one action are thus a union, as libseccomp's manual has it; its own filters are none in some
cases of ranges that overlap (seen with 2.6.0). Of rules with different actions it promises no order, and lets one
without conditions win wherever it stands; here a list means what it says.

Names that a machine does not have are skipped; actions, operators, architectures and flags that nobody knows are
errors. What is newer than all that the rules name gets ENOSYS where the default would refuse it, so that a C library
falls back to what it did before. A call of a machine that is not listed kills the process.

Source: seccomp_rule_add(3), DESCRIPTION; seccomp/libseccomp#148; opencontainers/runtime-spec#1159.
"""

from __future__ import annotations

import errno

from kernelproof.impl.libcontainer.security.actions import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MOST_DATA,
    NOTIFY,
    TRACE,
    TRAP,
)
from kernelproof.impl.libcontainer.security.architectures import ARCHITECTURES, native_architecture
from kernelproof.impl.libcontainer.security.assembly import Condition, Rule, assemble

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.libcontainer.config.records import Seccomp, SeccompArgument, SeccompRule
    from kernelproof.impl.libcontainer.security.architectures import Architecture

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
NEW_LISTENER = 8
DEFAULT_FLAGS = 4  # SPEC_ALLOW, as other runtimes have it where the configuration says nothing

_WITH_ERRNO = (ERRNO, TRACE)
_MOST_ERRNO = 4095  # MAX_ERRNO: the kernel makes it of all above

# What a runtime itself calls between loading the filter and execve: a listener that nobody answers yet would hang it.
_NEVER_NOTIFIED = ("write", "sendmsg")


class Program:
    """A compiled filter.

    Attributes:
        words: eight bytes an instruction.
        flags: of seccomp(2), NEW_LISTENER included where a rule notifies.
        skipped: names in the rules that none of the architectures has.
    """

    __slots__ = ("flags", "skipped", "words")

    def __init__(self, words: bytes, flags: int, skipped: tuple[str, ...]) -> None:
        self.words = words
        self.flags = flags
        self.skipped = skipped

    @property
    def notifies(self) -> bool:
        """Whether loading it gives a listener."""
        return bool(self.flags & NEW_LISTENER)

    def __len__(self) -> int:
        return len(self.words) // 8


def compile_seccomp(policy: Seccomp, *, native: Architecture | None = None) -> Program:
    """Return the program and the flags of a configuration's filter.

    Args:
        policy: the record of `linux.seccomp`.
        native: the architecture of this machine's programs, which is always in; default: asked of uname(2).

    Raises:
        ValueError: an unknown action, operator, architecture or flag; an errno where the action takes none; an
            argument beyond the sixth; a listener that would hang the runtime; a program of more than 4096 instructions.
    """
    rules = _rules_by_name(policy)
    architectures = _architectures(policy, native or native_architecture())
    tables = [each.numbers() for each in architectures]
    words = assemble(architectures, rules, _default_action(policy))
    return Program(
        words, _flags(policy), tuple(sorted(name for name in rules if not any(name in table for table in tables)))
    )


def action_of(name: str, errno_ret: int | None, where: str) -> int:
    """Return the number of an action with its data.

    Raises:
        ValueError: the name is unknown, or the errno is not one that it takes.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise ValueError(f"{where}: there is no action {name!r}; known: {', '.join(ACTIONS)}")
    if action not in _WITH_ERRNO:
        if errno_ret is not None:
            raise ValueError(f"{where}: {name} takes no errno, only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
        return action
    data = errno.EPERM if errno_ret is None else errno_ret
    most = _MOST_ERRNO if action == ERRNO else MOST_DATA
    if not 0 <= data <= most:
        raise ValueError(f"{where}: errno {data} of {name} is not 0 to {most}")
    return action | data


def _default_action(policy: Seccomp) -> int:
    action = action_of(policy.default_action, policy.default_errno_ret, "defaultAction")
    if action == NOTIFY:
        raise ValueError("defaultAction: SCMP_ACT_NOTIFY would stop the runtime before there is anybody to answer")
    return action


def _flags(policy: Seccomp) -> int:
    flags = DEFAULT_FLAGS if policy.flags is None else 0
    for place, name in enumerate(policy.flags or ()):
        if name not in FLAGS:
            raise ValueError(f"flags[{place}]: there is no flag {name!r}; known: {', '.join(FLAGS)}")
        flags |= FLAGS[name]
    notifies = any(rule.action == "SCMP_ACT_NOTIFY" for rule in policy.syscalls)
    if policy.listener_metadata and not policy.listener_path:
        raise ValueError("listenerMetadata: nobody would get it without listenerPath")
    if not notifies:
        if flags & FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]:
            raise ValueError("flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for filters with SCMP_ACT_NOTIFY")
        return flags
    if not policy.listener_path:
        raise ValueError("listenerPath: SCMP_ACT_NOTIFY needs a socket where someone answers")
    if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
        raise ValueError("flags: SECCOMP_FILTER_FLAG_TSYNC and SCMP_ACT_NOTIFY exclude each other")
    return flags | NEW_LISTENER


def _architectures(policy: Seccomp, native: Architecture) -> list[Architecture]:
    for place, name in enumerate(policy.architectures):
        if name not in ARCHITECTURES:
            raise ValueError(f"architectures[{place}]: there is no {name!r}; known: {', '.join(ARCHITECTURES)}")
    names = dict.fromkeys((native.name, *policy.architectures))
    return [ARCHITECTURES[name] for name in names]


def _rules_by_name(policy: Seccomp) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for place, entry in enumerate(policy.syscalls):
        where = f"syscalls[{place}]"
        action = action_of(entry.action, entry.errno_ret, where)
        alternatives = [Rule(action, conditions) for conditions in _alternatives(entry, where)]
        if not entry.names:
            raise ValueError(f"{where}: it names no system call")
        hanging = [name for name in entry.names if action == NOTIFY and name in _NEVER_NOTIFIED]
        if hanging:
            raise ValueError(
                f"{where}: SCMP_ACT_NOTIFY for {hanging[0]} would stop the runtime before anybody can answer"
            )
        for name in entry.names:
            if name in found:
                found[name] = found[name] + alternatives
            else:
                found[name] = alternatives  # one list for all of them: what is the same is compiled once
    return found


def _alternatives(entry: SeccompRule, where: str) -> Iterator[tuple[Condition, ...]]:
    conditions = tuple(_condition(each, f"{where}.args[{place}]") for place, each in enumerate(entry.args))
    if len({each.index for each in conditions}) == len(conditions):
        yield conditions
    else:
        for each in conditions:
            yield (each,)


def _condition(argument: SeccompArgument, where: str) -> Condition:
    if argument.op not in OPERATORS:
        raise ValueError(f"{where}.op: there is no operator {argument.op!r}; known: {', '.join(OPERATORS)}")
    if not 0 <= argument.index <= 5:
        raise ValueError(f"{where}.index: a system call has the arguments 0 to 5, not {argument.index}")
    return Condition(argument.index, argument.op.removeprefix("SCMP_CMP_"), argument.value, argument.value_two)
