"""Values: users, signals and times are understood in full, or refused."""

from __future__ import annotations

import signal

import pytest

from kernelproof.impl.libcontainer.nsinit.options import UsageError
from kernelproof.impl.libcontainer.nsinit.values import parse_duration, parse_signal, parse_user


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", (0, None)),
        ("1", (1, None)),
        ("1:0", (1, 0)),
        ("1000:100", (1000, 100)),
        ("4294967294", (4294967294, None)),
        ("007", (7, None)),
    ],
)
def test_a_user_is_numbers(text: str, found: tuple[int, int | None]) -> None:
    """UID, or UID:GID."""
    assert parse_user(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "1:",
        ":1",
        "root",
        "1x",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1:2:3",
        "4294967295",
        "0x1",
        "1.0",
        "\u0661",
        "9" * 40,
    ],
)
def test_anything_else_is_no_user(text: str) -> None:
    """What is not digits alone is refused, and never becomes root."""
    with pytest.raises(UsageError, match="a number from 0 to 4294967294"):
        parse_user(text)


@pytest.mark.parametrize("form", ["{0}", "SIG{0}", "sig{1}", "{1}"], ids=["name", "sig", "lower-sig", "lower"])
def test_a_signal_has_its_name_in_any_form(form: str) -> None:
    """Each signal of the system is known by its name, with or without SIG, in any case, and by its number."""
    for number in signal.Signals:
        name = number.name.removeprefix("SIG")
        assert parse_signal(form.format(name, name.lower())) == number
        assert parse_signal(str(int(number))) == number


def test_real_time_signals_are_counted_from_both_ends() -> None:
    """RTMIN+n and RTMAX-n, within what the system has; 0 asks only."""
    assert parse_signal("RTMIN+1") == signal.SIGRTMIN + 1
    assert parse_signal("sigrtmax-2") == signal.SIGRTMAX - 2
    assert parse_signal("0") == 0


@pytest.mark.parametrize(
    "text", ["", "65", "-9", "1.5", "KIL", "SIG", "RTMIN-1", "RTMAX+1", "RTMIN+x", "_IGN", "9 ", "NSIG"]
)
def test_an_unknown_signal_is_refused(text: str) -> None:
    """Neither a number beyond the system's nor a name that it has not is sent."""
    with pytest.raises(UsageError, match="is unknown"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("1m30s", 90), ("250ms", 0.25), ("2h", 7200), ("3", 3), ("1.5s", 1.5), ("0.5", 0.5)],
)
def test_a_time_is_a_sum_of_units(text: str, seconds: float) -> None:
    """Units from ns to h; a bare number is seconds."""
    assert parse_duration(text, "--interval") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "5 s", "s", "5x", "1.2.3s", "5s3", "."])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Times are above zero and complete."""
    with pytest.raises(UsageError, match="a time such as"):
        parse_duration(text, "--interval")
