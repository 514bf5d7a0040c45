"""TAP and KTAP, as programs print them and as a guest that means ill could."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm import tap
from kernelproof.vm.tap import Result, TapReader

# Documentation/dev-tools/ktap.rst describes this form: subtests two spaces in, each with a version line of its own.
NESTED = """\
KTAP version 1
1..2
  KTAP version 1
  1..3
    KTAP version 1
    1..2
    # prepares something
    ok 1 first
    not ok 2 second # it was so
  not ok 1 group_a
    KTAP version 1
    1..2
    ok 1 first # SKIP no such device
    ok 2 second
  ok 2 group_b
  ok 3 alone
not ok 1 suite
random words of the kernel
  and indented ones: ok 7 is no result
ok 2 last
"""


def read(text: str, piece: int = 0) -> list[Result]:
    reader, data = TapReader(), text.encode()
    for start in range(0, len(data), piece or len(data) or 1):
        reader.feed(data[start : start + (piece or len(data))])
    return list(reader.finish())


def told(text: str) -> list[tuple[str, bool, str, str]]:
    return [("/".join(result.path), result.ok, result.directive, result.reason) for result in read(text)]


@pytest.mark.parametrize("piece", [0, 1, 7])
def test_nested_subtests(piece: int) -> None:
    """Subtests count in place of their parents, under their names, however the output is cut."""
    assert [("/".join(result.path), result.failed, result.directive) for result in read(NESTED, piece)] == [
        ("suite/group_a/first", False, ""),
        ("suite/group_a/second", True, ""),
        ("suite/group_b/first", False, "SKIP"),
        ("suite/group_b/second", False, ""),
        ("suite/alone", False, ""),
        ("last", False, ""),
    ]
    assert read(NESTED)[0].diagnostics == "prepares something"
    assert read(NESTED)[1].reason == "it was so"


def test_kernel_log() -> None:
    """KTAP in a kernel log, with levels and time stamps, four spaces a level, and other messages in between."""
    text = """\
