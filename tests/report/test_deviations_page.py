"""The written list of deviations is the catalogue's, and each witness on it is a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernelproof.cli.deviations_page import code, escape, make_page
from kernelproof.cli.report_input import describe_since
from kernelproof.conformance.deviations import Deviation
from kernelproof.conformance.kernel_ranges import parse_range

ROOT = Path(__file__).resolve().parents[2]
TRIED = ("5.10", "6.1", "6.12", "7.3")


def test_page_is_the_catalogues() -> None:
    """docs/deviations.md is what `python -m kernelproof.cli.deviations_page` makes of the catalogue."""
    page = (ROOT / "docs/deviations.md").read_text("utf-8")
    made = make_page(ROOT / "conformance/behaviours")
    assert page == made, "run: python -m kernelproof.cli.deviations_page > docs/deviations.md"
    assert page.count("\n### ") == page.count("| seen instead | ") == page.count("| witness | ")
    for witness in re.findall(r"\| witness \| \[[^]]+\]\(([^)]+)\)", page):
        assert (ROOT / "docs" / witness).is_file()


@pytest.mark.parametrize(
    ("kernels", "reason", "since"),
    [
        (">=5.10", "x", "5.10 or before"),
        (">=6.2", "x", "after 6.1, by 6.12"),
        (">=6.2", "as since Linux 6.2.", "Linux 6.2"),
        ("<6.9", "x", "5.10 or before; 6.12 keeps the document's word"),
        ("6.1", "x", "after 5.10, by 6.1; 6.12 keeps the document's word"),
        (">=8.0", "x", "not known"),
    ],
)
def test_since(kernels: str, reason: str, since: str) -> None:
    """Since when is the release that the reason names, else between the two kernels that differ."""
    assert describe_since(Deviation(parse_range(kernels), 1, Path("w.py"), "", reason), TRIED) == since


def test_cells_hold_any_text() -> None:
    """What stands in a table's cell can't end it or become markup."""
    assert escape("a|b*c_<d>\n[e]") == r"a\|b\*c\_\<d\> \[e\]"
    assert code("a|b") == r"`a\|b`"
    assert code("a`b") == "``a`b``"
