"""From rules by name to the instructions of a filter.

The program compares the machine, then looks for the number by halving, so that it stays short and quick: about ten
comparisons for a list of 400. What is done with calls whose arguments matter stands behind it, once for all that are
treated alike.
"""

from __future__ import annotations

import errno

from kernelproof.impl.libcontainer.security.actions import ERRNO, KILL_PROCESS, KILL_THREAD, MOST_DATA, TRAP
from kernelproof.impl.libcontainer.security.architectures import MULTIPLEXERS, X32_BIT
from kernelproof.impl.libcontainer.security.bpf import (
    ARCH_OFFSET,
    ARGUMENTS_OFFSET,
    EQUAL,
    GREATER,
    GREATER_OR_EQUAL,
    MOST_INSTRUCTIONS,
    NUMBER_OFFSET,
    Code,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernelproof.impl.libcontainer.security.architectures import Architecture

_TOP = 0xFFFFFFFF
_FIRST_PRIVATE = 0xF0000  # calls of ARM's own, far above the others


class Condition:
    """A comparison of one 64-bit argument."""

    __slots__ = ("index", "operator", "value", "value_two")

    def __init__(self, index: int, operator: str, value: int, value_two: int = 0) -> None:
        self.index = index
        self.operator = operator
        self.value = value
        self.value_two = value_two


class Rule:
    """An action, and the conditions under which it is taken."""

    # All conditions must hold; without any it always does.
    __slots__ = ("action", "conditions")

    def __init__(self, action: int, conditions: tuple[Condition, ...]) -> None:
        self.action = action
        self.conditions = conditions


def assemble(architectures: Sequence[Architecture], rules: Mapping[str, list[Rule]], default: int) -> bytes:
    """Return the program: eight bytes an instruction.

    Args:
        architectures: whose calls are judged; those of others kill the process.
        rules: of each system call, the first that matches decides.
        default: the action of all that no rule matches.

    Raises:
        ValueError: it would have more than 4096 instructions.
    """
    code = Code()
    by_audit: dict[int, list[Architecture]] = {}
    for each in architectures:
        by_audit.setdefault(each.audit, []).append(each)
    start = code.ret(KILL_PROCESS)
    for audit, sharing in reversed(by_audit.items()):
        section = code.load(NUMBER_OFFSET, _search(code, _intervals(code, sharing, rules, default)))
        start = code.jump(EQUAL, audit, section, start)
    code.load(ARCH_OFFSET, start)
    if len(code) > MOST_INSTRUCTIONS:
        raise ValueError(
            f"the filter has {len(code)} instructions, {MOST_INSTRUCTIONS} are the most: "
            "fewer architectures, or fewer conditions on arguments, make it shorter"
        )
    return code.words()


def _intervals(
    code: Code, sharing: Sequence[Architecture], rules: Mapping[str, list[Rule]], default: int
) -> list[tuple[int, int]]:
    # Where an interval of numbers begins, and the label of what is done there. Machines that share an AUDIT_ARCH number
    # share the search too: x32 lies above x86-64, and where it is not listed, nothing may come from there.
    starts: dict[int, int] = {}
    last = 0
    foreign = code.ret(KILL_PROCESS)
    if any(each.table in ("x86_64", "x32") for each in sharing):
        if all(each.table != "x32" for each in sharing):
            starts[X32_BIT] = foreign
        if all(each.table != "x86_64" for each in sharing):
            starts[0] = foreign
    for each in sharing:
        low, high = (X32_BIT, _TOP) if each.table == "x32" else (0, X32_BIT - 1 if each.table == "x86_64" else _TOP)
        last = _fill(code, each, rules, default, (low, high), starts)
    if any(each.table == "x86_64" for each in sharing) and X32_BIT in starts and starts[X32_BIT] == foreign:
        starts[_TOP] = last  # -1: a tracer has already taken the call away
    return _merged(starts)


def _fill(
    code: Code,
    architecture: Architecture,
    rules: Mapping[str, list[Rule]],
    default: int,
    bounds: tuple[int, int],
    starts: dict[int, int],
) -> int:
    # Enters the intervals of one architecture, and returns the label of the numbers above all that rules name.
    low, high = bounds
    at_default = code.ret(default)
    numbered = _numbered(architecture, rules)
    newest = max((number for number in numbered if number < _FIRST_PRIVATE or number >= X32_BIT), default=high)
    newer = code.ret(ERRNO | errno.ENOSYS) if numbered and _refuses(default) else at_default
    labels: dict[int, int] = {}  # of what is the same list of rules
    starts[low] = at_default
    if newest < high:
        starts[newest + 1] = newer
    for number in sorted(numbered):
        of_number = numbered[number]
        key = id(of_number)
        if key not in labels:
            labels[key] = _decide(code, of_number, at_default, architecture)
        starts[number] = labels[key]
        if number < high:
            starts.setdefault(number + 1, newer if number >= newest else at_default)
    return newer


def _refuses(default: int) -> bool:
    return default in (KILL_PROCESS, KILL_THREAD, TRAP) or (
        default & ~MOST_DATA == ERRNO and default != ERRNO | errno.ENOSYS
    )


def _numbered(architecture: Architecture, rules: Mapping[str, list[Rule]]) -> dict[int, list[Rule]]:
    numbers = architecture.numbers()
    behind = {
        name: (numbers[multiplexer], value)
        for multiplexer, members in MULTIPLEXERS
        if multiplexer in numbers
        for name, value in members.items()
    }
    found: dict[int, list[Rule]] = {}
    for name, of_name in rules.items():
        if name in numbers:
            number = numbers[name]
            found[number] = found[number] + of_name if number in found else of_name
        # Arguments of a multiplexed call lie in memory, where no filter sees them: only plain rules carry over.
        if name in behind and of_name and not of_name[0].conditions:
            number, value = behind[name]
            found[number] = [*found.get(number, ()), Rule(of_name[0].action, (Condition(0, "EQ", value),))]
    return found


def _merged(starts: Mapping[int, int]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start in sorted(starts):
        if not merged or merged[-1][1] != starts[start]:
            merged.append((start, starts[start]))
    return merged


def _search(code: Code, intervals: Sequence[tuple[int, int]]) -> int:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    above = _search(code, intervals[middle:])
    below = _search(code, intervals[:middle])
    return code.jump(GREATER_OR_EQUAL, intervals[middle][0], above, below)


def _decide(code: Code, rules: Sequence[Rule], otherwise: int, architecture: Architecture) -> int:
    # From the last rule to the first: each one's "no" is the next one's beginning.
    label = otherwise
    place = len(rules)
    while place:
        first = _first_of_values(rules, place)
        if place - first > 1:
            label = _by_value(code, rules[first:place], label, architecture)
            place = first
            continue
        place -= 1
        rule = rules[place]
        yes = code.ret(rule.action)
        for condition in reversed(rule.conditions):
            yes = _compare(code, condition, yes, label, architecture)
        label = yes
    return label


def _first_of_values(rules: Sequence[Rule], end: int) -> int:
    # Where the run of rules begins that ends here and asks one argument for one value each.
    def index(rule: Rule) -> int:
        one = len(rule.conditions) == 1 and rule.conditions[0].operator == "EQ"
        return rule.conditions[0].index if one else -1

    wanted = index(rules[end - 1])
    first = end - 1
    while wanted >= 0 and first > 0 and index(rules[first - 1]) == wanted:
        first -= 1
    return first


def _by_value(code: Code, rules: Sequence[Rule], otherwise: int, architecture: Architecture) -> int:
    # Thousands of values of one argument are found by halving as well: first the high halves, then the low ones.
    by_high: dict[int, dict[int, int]] = {}
    for rule in rules:
        value = rule.conditions[0].value
        high = value >> 32 if architecture.wide else 0
        by_high.setdefault(high, {}).setdefault(value & _TOP, rule.action)
    low_at, high_at = _halves(rules[0].conditions[0].index, architecture)
    lows = {
        high: code.load(low_at, _switch(code, sorted((low, code.ret(value)) for low, value in of.items()), otherwise))
        for high, of in by_high.items()
    }
    if not architecture.wide:
        return lows[0]
    return code.load(high_at, _switch(code, sorted(lows.items()), otherwise))


def _switch(code: Code, cases: Sequence[tuple[int, int]], otherwise: int) -> int:
    if len(cases) <= 3:
        label = otherwise
        for value, target in reversed(cases):
            label = code.jump(EQUAL, value, target, label)
        return label
    middle = len(cases) // 2
    above = _switch(code, cases[middle:], otherwise)
    below = _switch(code, cases[:middle], otherwise)
    return code.jump(GREATER_OR_EQUAL, cases[middle][0], above, below)


def _halves(index: int, architecture: Architecture) -> tuple[int, int]:
    # Where the low and the high half of an argument lie.
    first = ARGUMENTS_OFFSET + 8 * index
    return (first, first + 4) if architecture.little else (first + 4, first)


_INVERSE = {"NE": "EQ", "LT": "GE", "LE": "GT"}


def _compare(code: Code, condition: Condition, yes: int, no: int, architecture: Architecture) -> int:
    operator = condition.operator
    if operator in _INVERSE:
        operator, yes, no = _INVERSE[operator], no, yes
    low_at, high_at = _halves(condition.index, architecture)
    value = condition.value
    if operator == "MASKED_EQ":
        return _compare_masked(code, condition, yes, no, architecture)
    final = {"EQ": EQUAL, "GT": GREATER, "GE": GREATER_OR_EQUAL}[operator]
    label = code.load(low_at, code.jump(final, value & _TOP, yes, no))
    if not architecture.wide:
        return label
    label = code.jump(EQUAL, value >> 32, label, no)
    if operator != "EQ":
        label = code.jump(GREATER, value >> 32, yes, label)
    return code.load(high_at, label)


def _compare_masked(code: Code, condition: Condition, yes: int, no: int, architecture: Architecture) -> int:
    mask, wanted = condition.value, condition.value_two
    label = yes
    halves = zip(_halves(condition.index, architecture), (0, 32), strict=True)
    for offset, shift in tuple(halves)[: 2 if architecture.wide else 1]:
        bits, datum = mask >> shift & _TOP, wanted >> shift & _TOP
        if datum & ~bits:
            return no  # bits that the mask takes away can't be set
        if bits == _TOP:
            label = code.load(offset, code.jump(EQUAL, datum, label, no))
        elif bits:
            label = code.load(offset, code.mask(bits, code.jump(EQUAL, datum, label, no)))
    return label
