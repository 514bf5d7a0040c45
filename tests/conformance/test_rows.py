"""Tables of statements: one test whose rows are tied to a statement each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof.conformance.report.suite_sources import find_tests

if TYPE_CHECKING:
    from conftest import Project

TABLE = """from kernelproof import behaviour_row
@pytest.mark.parametrize(
    ("word", "is_so"),
    [
        behaviour_row("a.b.one", "one", True),
        behaviour_row("a.b.two", "two", False),
    ],
)
def test_words(word, is_so):
    assert is_so
"""


def test_each_row_is_a_statement(project: Project) -> None:
    """Each row has its statement's outcome, and the last word of the id in its node."""
    project.entry("a.b.one")
    project.entry("a.b.two")
    project.tests(TABLE)
    project.run().assert_outcomes(passed=1, failed=1)
    rows = {row["behaviour"]: (row["node"].rpartition("::")[2], row["outcome"]) for row in project.results()["results"]}
    assert rows == {"a.b.one": ("test_words[one]", "pass"), "a.b.two": ("test_words[two]", "fail")}


def test_row_of_a_statement_that_is_unknown(project: Project) -> None:
    """A row whose statement the catalogue lacks ends the collection, as a decorator's does."""
    project.entry("a.b.one")
    project.tests(TABLE)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_words: no statement 'a.b.two'*"])


def test_report_finds_the_table_of_a_statement() -> None:
    """The report shows a row's whole test, once for each statement, however the rows are made."""
    found = dict(find_tests(TABLE, "test_demo.py"))
    assert found.keys() == {"a.b.one", "a.b.two"}
    assert found["a.b.one"].text.startswith("@pytest.mark.parametrize(")
    assert found["a.b.one"].text.endswith("assert is_so")
    marks = TABLE.replace('behaviour_row("a.b.two", "two", False)', 'pytest.param(1, 2, marks=behaviour("a.b.one"))')
    assert [name for name, _ in find_tests(marks, "test_demo.py")] == ["a.b.one"]
