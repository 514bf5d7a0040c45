"""The five outcomes: how a test in a machine comes to each, in pytest's words and in the results file."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from conftest import Project

ONE = "@behaviour('a.b.c')\ndef test_it({arguments}):\n    {body}\n"


def one(body: str, arguments: str = "") -> str:
    return ONE.format(body=body, arguments=arguments)


def test_pass(project: Project) -> None:
    """A test that passes is a pass, with its machine and times, and without a reason."""
    project.entry("a.b.c")
    project.tests(one("assert seen(6 * 7) == 42", "seen"))
    project.run().assert_outcomes(passed=1)
    assert project.row() == {
        "behaviour": "a.b.c",
        "node": "conformance/test_demo.py::test_it",
        "profile": "plain",
        "subject": "impl",
        "outcome": "pass",
        "clone": "00112233445566778899aabbccddeeff",
        "wall_seconds": 0.25,
        "guest_seconds": 0.001,
        "reason": None,
        "seen": 42,
        "log": None,
    }


def test_fail(project: Project) -> None:
    """A failing assertion is a fail; its message is the reason."""
    project.entry("a.b.c")
    project.tests(one("assert seen('EPERM') == 'EINVAL'", "seen"))
    project.run().assert_outcomes(failed=1)
    row = project.row()
    assert row["outcome"] == "fail"
    assert row["seen"] == "EPERM"
    assert "EINVAL" in row["reason"]


def test_failing_fixture_is_broken(project: Project) -> None:
    """A failing fixture is an error to pytest and broken in the results, never a fail."""
    project.entry("a.b.c")
    project.tests("@pytest.fixture\ndef thing():\n    assert False, 'no thing'\n" + one("pass", "thing"))
    project.run().assert_outcomes(errors=1)
    assert project.row()["outcome"] == "broken"
    assert "no thing" in project.row()["reason"]


def test_failing_teardown_is_broken(project: Project) -> None:
    """A failing teardown is broken, though the test itself passed."""
    project.entry("a.b.c")
    project.tests("@pytest.fixture\ndef thing():\n    yield\n    assert False, 'leak'\n" + one("pass", "thing"))
    project.run().assert_outcomes(passed=1, errors=1)
    assert project.row()["outcome"] == "broken"


def test_broken_hides_fail(project: Project) -> None:
    """A test that fails and whose teardown fails is broken: the worst of its phases."""
    project.entry("a.b.c")
    project.tests("@pytest.fixture\ndef thing():\n    yield\n    assert False, 'leak'\n" + one("assert 0", "thing"))
    project.run()
    assert project.row()["outcome"] == "broken"
    assert "leak" in project.row()["reason"]


def test_lost_machine_is_broken(project: Project, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """An item whose machine is lost is broken and has the kernel's log."""
    monkeypatch.setenv("FAKE_LOST", "test_it")
    project.entry("a.b.c")
    project.tests(one("pass"))
    project.run().assert_outcomes(errors=1)
    row = project.row()
    assert (row["outcome"], row["clone"], row["guest_seconds"]) == ("broken", None, None)
    assert row["log"] == "Kernel panic - not syncing: fake"


def test_absent_kernel_need_is_not_applicable(project: Project) -> None:
    """A kernel need that is absent makes the statement not applicable, with the probe's reason."""
    project.entry("a.b.c", 'needs = ["cgroup-v1:no_such_controller"]')
    project.tests(one("raise AssertionError('it ran')"))
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*not applicable: *"])
    row = project.row()
    assert row["outcome"] == "not_applicable"
    assert "cgroup" in row["reason"] or "version 1" in row["reason"]


def test_absent_machine_need_is_broken(project: Project) -> None:
    """A machine need that is absent makes the test broken, with a remedy."""
    project.entry("a.b.c", 'needs = ["command:no-such-command"]')
    project.tests(one("raise AssertionError('it ran')"))
    project.run().assert_outcomes(errors=1)
    row = project.row()
    assert row["outcome"] == "broken"
    assert "there is no command no-such-command; choose a profile" in row["reason"]


