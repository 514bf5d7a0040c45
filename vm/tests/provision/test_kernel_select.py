"""Words mean kernels."""

from __future__ import annotations

import pytest

from kernelproof.vm.distribution import read_distributions
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_select import KernelRow, KernelTable, parse_tables, read_rows, read_tables, select_kernels

TABLE = KernelTable(
    "cloud-amd64",
    "6.12",
    (("oldest", "5.10"), ("stable", "6.12"), ("newest", "7.3")),
    tuple(KernelRow(series, (("a",),), "") for series in ("5.10", "6.1", "6.12", "6.18", "7.3")),
)


@pytest.mark.parametrize(
    ("text", "series"),
    [
        ("6.12", ["6.12"]),
        ("6.1", ["6.1"]),  # never 6.12 or 6.18
        ("6", ["6.1", "6.12", "6.18"]),
        ("6.1.176", ["6.1"]),
        ("5.10,newest", ["5.10", "7.3"]),
        ("newest, oldest", ["5.10", "7.3"]),
        ("stable,6.12,default", ["6.12"]),
        ("all", ["5.10", "6.1", "6.12", "6.18", "7.3"]),
        ("6.12,,", ["6.12"]),
    ],
)
def test_words_mean_series(text: str, series: list[str]) -> None:
    """A prefix is of whole numbers, a role is a series, and the table's order holds."""
    assert list(select_kernels(text, TABLE)) == series


@pytest.mark.parametrize(
    "text", ["", ",", "9.9", "6.", "6.1x", "6.1.x", "latest", "-1", "6.12.1.2x", ".12", "6.12,nope"]
)
def test_unknown_word_lists_what_there_is(text: str) -> None:
    """The error names every series and role."""
    with pytest.raises(ProvisionError) as caught:
        select_kernels(text, TABLE)
    for word in ("5.10", "6.1", "6.12", "6.18", "7.3", "oldest", "stable", "newest", "all"):
        assert word in caught.value.remedy


def test_own_table_is_in_order() -> None:
    """The shipped table reads, is sorted, and its roles are its ends and its default."""
    table = read_rows()
    series = [row.series for row in table.rows]
    assert series == sorted(series, key=lambda text: [int(part) for part in text.split(".")])
    roles = dict(table.roles)
    assert (roles["oldest"], roles["newest"]) == (series[0], series[-1])
    assert table.default == "6.12" == roles["stable"]
    assert all(row.suites and all(row.suites) and row.why for row in table.rows)


KERNEL = "kernel = [{series = '1.1', suites = [['a']], why = ''}]\n"
HEAD = "[d]\ntried = true\nflavour = 'f'\nalso = []\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "default = '1.1'\nroles = {}\n",
        HEAD + "default = '1.2'\nroles = {}\n" + KERNEL,
        HEAD + "default = '1.1'\nroles = {newest = '9'}\n" + KERNEL,
        HEAD + "default = '1.1'\nroles = {}\n" + KERNEL.replace("suites = [['a']], ", ""),
        HEAD.replace("tried = true\n", "") + "default = '1.1'\nroles = {}\n" + KERNEL,
        "d = 1",
        "not toml",
    ],
)
def test_table_that_contradicts_itself_is_refused(text: str) -> None:
    """A default or role without row, and a row without suites, are told when the table is read."""
    with pytest.raises(ValueError, match=r"kernels\.toml: d|Expected"):
        parse_tables(text)


def test_each_distribution_has_its_table() -> None:
    """There is a table for each distribution that is known, each in order, with a default and the roles."""
    assert set(read_tables()) == {row.name for row in read_distributions()}
    for name, table in read_tables().items():
        series = [row.series for row in table.rows]
        assert series == sorted(series, key=lambda text: [int(part) for part in text.split(".")])
        assert [word for word, _ in table.roles] == ["oldest", "stable", "newest"]
        assert (table.distribution, table.default in series) == (name, True)
    assert (read_tables()["debian"].tried, read_tables()["ubuntu"].tried) == (True, False)
