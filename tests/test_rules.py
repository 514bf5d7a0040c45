"""Each rule of docs/rules has a source and a test that shows the wrong way first; each goal has a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "docs" / "rules"
TESTS = ("impl/tests", "vm/tests", "tests")

HEADING = re.compile(r"^## (?P<id>[A-Z]\+?[0-9]+) (?P<title>.+)$", re.MULTILINE)


class Rule(NamedTuple):
    """One rule or goal, as its file has it."""

    id: str
    file: str
    text: str

    @property
    def is_goal(self) -> bool:
        """Whether it is something that none has yet, and so has no wrong way to show."""
        return "+" in self.id


class Named(NamedTuple):
    """One marker: the rule that it names, where, and whether the wrong way is shown."""

    id: str
    where: str
    shows_wrong: bool


def parse_rules(text: str, file: str) -> Iterator[Rule]:
    """Find the rules in the text of a file of docs/rules."""
    parts = HEADING.split(text)
    for position in range(1, len(parts), 3):
        yield Rule(parts[position], file, parts[position + 2])


def parse_markers(text: str, file: str) -> Iterator[Named]:
    """Find the markers `pytest.mark.rule("…", …)` in the text of a test file."""
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule"):
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        for argument in node.args[:1]:
            assert isinstance(argument, ast.Constant), f"{file}:{node.lineno}: a rule is named by its id in quotes"
            yield Named(str(argument.value), f"{file}:{node.lineno}", {"ours", "wrong"} <= keywords)


def read_rules() -> list[Rule]:
    """Read all rules."""
    files = sorted(path for path in RULES.glob("*.md") if path.name != "README.md")
    return [rule for path in files for rule in parse_rules(path.read_text(encoding="utf-8"), path.name)]


def read_markers() -> list[Named]:
    """Read the markers of all tests."""
    files = sorted(path for folder in TESTS for path in (ROOT / folder).rglob("test_*.py"))
    return [
        named
        for path in files
        for named in parse_markers(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]


def list_untested(rules: list[Rule], markers: list[Named]) -> list[str]:
    """List the rules that no test holds as it should."""
    shown = {named.id for named in markers if named.shows_wrong}
    named = {named.id for named in markers}
    return [
        f"{rule.file}: {rule.id} has no test" + ("" if rule.is_goal else " that shows the wrong way")
        for rule in rules
        if rule.id not in (named if rule.is_goal else shown)
    ]


def test_every_rule_has_a_test() -> None:
    """No rule is without a test that fails against the wrong way, no goal without a test."""
    assert list_untested(read_rules(), read_markers()) == []


def test_every_rule_has_a_source() -> None:
    """Below each heading there is a paragraph that begins with its source."""
    assert [rule.id for rule in read_rules() if "\n\nSource: " not in rule.text] == []


def test_every_rule_is_numbered_once() -> None:
    """An id is used for one rule only."""
    ids = [rule.id for rule in read_rules()]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) > 10


def test_every_marker_names_a_rule() -> None:
    """A test does not name a rule that is not written down."""
    known = {rule.id for rule in read_rules()}
    assert [named for named in read_markers() if named.id not in known] == []


def test_the_check_sees_what_is_missing() -> None:
    """A rule with a marker that shows no wrong way is listed, a goal with one is not."""
    rules = list(parse_rules("# x\n\n## X1 One\n\nText.\n\n## X2 Two\n\n## X+1 Goal\n", "x.md"))
    both = '@pytest.mark.rule("X1", ours=1, wrong=2)\ndef a(): ...\n'
    none = '@pytest.mark.rule("X2")\n@pytest.mark.rule("X+1")\ndef b(): ...\n'
    markers = list(parse_markers(both + none, "test_x.py"))
    assert list_untested(rules, markers) == ["x.md: X2 has no test that shows the wrong way"]
