"""Rules about devices: the model, the program, the lists."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.impl.cgroups.devices.lists import DeviceList, minimal, parse_list, plan_list, plan_writes
from kernelproof.impl.cgroups.devices.program import (
    Instruction,
    compile_rules,
    decode_program,
    encode_program,
    format_program,
    run,
)
from kernelproof.impl.cgroups.devices.rules import Device, DeviceRule, explain, is_allowed
from kernelproof.impl.cgroups.errors import FormatError, LimitError

ACCESSES = ("r", "w", "m", "rw", "rm", "wm", "rwm")
DEVICES = [Device(kind, major, minor) for kind, major, minor in product("bc", (1, 5), (0, 3))]

numbers = st.one_of(st.none(), st.sampled_from([0, 1, 3, 5]))
plain_rules = st.builds(DeviceRule, st.sampled_from("bc"), numbers, numbers, st.sampled_from(ACCESSES), st.booleans())
any_rules = st.one_of(
    plain_rules, st.builds(DeviceRule, st.just("a"), st.none(), st.none(), st.sampled_from(ACCESSES), st.booleans())
)


def simple_model(rules: list[DeviceRule], device: Device, access: str) -> bool:
    """The rules written down once more, as plainly as can be."""
    answers = []
    for kind in access:
        answer = False
        for rule in rules:
            says = rule.type in ("a", device.type)
            says = says and (rule.major is None or rule.major == device.major)
            says = says and (rule.minor is None or rule.minor == device.minor)
            if says and kind in rule.access:
                answer = rule.allow
        answers.append(answer)
    return all(answers)


@pytest.mark.rule("C+4")
@settings(max_examples=300, deadline=None)
@given(st.lists(any_rules, max_size=8))
def test_program_and_model_agree(rules: list[DeviceRule]) -> None:
    """For all types, numbers and kinds of access the program answers as the rules say."""
    program = decode_program(encode_program(compile_rules(rules)))
    for device, access in product(DEVICES, ACCESSES):
        expected = simple_model(rules, device, access)
        assert is_allowed(rules, device, access) == expected
        assert run(program, device, access) == expected, format_program(program)


SHOWN = """\
0: r2 = *(u32 *)(r1 + 0)
1: r3 = r2
2: r3 &= 65535
3: r2 >>= 16
4: r4 = *(u32 *)(r1 + 4)
5: r5 = *(u32 *)(r1 + 8)
6: if r3 != 1 goto 10
7: if r4 != 8 goto 10
8: r0 = 1
9: exit
10: if r3 != 1 goto 15
11: if r2 & 1 goto 13
12: goto 15
13: r0 = 0
14: exit
15: if r3 != 2 goto 22
16: if r4 != 1 goto 22
17: if r5 != 3 goto 22
18: r2 &= 1
19: if r2 != 0 goto 22
20: r0 = 1
21: exit
22: r0 = 0
23: exit"""


def test_program_as_text() -> None:
    """A program is shown in the verifier's notation, with the numbers of the lines that jumps go to."""
    rules = [DeviceRule("c", 1, 3, "rw"), DeviceRule("b", access="m", allow=False), DeviceRule("b", 8)]
    assert format_program(compile_rules(rules)) == SHOWN
    assert format_program([Instruction(0x99)]) == "0: code 0x99"


@settings(max_examples=200, deadline=None)
@given(st.lists(any_rules, max_size=8))
def test_void_rules_can_go(rules: list[DeviceRule]) -> None:
    """Without the rules that a later one makes void the answers are the same."""
    fewer = list(minimal(rules))
    assert len(fewer) <= len(rules)
    for device, access in product(DEVICES, ACCESSES):
        assert simple_model(fewer, device, access) == simple_model(rules, device, access)


def test_nothing_is_allowed_without_rules() -> None:
    """No rule: everything is refused."""
    assert not run(compile_rules([]), Device("c", 1, 3), "r")


def test_five_hundred_rules_are_a_program() -> None:
    """Each rule is at most seven instructions, far from what a kernel takes."""
    rules = [DeviceRule("c", major, minor, "rw") for major in range(25) for minor in range(20)]
    program = compile_rules(rules)
    assert len(program) <= 6 + 7 * 500 + 2
    assert run(program, Device("c", 0, 0), "rw")
    assert not run(program, Device("c", 25, 0), "r")


@pytest.mark.parametrize("text", ["c 1:3 rwm", "b *:* m", "c 136:* rw", "a *:* rwm"])
def test_lines_come_back(text: str) -> None:
    """A line of devices.list parses and formats to itself."""
    assert DeviceRule.parse(text).format() == text


@pytest.mark.parametrize("text", ["", "c 1:3", "d 1:3 r", "c 1 r", "c x:3 r", "c 1:3: r", "c -1:3 r"])
def test_lines_that_are_none(text: str) -> None:
    """What is no line is an error."""
    with pytest.raises(FormatError):
        DeviceRule.parse(text)


@pytest.mark.parametrize(
    "rule",
    [
        DeviceRule("x"),
        DeviceRule("c", 1, 3, ""),
        DeviceRule("c", 1, 3, "rx"),
        DeviceRule("c", 1, 3, "rr"),
        DeviceRule("c", 4096, 3),
        DeviceRule("c", 1, 1 << 20),
        DeviceRule("c", -1, 1),
        DeviceRule("a", 1, 3),
    ],
    ids=str,
)
def test_rules_that_are_none(rule: DeviceRule) -> None:
    """What no kernel could keep is an error before any is asked."""
    with pytest.raises(LimitError):
        compile_rules([rule])


def test_explained() -> None:
    """Each kind of an access names the rule that decides it."""
    rules = [DeviceRule.parse("c 1:* rwm"), DeviceRule.parse("c 1:3 w", allow=False)]
    assert explain(rules, Device("c", 1, 3), "rw") == (
        "read: allowed by rule 1, c 1:* rwm\nwrite: refused by rule 2, c 1:3 w"
    )
    assert explain(rules, Device("b", 1, 3), "m") == "mknod: refused, no rule says anything"


def test_version_1_changes_what_differs() -> None:
    """New entries are allowed before old ones go; what both lists have is not touched."""
    now = parse_list("c 1:3 rwm\nc 1:5 rwm\n")
    wanted = plan_list([DeviceRule.parse("c 1:3 rw"), DeviceRule.parse("b 8:0 r")])
    assert [write.describe() for write in plan_writes(now, wanted)] == [
        "devices.allow: b 8:0 r",
        "devices.deny: c 1:3 m",
        "devices.deny: c 1:5 rwm",
    ]
    everything = parse_list("a *:* rwm\n")
    assert everything.allows_all
    assert [write.describe() for write in plan_writes(everything, wanted)] == [
        "devices.deny: a",
        "devices.allow: c 1:3 rw",
        "devices.allow: b 8:0 r",
    ]
    assert plan_writes(wanted, wanted) == []


def test_version_1_takes_entries_back() -> None:
    """A rule that refuses takes out entries that it covers; a part of a wildcard can't go, and that is said."""
    assert plan_list([DeviceRule.parse("c 1:3 rwm"), DeviceRule.parse("c 1:* w", allow=False)]) == DeviceList(
        False, {("c", 1, 3): "rm"}
    )
    assert plan_list([DeviceRule.parse("a"), DeviceRule.parse("c 1:3 w", allow=False)]).allows_all
    with pytest.raises(LimitError, match="can't take a part out of"):
        plan_list([DeviceRule.parse("c 1:* rwm"), DeviceRule.parse("c 1:3 w", allow=False)])
