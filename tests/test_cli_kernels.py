"""`kernelproof kernels`: the rows, as table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernelproof.cli import kernels, main
from kernelproof.vm.cache import Cache
from kernelproof.vm.kernel import find_fetched
from kernelproof.vm.kernel_select import KernelRow, KernelTable, read_rows

TABLE = KernelTable(
    flavour="cloud-amd64",
    default="6.1",
    roles=(("oldest", "5.10"), ("newest", "6.1")),
    rows=(KernelRow("5.10", (("a-security",), ("a",)), "old"), KernelRow("6.1", (("b",),), "new")),
)


def test_kernel_rows() -> None:
    """Each series has one row with its roles, the default among them."""
    common = {"distribution": "debian"}
    assert kernels.plan_rows(TABLE, {"6.1": "6.1.7"}) == [
        {**common, "series": "5.10", "roles": ["oldest"], "fetched": "", "suites": ["a-security", "a"], "why": "old"},
        {**common, "series": "6.1", "roles": ["newest", "default"], "fetched": "6.1.7", "suites": ["b"], "why": "new"},
    ]


def test_kernels_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the JSON hold the same rows."""
    assert main.main(["kernels"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert main.main(["kernels", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert table[0].split() == ["SERIES", "ROLES", "FETCHED", "SUITES", "WHY"]
    assert [line.split()[0] for line in table[1:]] == [row["series"] for row in rows]


def test_kernels_of_every_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` lists other distributions' rows, this one's first, and says which of them nobody has tried."""
    assert main.main(["kernels", "--all", "--json"]) == 0
    output = capsys.readouterr()
    names = [row["distribution"] for row in json.loads(output.out)]
    assert (names[0], set(names)) == (read_rows().distribution, {"debian", "ubuntu"})
    assert "note: Ubuntu: not tried by us" in output.err
    assert "Debian" not in output.err


def test_fetched_kernels(tmp_path: Path) -> None:
    """The newest build of each series that is in the cache is told; own kernels and torn entries are passed over."""
    for name, facts in (
        ("a", {"series": "6.1", "build": "6.1.9-1", "release": "6.1.9"}),
        ("b", {"series": "6.1", "build": "6.1.10-1", "release": "6.1.10"}),
        ("c", {"own": "6.2"}),
        ("d", None),
    ):
        folder = tmp_path / "v1/kernel" / name
        folder.mkdir(parents=True)
        (folder / "facts.json").write_text("torn" if facts is None else json.dumps(facts))
    assert find_fetched(Cache(tmp_path)) == {"6.1": "6.1.10"}
