"""Which distribution a host is of."""

from __future__ import annotations

import pytest

from kernelproof.vm.distribution import (
    choose_distribution,
    parse_distributions,
    parse_os_release,
    read_distribution,
    read_distributions,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('ID=debian\nVERSION_ID="13"\n', "debian"),
        ('PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\nID_LIKE=debian\n', "ubuntu"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "ubuntu"),
        ("ID='devuan'\nID_LIKE=debian\n", "debian"),
        ('ID=fedora\nID_LIKE=""\n', "debian"),
        ("", "debian"),
    ],
)
def test_rows_by_os_release(text: str, name: str) -> None:
    """The ID counts, then what the host is like, in that order; without either it is the first row."""
    assert choose_distribution(parse_os_release(text), read_distributions()).name == name


def test_os_release() -> None:
    """Quotes are those of a shell; comments and what can't be read are passed over."""
    text = "# comment\nA=one\nB='two words'\nC=\"x \\\"y\"\nD='open\n1x=no name\nNO\n"
    assert parse_os_release(text) == {"A": "one", "B": "two words", "C": 'x "y'}


def test_this_host() -> None:
    """The host that runs this is of one of the rows."""
    assert read_distribution() in read_distributions()


@pytest.mark.parametrize("text", ["[d]\nabout = 'D'\n", "d = 1 2"])
def test_table_that_is_none(text: str) -> None:
    """A row that lacks members is refused by name."""
    with pytest.raises(ValueError, match=r"distribution 'd'|Expected"):
        parse_distributions(text)
