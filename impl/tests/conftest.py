"""What the tests of all packages share: the marker that ties a test to a rule, with the wrong way shown first.

    @pytest.mark.rule("G1", ours=walk, wrong=walk_as_in_2014, raises=RecursionError)
    def test_walks_end(subject): ...

The test runs twice: with `subject=walk_as_in_2014`, where it must fail (strictly: passing is an error), and with
`subject=walk`, where it must pass. `raises` is what the wrong way fails with, AssertionError unless told. A marker
without `wrong` ties a test to a rule or a goal and runs it once. `docs/rules/README.md` has the whole convention.
"""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "rule(id, *, ours, wrong, raises): a rule of docs/rules that the test holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of a rule its two subjects."""
    for mark in metafunc.definition.iter_markers("rule"):
        if "wrong" not in mark.kwargs:
            continue
        expected = pytest.mark.xfail(
            strict=True, raises=mark.kwargs.get("raises", AssertionError), reason=f"{mark.args[0]}: the wrong way"
        )
        subjects = [
            pytest.param(mark.kwargs["wrong"], marks=expected, id="wrong"),
            pytest.param(mark.kwargs["ours"], id="ours"),
        ]
        metafunc.parametrize("subject", subjects)
