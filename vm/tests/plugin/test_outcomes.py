"""Items in machines end, for whoever reads pytest's output, as they would on the host."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

OUTCOMES = """
    import pytest
    pytestmark = pytest.mark.machine

    def test_pass(): pass
    def test_fail(): assert [1, 2] == [1, 3]
    def test_skip(): pytest.skip("not today")
    @pytest.mark.xfail(reason="known")
    def test_xfail(): assert False
    @pytest.mark.xfail
    def test_xpass(): pass
    @pytest.fixture
    def bad(): raise OSError("no luck")
    def test_error(bad): pass
    @pytest.fixture
    def late():
        yield
        raise OSError("late")
    def test_late(late): pass
"""


def test_outcomes(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Pass, fail, skip, xfail, xpass and a failing fixture are what pytest calls them; each ran in its own machine."""
    pytester.makepyfile(OUTCOMES)
    result = run("-rs", "-v")
    result.assert_outcomes(passed=2, failed=1, skipped=1, xfailed=1, xpassed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*test_fail FAILED*", "*At index 1 diff: 2 != 3*", "test_outcomes.py:5: AssertionError"]
    )
    result.stdout.fnmatch_lines(["SKIPPED [[]1] test_outcomes.py:6: not today"])
    (machines,) = local.provider.opened.values()
    assert machines.clones == 7
    assert machines.closed


def test_exit_status_of_success(pytester: pytest.Pytester, run: Run) -> None:
    """Where all passes, pytest's exit status is 0, and the header said kernel, accelerator and time."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_pass(): pass")
    result = run()
    result.stdout.fnmatch_lines(["kernelproof: kernel 6.12", "kernelproof: 6.12.0-local, *none, virtual time*"])
    assert result.ret == pytest.ExitCode.OK


def test_junit(pytester: pytest.Pytester, run: Run) -> None:
    """The JUnit file has pass, failure, skip and error where they belong."""
    pytester.makepyfile(OUTCOMES)
    run("--junitxml", "out.xml")
    cases = {case.attrib["name"]: [child.tag for child in case] for case in _junit(pytester).iter("testcase")}
    properties = {"properties"}
    assert {name: set(tags) - properties for name, tags in cases.items()} == {
        "test_pass": set(),
        "test_fail": {"failure"},
        "test_skip": {"skipped"},
        "test_xfail": {"skipped"},
        "test_xpass": set(),
        "test_error": {"error"},
        "test_late": {"error"},
    }


def _junit(pytester: pytest.Pytester) -> ElementTree.Element:
    return ElementTree.parse(pytester.path / "out.xml").getroot()


def test_parameters_and_fixtures_of_every_scope(pytester: pytest.Pytester, run: Run) -> None:
    """Parametrised items run each with its value; a fixture of any scope is set up anew for each of them."""
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.machine
        made = []

        @pytest.fixture(scope="session")
        def wide(): made.append("session")
        @pytest.fixture(scope="module")
        def middle(wide): made.append("module")
        @pytest.fixture(scope="class", autouse=True)
        def narrow(middle): made.append("class")

        @pytest.mark.parametrize("number", [1, 2, 3], ids=["one", "t::wo", "[three]"])
        def test_value(number, tmp_path, monkeypatch):
            assert 0 < number < 4 and made == ["session", "module", "class"]
            assert tmp_path.is_dir()
        """
    )
    result = run("-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::test_value[[]one] PASSED*", "*::test_value[[]t::wo] PASSED*"])


@pytest.mark.parametrize(
    ("arguments", "passed", "failed", "clones"),
    [
        (("-k", "pass"), 1, 0, 1),
        (("-m", "slow"), 1, 0, 1),
        (("-x",), 0, 1, 1),
        (("--maxfail=2",), 1, 2, 3),
        (("test_selected.py::test_pass",), 1, 0, 1),
        (("--deselect", "test_selected.py::test_fail"), 2, 0, 2),
    ],
)
def test_selecting_and_stopping(
    arguments: tuple[str, ...],
    passed: int,
    failed: int,
    clones: int,
    pytester: pytest.Pytester,
    local: LocalPlugin,
    run: Run,
) -> None:
    """-k, -m, node ids, --deselect, -x and --maxfail mean what they always mean, and make no machine too many."""
    pytester.makepyfile(
        test_selected="""
        import pytest
        pytestmark = pytest.mark.machine

        def test_fail(): assert 0
        def test_pass(): pass
        def test_fail_too(): assert 0
        @pytest.mark.slow
        def test_slow(): pass
        """
    )
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = "-p no:cacheprovider"\nmarkers = ["slow"]\n')
    run(*arguments).assert_outcomes(passed=passed, failed=failed)
    assert sum(machines.clones for machines in local.provider.opened.values()) == clones


