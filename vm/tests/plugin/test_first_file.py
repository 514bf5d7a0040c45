"""Of a large suite the first file is collected before the others, so that its results come early."""

from __future__ import annotations

import pytest

from kernelproof.vm import selection
from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

TESTS = """
import pytest
pytestmark = pytest.mark.machine

@pytest.mark.parametrize("turn", range(3))
def test_it(turn): pass
"""


@pytest.fixture(autouse=True)
def _few_are_many(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MANY", 6)
    pytester.makepyfile(test_a=TESTS, test_b=TESTS, test_c=TESTS)


def parts(local: LocalPlugin) -> list[str]:
    """The parts for which templates were made, in their order."""
    return [key.part for key in local.provider.opened]


def test_first_file_comes_first(local: LocalPlugin, run: Run) -> None:
    """It has a template of its own that is given back before the others' is made; all items run once."""
    run().assert_outcomes(passed=9)
    assert parts(local) == ["first", ""]
    assert local.provider.events == [*["clone"] * 3, "close", *["clone"] * 6, "close"]


def test_few_items(local: LocalPlugin, run: Run) -> None:
    """Where few items follow one template serves all."""
    run("--deselect", "test_c.py").assert_outcomes(passed=6, deselected=3)
    assert parts(local) == [""]


def test_a_session_in_one_machine(local: LocalPlugin, run: Run) -> None:
    """Where all items share one machine they share its template."""
    run("--vm-scope", "session").assert_outcomes(passed=9)
    assert parts(local) == [""]


def test_fixture_before_the_snapshot(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """A fixture that is set up once for all items keeps them together."""
    pytester.makeconftest(
        "import kernelproof\n@kernelproof.snapshot_fixture\ndef once(): return 1\n"
        "import pytest\n@pytest.fixture(autouse=True)\ndef every(once): pass\n"
    )
    run().assert_outcomes(passed=9)
    assert parts(local) == [""]
