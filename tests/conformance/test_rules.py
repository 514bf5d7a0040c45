"""What fails a collection: a suite that breaks the catalogue's rules runs nothing, and says all that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

TEST = "@behaviour('a.b.c')\ndef test_it(): pass\n"


def refused(project: Project, *lines: str) -> None:
    result = project.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(lines)
    assert not (project.path / "results").exists()


def test_id_without_entry(project: Project) -> None:
    """A test for an id that does not exist fails the collection, with the place of the test."""
    project.entry("a.b.other")
    project.tests(TEST)
    refused(project, "conformance/test_demo.py:3: test_it: no statement 'a.b.c' in *; add it with its source*")


def test_test_without_behaviour(project: Project) -> None:
    """A test beside the catalogue that ties itself to no statement fails the collection."""
    project.entry("a.b.c")
    project.tests(TEST + "def test_more(): pass\n")
    refused(project, "conformance/test_demo.py:5: test_more has no @behaviour; tie it to a statement or move it*")


def test_test_elsewhere_is_free(project: Project) -> None:
    """Tests outside the catalogue's parent folder need no statement and run as ever."""
    project.entry("a.b.c")
    project.tests(TEST)
    project.tests("def test_free(): pass\n", name="test_other.py")
    project.run().assert_outcomes(passed=2)
    assert len(project.results()["results"]) == 1


def test_two_tests_for_one_id(project: Project) -> None:
    """A second test for a statement fails the collection, with both places."""
    project.entry("a.b.c")
    project.tests(TEST + "@behaviour('a.b.c', subject='stand-in')\ndef test_again(): pass\n")
    refused(project, "*test_demo.py:5: test_again: a.b.c has a test at *test_demo.py:3: test_it already; *split*")


def test_parametrised_is_one_test(project: Project) -> None:
    """A parametrised test is one test of its statement; its rows are one an item."""
    project.entry("a.b.c")
    project.tests("@pytest.mark.parametrize('x', [1, 2])\n@behaviour('a.b.c')\ndef test_it(x): assert x == 1\n")
    project.run().assert_outcomes(passed=1, failed=1)
    assert [row["outcome"] for row in project.results()["results"]] == ["pass", "fail"]


def test_one_more_for_each_peer(project: Project) -> None:
    """A peer may be asked about a statement that has its test; two tests of one peer are refused."""
    project.entry("a.b.c")
    peer = "@behaviour('a.b.c', subject='runc')\ndef test_runc{}(): pass\n"
    project.tests(TEST + peer.format(""))
    project.run().assert_outcomes(passed=2)
    project.tests(TEST + peer.format("") + peer.format("_again"))
    assert project.run().ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("decorator", "complaint"),
    [
        ("@pytest.mark.behaviour", "takes one id"),
        ("@pytest.mark.behaviour('a.b.c', 'x')", "takes one id"),
        ("@pytest.mark.behaviour('a.b.c', who='x')", "takes one id"),
        ("@behaviour(7)", "takes one id"),
        ("@behaviour('a.b.c', subject='Run C')", "subject='Run C' is neither impl nor stand-in nor a peer's name"),
        ("@behaviour('a.b.c')\n@behaviour('a.b.d')", "names a.b.c and a.b.d; one test proves one statement"),
    ],
)
def test_malformed_marker(project: Project, decorator: str, complaint: str) -> None:
    """A marker with other arguments than an id and a subject fails the collection."""
    project.entry("a.b.c")
    project.tests(f"{decorator}\ndef test_it(): pass\n")
    refused(project, f"*test_it: *{complaint}*")


def test_malformed_entries(project: Project) -> None:
    """Malformed entries fail the collection, all of them at once, though their tests are not selected."""
    project.entry("a.b.c")
    project.toml("[[behaviour]]\nid = 'a.b.d'\nstatement = 'So.'\nkernels = 'all'\n")
    project.entry("a.b.c")
    project.tests(TEST)
    refused(
        project,
        "conformance/behaviours/demo.toml:6: a.b.d: has no source*",
        "*demo.toml:6: a.b.d: kernels 'all' is not a range*",
        "*demo.toml:10: a.b.c is already at *demo.toml:1; give one of them another id",
    )


def test_no_catalogue(project: Project) -> None:
    """A behaviour without a catalogue above it fails the collection with what to make."""
    (project.path / "conformance/behaviours").rmdir()
    project.tests(TEST)
    refused(project, "*no folder behaviours/ with *.toml lies above the test; make it or set behaviours_path")


def test_catalogue_named_by_ini(project: Project) -> None:
    """The ini option names the catalogue, wherever the tests are; a folder that is not there is told."""
    project.toml("[[behaviour]]\nid = 'a.b.c'\nstatement = 'So.'\nsource = 'doc'\n")
    (project.path / "conformance/behaviours").rename(project.path / "statements")
    project.tests(TEST)
    project.run("-o", "behaviours_path=statements").assert_outcomes(passed=1)
    result = project.run("-o", "behaviours_path=nowhere")
    result.stdout.fnmatch_lines(["behaviours_path: *nowhere is no folder; correct the ini option"])


def test_ini_holds_the_rule_without_a_behaviour(project: Project) -> None:
    """Where the ini option names the catalogue, a file without any @behaviour beside it is refused too."""
    project.entry("a.b.c")
    project.tests("def test_it(): pass\n")
    result = project.run("-o", "behaviours_path=conformance/behaviours")
    result.stdout.fnmatch_lines(["*test_it has no @behaviour*"])


def test_foreign_project_is_left_alone(project: Project) -> None:
    """A project that has a folder `behaviours` of its own and no @behaviour runs as without the plugin."""
    project.toml("anything = true\n")
    project.tests("def test_it(): pass\n")
    project.run().assert_outcomes(passed=1)


def test_catalogue_in_the_root_folder(project: Project) -> None:
    """A catalogue in the root folder serves its behaviours and asks nothing of the other tests."""
    project.entry("a.b.c")
    (project.path / "conformance/behaviours").rename(project.path / "behaviours")
    project.tests(TEST + "def test_plain(): pass\n")
    project.run().assert_outcomes(passed=2)


def test_own_machine_marker_wins(project: Project) -> None:
    """The profile follows from the needs, unless the test names one."""
    project.entry("a.b.c", "needs = ['block-device']")
    project.entry("a.b.d", "needs = ['block-device', 'libsystemd']")
    own = "@pytest.mark.machine(profile='mine')\n@behaviour('a.b.d')\ndef test_own(): pass\n"
    project.tests(TEST + own)
    project.run()
    assert [row["profile"] for row in project.results()["results"]] == ["disk", "mine"]


def test_needs_of_two_profiles(project: Project) -> None:
    """Needs that point to two profiles fail the collection, with the marker that settles it."""
    project.entry("a.b.c", "needs = ['block-device', 'libsystemd']")
    project.tests(TEST)
    refused(project, "*a.b.c: needs point to the profiles disk and systemd; name one with @pytest.mark.machine(*")


def test_nothing_runs_in_a_refused_suite(project: Project) -> None:
    """No test of a suite that breaks its rules runs, though pytest is told to go on after errors of collection."""
    project.entry("a.b.other")
    project.tests("@behaviour('a.b.other')\ndef test_good(): pass\n" + TEST)
    project.run("--continue-on-collection-errors").assert_outcomes(errors=1)


def test_refused_under_xdist(project: Project) -> None:
    """With workers the same sentence ends the run."""
    project.entry("a.b.other")
    project.tests(TEST)
    result = project.run_apart("-p", "xdist", "-n", "2")
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    result.stdout.fnmatch_lines(["*test_it: no statement 'a.b.c' in *"])