def test_options_that_shape_the_guest(pytester: pytest.Pytester, run: Run) -> None:
    """-l, --tb, -W, -o, and options and ini names of the project's own conftest reach the guest."""
    pytester.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption("--colour", default="red")
            parser.addini("shape", "of things", default="round")
        """
    )
    pytester.makepyfile(
        """
        import pytest, warnings
        pytestmark = pytest.mark.machine

        def test_option(pytestconfig):
            assert pytestconfig.getoption("colour") == "blue"
            assert pytestconfig.getini("shape") == "square"
        def test_locals():
            local = 17 * 3
            assert not local
        def test_warning():
            warnings.warn("careful", RuntimeWarning)
        """
    )
    result = run("--colour", "blue", "-o", "shape=square", "-l", "--tb=short", "-W", "error::RuntimeWarning")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*local *= 51", "*RuntimeWarning: careful"])


def test_warnings_are_summarised(pytester: pytest.Pytester, run: Run) -> None:
    """A warning in a machine is in the host's summary; of a foreign class only the name is told."""
    pytester.makepyfile(
        """
        import pytest, warnings
        class Odd(UserWarning): pass

        @pytest.mark.machine
        def test_warning():
            warnings.warn("careful", RuntimeWarning)
            warnings.warn("peculiar", Odd)
        """
    )
    result = run()
    result.assert_outcomes(passed=1, warnings=2)
    result.stdout.fnmatch_lines(["*test_warnings_are_summarised.py:6: RuntimeWarning: careful"])
    result.stdout.fnmatch_lines(["*UserWarning: Odd: peculiar"])


def test_captured_output(pytester: pytest.Pytester, run: Run) -> None:
    """Output and log of a failing test are in its report, what would steer a terminal made visible."""
    pytester.makepyfile(
        r"""
        import logging, os, pytest

        @pytest.mark.machine
        def test_noisy():
            print("out \x1b[31mred")
            os.write(2, b"raw \xff bytes\n")
            logging.getLogger("x").warning("logged")
            assert False
        """
    )
    result = run()
    result.stdout.fnmatch_lines(
        ["*Captured stdout call*", "out *x1b[[]31mred", "*Captured stderr call*", "raw * bytes", "*Captured log call*"]
    )
    assert "\x1b[31m" not in result.stdout.str()


def test_no_capture(pytester: pytest.Pytester, run: Run) -> None:
    """Under -s what a test printed is printed, and is in no report."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_prints():\n    print('hello out'); assert 0")
    result = run("-s")
    result.stdout.fnmatch_lines(["*hello out*"])
    result.stdout.no_fnmatch_line("*Captured stdout*")


def test_subtests(pytester: pytest.Pytester, run: Run) -> None:
    """Each failing subtest is reported by itself."""
    pytest.importorskip("_pytest.subtests")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.machine
        def test_many(subtests):
            for number in range(3):
                with subtests.test("part", number=number):
                    assert number != 1
        """
    )
    result = run()
    result.stdout.fnmatch_lines(["*test_many [[]part] (number=*1*)*", "contains 1 failed subtest"])
    result.assert_outcomes(failed=2)


def test_durations_are_the_guests(pytester: pytest.Pytester, run: Run) -> None:
    """--durations lists what a test took in its machine."""
    pytester.makepyfile("import pytest, time\n@pytest.mark.machine\ndef test_slow(): time.sleep(0.3)")
    (line,) = [line for line in run("--durations=1").stdout.lines if line.endswith("test_slow")]
    seconds, call, _ = line.split()
    assert (float(seconds.removesuffix("s")) >= 0.3, call) == (True, "call")


def test_properties(pytester: pytest.Pytester, local: LocalPlugin) -> None:
    """Every report bears what is known of its machine; a guest can't write that."""
    pytester.makepyfile(
        """
        import pytest, random

        @pytest.mark.machine(time="real")
        def test_it(record_property):
            record_property("kernelproof", {"kernel": "made up"})
            record_property("drawn", random.random())
        """
    )
    found = [_properties(pytester, local) for _ in range(2)]
    facts, drawn = found[0]
    assert facts["kernel"] == "6.12"
    assert facts["time"] == "real"
    assert facts["lost"] is None
    assert isinstance(facts["clone"], str)
    assert len(facts["clone"]) == 32
    assert found[1][0]["clone"] != facts["clone"]
    assert found[1][1] == drawn, "random is seeded from the node id"
    assert local.facts[0]["machine"] == {"accelerator": "none", "time": "real", "cpus": 1, "qemu": "none"}


def _properties(pytester: pytest.Pytester, local: LocalPlugin) -> tuple[dict[str, object], object]:
    reports: list[pytest.TestReport] = []

    class Listener:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            reports.append(report)

    pytester.inline_run("--kernel", "6.12", plugins=[local, Listener()])
    assert [report.when for report in reports] == ["setup", "call", "teardown"]
    (own,) = (value for name, value in reports[1].user_properties if name == "kernelproof")
    (drawn,) = (value for name, value in reports[1].user_properties if name == "drawn")
    assert isinstance(own, dict)
    return own, drawn


def test_host_items_between(pytester: pytest.Pytester, run: Run) -> None:
    """Items that run on the host keep their fixtures right, whatever runs in machines between them."""
    pytester.makepyfile(
        test_one="""
        import pytest
        @pytest.fixture(scope="module")
        def thing():
            yield 1
            print("thing torn down")
        def test_here(thing): pass
        @pytest.mark.machine
        def test_there(thing): pass
        """,
        test_two="def test_here(): pass",
    )
    run().assert_outcomes(passed=3)
