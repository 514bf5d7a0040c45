"""Formats of interface files, and conversions between the versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.cgroups.controllers.pressure import Stall, parse_pressure
from kernelproof.impl.cgroups.conversions import blkio_weight_to_io, shares_to_weight, swap_of, weight_to_shares
from kernelproof.impl.cgroups.errors import FormatError, LimitError
from kernelproof.impl.cgroups.formats import (
    format_list,
    format_nested,
    parse_flat,
    parse_list,
    parse_nested,
    parse_numbers,
    parse_value,
)


@pytest.mark.parametrize(("text", "value"), [("2048", 2048), ("2048\n", 2048), ("max\n", -1), ("-1\n", -1)])
def test_single_values(text: str, value: int) -> None:
    """A number is a number with or without its newline, and max is -1."""
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["", "not-a-float", "1_000", "٣", "1.5", "0x10", "12 13"])
def test_what_is_no_value(text: str) -> None:
    """What the kernel never writes is an error that shows it, though int() would take some of it."""
    with pytest.raises(FormatError, match=r"memory\.max"):
        parse_value(text, "memory.max")


def test_heaviest_weight_is_the_most_shares() -> None:
    """The shares that become the largest weight end at the kernel's most, 262144; the least begin at 2."""
    assert weight_to_shares(10_000)[-1] == 262_144
    assert weight_to_shares(1)[0] == 2


def test_flat_keyed() -> None:
    """Tabs and white space around a line are tolerated, numbers of 64 bits too."""
    text = "\n\t\tnr_periods 2000\n\n\t\tthrottled_time 18446744073709551615\nlimit max\n"
    assert parse_flat(text) == {"nr_periods": 2000, "throttled_time": 18446744073709551615, "limit": -1}


@pytest.mark.parametrize("text", ["nr_periods", "nr_periods 2000 1", "nr_periods two"])
def test_flat_keyed_lies(text: str) -> None:
    """A line that is no pair of key and number is an error."""
    with pytest.raises(FormatError):
        parse_flat(text)


def test_nested_keyed() -> None:
    """Each line a key and pairs; a key alone has none."""
    assert parse_nested("8:0 rbps=max wiops=120\n8:16\n") == {"8:0": {"rbps": -1, "wiops": 120}, "8:16": {}}
    assert format_nested("8:0", {"rbps": -1, "wiops": 120}) == "8:0 rbps=max wiops=120"
    with pytest.raises(FormatError):
        parse_nested("8:0 rbps")


def test_numbers_that_are_none() -> None:
    """A process list holds numbers only."""
    assert parse_numbers("1\n22\n") == (1, 22)
    with pytest.raises(FormatError):
        parse_numbers("1\nx\n")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", ()), ("0", (0,)), ("0-2,4\n", (0, 1, 2, 4)), ("6-10:2/4", (6, 7, 10)), ("1023-1025", (1023, 1024, 1025))],
)
def test_lists(text: str, numbers: tuple[int, ...]) -> None:
    """Lists as cpuset(7) has them, groups and CPUs beyond 1024 included."""
    assert parse_list(text) == numbers


@pytest.mark.parametrize("text", ["a", "3-1", "1,,2", "-1", "1-", "0-3:0/2", "0-3:3/2", "0-3:1", "0-99999999999"])
def test_lists_that_are_none(text: str) -> None:
    """What is no list is an error, and no machine's memory is spent on it."""
    with pytest.raises(FormatError):
        parse_list(text)


@given(st.sets(st.integers(0, 5000)))
def test_a_list_comes_back(numbers: set[int]) -> None:
    """What is formatted parses to the same numbers."""
    assert parse_list(format_list(numbers)) == tuple(sorted(numbers))


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(1, 1), (2, 1), (256, 35), (1024, 100), (2048, 174), (4096, 303), (10240, 639), (102400, 4429), (262144, 10000)],
)
def test_shares_to_weight(shares: int, weight: int) -> None:
    """The default becomes the default, and both ends each other."""
    assert shares_to_weight(shares) == weight


def test_older_formulas_by_name() -> None:
    """What others wrote can be computed too."""
    assert shares_to_weight(1024, "linear_range") == 39
    assert shares_to_weight(1024, "linear_default") == 100
    with pytest.raises(LimitError):
        shares_to_weight(1024, "linear")


@given(st.integers(1, 10_000))
def test_a_weight_is_a_range_of_shares(weight: int) -> None:
    """All of the range, and only that, becomes the weight; some weights come of no shares."""
    shares = weight_to_shares(weight)
    assert all(shares_to_weight(one) == weight for one in (*shares[:2], *shares[-2:]))
    assert shares.start == 2 or shares_to_weight(shares.start - 1) < weight
    assert shares.stop > 262_144 or shares_to_weight(shares.stop) > weight


@pytest.mark.parametrize(("weight", "expected"), [(10, 1), (500, 4950), (1000, 10_000)])
def test_blkio_weight(weight: int, expected: int) -> None:
    """Both ends become each other."""
    assert blkio_weight_to_io(weight) == expected


@pytest.mark.parametrize("weight", [9, 1001])
def test_blkio_weight_out_of_range(weight: int) -> None:
    """A weight that version 1 does not know is refused, not turned into one that version 2 does not know."""
    with pytest.raises(LimitError, match="10 to 1000"):
        blkio_weight_to_io(weight)


def test_swap_alone() -> None:
    """The sum less its part; no limit where the sum has none; less than its part, or of none, is an error."""
    assert (swap_of(300, 100), swap_of(300, 0), swap_of(0, 0)) == (200, 300, 0)
    assert (swap_of(-1, 100), swap_of(-1, -1), swap_of(-1, None)) == (-1, -1, -1)
    with pytest.raises(LimitError, match="cannot be less"):
        swap_of(50, 100)
    for memory in (None, -1):
        with pytest.raises(LimitError, match="set that too"):
            swap_of(300, memory)


def test_pressure() -> None:
    """Both lines, or one; a line of another format is an error."""
    text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    some, full = parse_pressure(text)
    assert some == Stall(1.5, 0.0, 0.0, 42)
    assert full is not None
    assert full.total_microseconds == 7
    assert parse_pressure(text.splitlines()[0]).full is None
    with pytest.raises(FormatError):
        parse_pressure("some avg10=x avg60=0 avg300=0 total=1")
