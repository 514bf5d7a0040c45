"""Items in machines end, for whoever reads pytest's output, as they would on the host."""

from __future__ import annotations

import pytest

from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin


def test_outcomes(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Pass, fail, skip, xfail, xpass and a failing fixture are what pytest calls them."""
    pytester.makepyfile(
        """
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
    )
    result = run("-rs", "-v")
    result.assert_outcomes(passed=2, failed=1, skipped=1, xfailed=1, xpassed=1, errors=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*test_fail FAILED*", "*At index 1 diff: 2 != 3*", "test_outcomes.py:5: AssertionError"]
    )
    result.stdout.fnmatch_lines(["SKIPPED [[]1] test_outcomes.py:6: not today"])
    (machines,) = local.provider.opened.values()
    assert machines.clones == 7
    assert machines.closed
