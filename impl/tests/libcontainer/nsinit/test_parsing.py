"""The parser: words to values by a table, in the forms that engines and people use; anything else is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.libcontainer.nsinit.commands import HIDDEN, VERBS, load
from kernelproof.impl.libcontainer.nsinit.options import FLAG, NUMBER, SIZE, TEXT, TEXTS, Command, Option, UsageError
from kernelproof.impl.libcontainer.nsinit.parsing import parse, parse_front

OPTIONS = (
    Option("--bundle -b", TEXT, "a text"),
    Option("--detach -d", FLAG, "a flag"),
    Option("--preserve-fds", NUMBER, "a number"),
    Option("--env -e", TEXTS, "several"),
    Option("--format", TEXT, "a choice", choices=("table", "json")),
)
ONE = Command("one operand", OPTIONS, ("ID",))
MAYBE = Command("an operand that may be absent", OPTIONS, ("ID", "[SIGNAL]"))
ORDER = Command("another command line behind it", OPTIONS, ("ID", "[COMMAND...]"), in_order=True)


@pytest.mark.parametrize(
    "words",
    [
        ["--bundle", "/b", "x"],
        ["--bundle=/b", "x"],
        ["-b", "/b", "x"],
        ["-b=/b", "x"],
        ["-bundle", "/b", "x"],
        ["x", "--bundle", "/b"],
        ["--bundle=/a", "--bundle", "/b", "x"],
        ["--bundle", "/b", "--", "x"],
    ],
    ids=" ".join,
)
def test_an_option_can_be_written_in_any_usual_form(words: list[str]) -> None:
    """With a blank or an equals sign, long or short, with one dash or two, before or behind the operand."""
    found = parse(ONE, words)
    assert (found.text("bundle"), found.operands) == ("/b", ["x"])


def test_flags_numbers_and_lists_have_their_types() -> None:
    """A flag is true, or what it is set to; a number is an int, negative too; a list keeps its order."""
    words = ["-d", "--preserve-fds", "-1", "-e", "A=1", "--env=B=2=3", "--format=json", "x"]
    found = parse(ONE, words)
    assert found.flag("detach")
    assert found.number("preserve-fds") == -1
    assert found.texts("env") == ["A=1", "B=2=3"]
    assert found.text("format") == "json"
    assert not parse(ONE, ["--detach=false", "x"]).flag("detach")


def test_what_is_not_given_has_a_default() -> None:
    """Absent options are empty, and known to be absent."""
    found = parse(ONE, ["x"])
    assert (found.text("bundle", "."), found.number("preserve-fds"), found.texts("env")) == (".", 0, [])
    assert not found.flag("detach")
    assert not found.has("bundle")


def test_two_dashes_end_the_options() -> None:
    """Behind -- even what begins with a dash is an operand: an ID may."""
    assert parse(ONE, ["--", "-b"]).operands == ["-b"]
    assert parse(ONE, ["-"]).operands == ["-"]


@pytest.mark.parametrize(
    "words",
    [["x", "ls", "-d", "--all"], ["x", "--", "ls", "-d", "--all"], ["--", "x", "ls", "-d", "--all"]],
    ids=" ".join,
)
def test_options_of_another_command_line_are_left_alone(words: list[str]) -> None:
    """exec's own options end at the ID; what follows is the program's."""
    found = parse(ORDER, words)
    assert found.operands == ["x", "ls", "-d", "--all"]
    assert not found.flag("detach")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--nothing"], "unknown option --nothing"),
        (["x", "--bundel", "y"], "unknown option --bundel; did you mean --bundle?"),
        (["x", "---bundle", "y"], "unknown option ---bundle"),
        (["x", "--nothing=1"], "unknown option --nothing"),
        (["x", "--bundle"], "--bundle needs a value"),
        (["x", "--detach=maybe"], "true or false"),
        (["x", "--preserve-fds", "two"], "--preserve-fds 'two': an integer is needed"),
        (["x", "--preserve-fds", "9" * 30], "an integer is needed"),
        (["x", "--preserve-fds", "\u0663"], "an integer is needed"),
        (["x", "--format", "xml"], "one of table, json is needed"),
        ([], "ID is missing"),
        (["x", "y"], "unexpected word 'y'"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else None,
)
def test_what_is_not_understood_is_refused(words: list[str], said: str) -> None:
    """Unknown options, missing and wrong values, operands too few or too many: one sentence that says which."""
    with pytest.raises(UsageError) as caught:
        parse(ONE, words)
    assert said in str(caught.value)


def test_an_operand_may_be_absent() -> None:
    """Operands in brackets need not be there, but no more than them."""
    assert parse(MAYBE, ["x"]).operands == ["x"]
    assert parse(MAYBE, ["x", "9"]).operands == ["x", "9"]
    with pytest.raises(UsageError, match="unexpected word"):
        parse(MAYBE, ["x", "9", "y"])


def test_global_options_end_at_the_subcommand() -> None:
    """What stands behind the first word is not looked at."""
    found, rest = parse_front(ONE, ["--bundle", "/b", "create", "--no-such", "x"])
    assert (found.text("bundle"), rest) == ("/b", ["create", "--no-such", "x"])


@given(
    st.lists(
        st.text("-=xb ", max_size=5) | st.sampled_from(["--bundle", "-d", "--", "-", "--env=", "--preserve-fds", "x"]),
        max_size=8,
    )
)
def test_any_words_are_understood_or_refused(words: list[str]) -> None:
    """No words lead to another error than UsageError."""
    for command in (ONE, MAYBE, ORDER):
        try:
            found = parse(command, words)
        except UsageError:
            continue
        assert all(operand in words for operand in found.operands)


@pytest.mark.parametrize("name", [*VERBS, *HIDDEN])
def test_every_subcommand_has_a_sound_table(name: str) -> None:
    """Each has a summary, a function, options with texts and names that are there once."""
    command = load(name)
    assert command.summary
    assert not command.summary.endswith(".")
    assert command.run is not None
    names = [name for option in command.options for name in option.names]
    assert len(names) == len(set(names))
    assert not {"-h", "--help"} & set(names)
    for option in command.options:
        assert option.names[0].startswith("--")
        assert option.text
        assert option.kind in (FLAG, TEXT, NUMBER, SIZE, TEXTS)


def test_sizes() -> None:
    """Bytes, or with a unit of 1024, in any case, with B or iB behind it; -1 stays; anything else is refused."""
    command = Command("x", (Option("--memory", SIZE, "x"),), ())
    for text, bytes_ in (
        ("7", 7), ("7b", 7), ("64m", 64 << 20), ("64MB", 64 << 20), ("64MiB", 64 << 20), ("1G", 1 << 30), ("-1", -1),
        ("0", 0), ("2p", 2 << 50),
    ):  # fmt: skip
        assert parse(command, ["--memory", text]).number("memory") == bytes_
    for text in ("", "m", "1.5g", "64mm", "64i", "64ibm", "1e3", "64x", "\u0663m", "6 4"):
        with pytest.raises(UsageError, match="bytes are needed, such as 67108864 or 64m"):
            parse(command, ["--memory", text])