<6>[    0.512345] KTAP version 1
[    0.512399] 1..1
[    0.512400][    T1]     KTAP version 1
[    0.512401][    T1]     # Subtest: example
[    0.512402][    T1]     # module: example_test
[    0.512403][    T1]     1..2
[    0.512404][    T1]     ok 1 example_add
[    0.512999] clocksource: tsc: mask: 0xffffffffffffffff
[    0.513404][    T1]     not ok 2 example_sub
[    0.513500][    T1] # example: pass:1 fail:1 skip:0 total:2
[    0.513501][    T1] not ok 1 example
"""
    assert [("/".join(result.path), result.ok) for result in read(text)] == [
        ("example/example_add", True),
        ("example/example_sub", False),
    ]


@pytest.mark.parametrize(
    ("line", "directive", "failed"),
    [
        ("ok 1 - name", "", False),
        ("not ok 1 name", "", True),
        ("ok 1 name # SKIP why", "SKIP", False),
        ("not ok 1 name # skip why", "SKIP", False),
        ("ok 1 name # Skipped: why", "SKIP", False),
        ("not ok 1 name # TODO why", "TODO", False),
        ("ok 1 name # XFAIL why", "XFAIL", False),
        ("not ok 1 name # XFAIL why", "XFAIL", False),
        ("not ok 1 name # TIMEOUT why", "TIMEOUT", True),
        ("not ok 1 name # ERROR why", "ERROR", True),
        ("not ok 1 name # UNHEARD why", "", True),
        ("ok 1 name # rcode=0", "", False),
    ],
)
def test_directives(line: str, directive: str, failed: bool) -> None:
    """Each directive is told, and excuses a failure or does not; an unknown one leaves ok and not ok as they are."""
    [result] = read(f"TAP version 13\n1..1\n{line}\n")
    assert (result.path, result.directive, result.failed) == (("name",), directive, failed)
    assert result.reason.endswith(("why", "rcode=0")) == ("#" in line)


def test_names() -> None:
    """A result may lack its number or its name; an escaped hash sign belongs to the name."""
    text = "1..4\nok\nok 2\nok a \\# b # SKIP\nok 4 # TODO c\n"
    assert [result.path[0] for result in read(text)] == ["test 1", "test 2", "a # b", "test 4"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TAP version 13\n1..3\nok 1\nok 2\n", ("plan", "3 planned, 2 came")),
        ("TAP version 13\n1..1\nok 1\nok 2\n", ("plan", "1 planned, 2 came")),
        ("TAP version 13\nok 1\nok 2\n", ("plan", "none came, after 2 results")),
        ("TAP version 13\n", ("plan", "neither a plan nor a result came")),
        ("TAP version 13\n1..2\nok 1\nok 1\n", ("numbers", "results are not numbered one after another")),
        ("TAP version 13\n1..2\n1..2\nok 1\nok 2\n", ("plan", "a second plan: 1..2 after 1..2")),
        ("TAP version 13\n1..2\nok 1\nok 2\nBail out! disc on fire\n", ("bail out", "disc on fire")),
        ("Bail out!\n", ("bail out", "no reason given")),
        ("KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 a\nok 1 b\n", ("b/plan", "2 planned, 1 came")),
    ],
    ids=["few", "many", "no-plan", "nothing", "numbers", "plans", "bail-out", "bail-out-first", "subtests"],
)
def test_what_does_not_hold_together(text: str, problem: tuple[str, str]) -> None:
    """What was planned and did not come, and what came in another way, is an ERROR of its own."""
    errors = [("/".join(result.path), result.reason) for result in read(text) if result.directive == "ERROR"]
    assert errors == [problem]


def test_plan_at_the_end() -> None:
    """A plan may come behind the results."""
    assert told("TAP version 13\nok 1 a\nok 2 b\n1..2\n") == [("a", True, "", ""), ("b", True, "", "")]


def test_ktap_without_plan() -> None:
    """KTAP may leave the plan out where nobody knows the number."""
    assert told("KTAP version 1\nok 1 a\n") == [("a", True, "", "")]


def test_skipped_altogether() -> None:
    """A plan of nothing is one skip with its reason."""
    assert told("1..0 # SKIP needs root\n") == [("all", True, "SKIP", "needs root")]
    assert told("TAP version 13\n1..0\n") == [("all", True, "SKIP", "nothing to do")]


def test_nothing_after_a_bail_out() -> None:
    """What comes after it is not read; the plan that was not kept is told."""
    text = "TAP version 13\n1..3\nok 1 a\nBail out! x\nok 2 b\n"
    assert [row[0] for row in told(text)] == ["a", "plan", "bail out"]


def test_parent_that_fails_alone() -> None:
    """A parent that failed though no subtest did is a failure of its own."""
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 b # exit=2\n"
    assert told(text) == [("b/a", True, "", ""), ("b", False, "", "exit=2")]


def test_subtests_that_break_off() -> None:
    """Subtests whose parent never came are kept, and both plans are told as broken."""
    text = "TAP version 14\n1..1\n    # Subtest: b\n    1..2\n    ok 1 a\n"
    assert [row[0] for row in told(text)] == ["b/a", "b/plan", "plan"]


def test_several_programs() -> None:
    """Output of one program behind that of another is read as both."""
    text = "TAP version 13\n1..1\nok 1 a\n" * 2 + "TAP version 13\n1..2\nok 1 b\n"
    assert [row[0] for row in told(text)] == ["a", "a", "b", "plan"]


def test_yaml() -> None:
    """A YAML block is passed over, whatever it holds, and one that does not end does not hide what follows."""
    text = "TAP version 13\n1..2\nnot ok 1 a\n  ---\n  1..5\n  ok 3 no\n  ...\nnot ok 2 b\n  ---\n  x: 1\n"
    assert [row[0] for row in told(text)] == ["a", "b"]
    assert [row[0] for row in told("1..2\nok 1 a\n  ---\n  x: 1\nok 2 b\n")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "announced"),
    [
        ("TAP version 13\n", True),
        ("starting\nKTAP version 1\n", True),
        ("# about\n1..2\n", True),
        ("starting\n1..2\n", False),
        ("ok\n", False),
        ("ok computer\n", False),
        ("", False),
    ],
)
def test_is_it_tap(text: str, announced: bool) -> None:
    """Output is taken for TAP by its version line, or by a plan before anything else."""
    reader = TapReader()
    reader.feed(text.encode())
    assert reader.announced is announced


def test_words_are_safe() -> None:
    """Names and reasons can do nothing to a terminal."""
    [result] = read("1..1\nnot ok 1 a\x1b[2J\x07 # ERROR \x1b]0;x\x07\n")
    assert "\x1b" not in result.path[0] + result.reason
    assert result.path == ("a\\x1b[2J\\x07",)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless lines, endless results and endless depth end somewhere, and that is told."""
    [result] = read("1..1\nok 1 " + "x" * 10_000_000 + "\n")
    assert len(result.path[0]) == tap.MAX_NAME
    deep = "".join(f"{'  ' * depth}KTAP version 1\n" for depth in range(1000))
    read(deep)
    monkeypatch.setattr(tap, "MAX_RESULTS", 10)
    results = read("TAP version 13\n1..100\n" + "".join(f"ok {number}\n" for number in range(1, 101)))
    assert len(results) == 11
    assert results[-1].reason == "more than 10; the rest is not kept"


LINES = [*NESTED.splitlines(keepends=True), "1..0\n", "  ---\n", "Bail out!\n", "ok\r", "\0"]


@given(st.lists(st.sampled_from(LINES)))
def test_any_order_of_lines(lines: list[str]) -> None:
    """No order of lines makes it fail, and cutting the text elsewhere changes nothing."""
    text = "".join(lines)
    assert read(text) == read(text, 3)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Any bytes are read."""
    reader = TapReader()
    reader.feed(data)
    assert all(text.isprintable() for result in reader.finish() for text in result.path)