def test_skip_is_broken(project: Project) -> None:
    """A behaviour that skips itself, in whatever way, is broken with the remedy; it is no outcome of a statement."""
    ways = {
        "call": one("pytest.skip('not here')"),
        "fixture": "@pytest.fixture\ndef thing():\n    pytest.skip('not here')\n" + one("pass", "thing"),
        "mark": "@pytest.mark.skip(reason='not here')\n" + one("pass"),
        "condition": "@pytest.mark.skipif(True, reason='not here')\n" + one("pass"),
        "xfail": "@pytest.mark.xfail(reason='not here')\n" + one("assert 0"),
        "unexpected pass": "@pytest.mark.xfail(reason='not here')\n" + one("pass"),
        "imperative xfail": one("pytest.xfail('not here')"),
        "import": one("pytest.importorskip('no_such_module_at_all')"),
    }
    project.entry("a.b.c")
    for name, text in ways.items():
        project.tests(text)
        result = project.run()
        result.assert_outcomes(errors=1)
        assert project.row()["outcome"] == "broken", name
        assert "needs or kernels" in project.row()["reason"], name


def test_outcomes_in_junit(project: Project) -> None:
    """JUnit has fail as failure, broken as error, not applicable as skipped, and a deviation as a property."""
    project.entry("a.b.pass")
    project.entry("a.b.fail")
    project.entry("a.b.broken")
    project.entry("a.b.absent", 'needs = ["pidfs"]')
    deviation = "kernels = '6.12'\nseen = 1\nwitness = 'w.py'\nreason = 'since ever'"
    project.entry("a.b.other", f"[[behaviour.deviations]]\n{deviation}")
    (project.path / "conformance/w.py").write_text("print(1)")
    project.tests(
        "from kernelproof.conformance.needs import Probes\nProbes.pidfs = lambda *_: 'no pidfs'\n"
        "from kernelproof.conformance import needs\nneeds._PROBES['pidfs'] = Probes.pidfs\n"
        "@behaviour('a.b.pass')\ndef test_pass(): pass\n"
        "@behaviour('a.b.fail')\ndef test_fail(): assert 0\n"
        "@behaviour('a.b.broken')\ndef test_broken(): pytest.skip()\n"
        "@behaviour('a.b.absent')\ndef test_absent(): pass\n"
        "@behaviour('a.b.other')\ndef test_other(seen): assert seen(1) == 2\n"
    )
    project.run("--junitxml=junit.xml")
    cases = {
        case.get("name"): [child.tag for child in case if child.tag != "properties"]
        for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")
    }
    assert cases == {
        "test_pass": [],
        "test_fail": ["failure"],
        "test_broken": ["error"],
        "test_absent": ["skipped"],
        "test_other": [],
    }
    properties = [
        (element.get("name"), element.get("value"))
        for element in ElementTree.parse(project.path / "junit.xml").iter("property")
        if element.get("name") == "deviation"
    ]
    assert properties == [("deviation", "1: since ever")]
    assert {row["behaviour"]: row["outcome"] for row in project.results()["results"]} == {
        "a.b.absent": "not_applicable",
        "a.b.broken": "broken",
        "a.b.fail": "fail",
        "a.b.other": "deviation",
        "a.b.pass": "pass",
    }


def test_no_kernel_no_row(project: Project) -> None:
    """Without the machines' plugin a behaviour is skipped with that reason; it never runs on the host."""
    project.entry("a.b.c")
    project.tests(one("raise AssertionError('on the host')"))
    result = project.run_without_machines("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*choose a kernel*"])
    assert not (project.path / "results").exists()


def test_host_that_knows_nothing_is_broken(project: Project) -> None:
    """A behaviour about which the host sent nothing is broken: its needs and deviations are unknown."""
    project.entry("a.b.c")
    project.tests(one("pass"))
    (project.path / "conftest.py").write_text(
        "import pytest, fake_machines\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_configure(config):\n"
        "    fake_machines.Guest.__init__ = lambda self, data: vars(self).update(reports=[], _data={})\n"
    )
    project.run_apart().assert_outcomes(errors=1)
