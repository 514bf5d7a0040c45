"""--vm-scope: how long a machine is used."""

from __future__ import annotations

import pytest

from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

TESTS = {
    "test_one": """
        import os, pytest
        pytestmark = pytest.mark.machine
        used = []

        @pytest.fixture(scope="module")
        def module():
            used.append("module")
            yield
            used.append("gone")
        @pytest.fixture(scope="class")
        def narrow(): used.append("class")

        class TestFirst:
            def test_a(self, module, narrow): used.append("a")
            def test_b(self, module, narrow):
                used.append("b")
                print("used:", *used)
        class TestSecond:
            def test_c(self, module, narrow):
                used.append("c")
                print("used:", *used)
        def test_alone(): print("used:", *used)
    """,
    "test_two": """
        import os, pytest
        pytestmark = pytest.mark.machine
        def test_d():
            import test_one
            print("used:", *test_one.used)
    """,
}


def clones(local: LocalPlugin) -> int:
    return sum(machines.clones for machines in local.provider.opened.values())


@pytest.mark.parametrize(
    ("scope", "number", "used"),
    [
        ("test", 5, ["module class b", "module class c", "", ""]),
        ("class", 4, ["module class a b", "module class c", "", ""]),
        ("module", 2, ["module class a b", "module class a b class c", "module class a b class c", ""]),
        ("session", 1, ["module class a b", *2 * ["module class a b class c"], "module class a b class c gone"]),
    ],
)
def test_scopes(
    scope: str, number: int, used: list[str], pytester: pytest.Pytester, local: LocalPlugin, run: Run
) -> None:
    """In a scope's machine a test finds what those before it left, and fixtures are as wide as they are on a host."""
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\npythonpath = '.'\naddopts = '-p no:cacheprovider'\n")
    pytester.makepyfile(**TESTS)
    result = run("-s", "--vm-scope", scope)
    result.assert_outcomes(passed=5)
    found = [line.partition("used:")[2].strip() for line in result.outlines if "used:" in line]
    assert found == used
    assert clones(local) == number


def test_machine_that_is_lost(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """After a loss the rest of the scope gets a new machine."""
    pytester.makepyfile(
        """
        import os, pytest
        pytestmark = pytest.mark.machine
        left = []

        def test_first(): left.append(1)
        def test_lost():
            assert left == [1]
            os._exit(3)
        def test_after(): assert left == []
        def test_last(): assert left == []
        """
    )
    run("--vm-scope", "module").assert_outcomes(passed=3, errors=1)
    assert clones(local) == 2


def test_kinds_of_machines(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """A scope's machine is for items of its kind and its kernel alone."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.machine
        def test_plain(): pass
        @pytest.mark.machine(profile="disk")
        def test_disk(): pass
        @pytest.mark.machine
        def test_plain_too(): pass
        """
    )
    run("--vm-scope", "session", kernel="5.10,6.12").assert_outcomes(passed=6)
    assert clones(local) == 4


def test_failure_in_a_shared_machine(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """-x stops after the first failure, and the machine is given back."""
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.machine
        def test_fails(): assert False
        def test_never(): pass
        """
    )
    run("-x", "--vm-scope", "session").assert_outcomes(failed=1)
    assert all(machines.closed for machines in local.provider.opened.values())


def test_repetitions_need_their_own(pytester: pytest.Pytester, run: Run) -> None:
    """A repetition differs by its machine: it can't share one."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_it(): pass")
    result = run("--vm-scope", "module", "--vm-repeat", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--vm-repeat and --vm-vary need a machine for each test*"])
