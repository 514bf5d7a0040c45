"""What a terminal makes of bytes on their way: input, output and echo."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import restore, save

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import Pair, ReadAll, ReadNow


def case(behaviour_id: str, *values: object, id: str) -> object:
    """One case of a statement."""
    return pytest.param(*values, marks=behaviour(behaviour_id), id=id)


@pytest.mark.parametrize(
    ("flags", "typed", "expected"),
    [
        case("term.input.icrnl", "+ICRNL", b"a\rb\r", [b"a\n", b"b\n"], id="icrnl"),
        case("term.input.icrnl", "-ICRNL", b"a\rb\r\n", [b"a\rb\r\n", None], id="no-icrnl"),
        case("term.input.igncr-wins", "+IGNCR +ICRNL", b"a\rb\r\n", [b"ab\n", None], id="igncr"),
        case("term.input.inlcr", "+INLCR -ICRNL -ICANON", b"a\nb", [b"a\rb", None], id="inlcr"),
        case("term.input.istrip", "+ISTRIP", b"\xe1\xff\n", [b"\x61\x7f\n", None], id="istrip"),
        case("term.input.istrip", "-ISTRIP", b"\xe1\n", [b"\xe1\n", None], id="no-istrip"),
        case("term.input.parmrk-doubles-ff", "+PARMRK -ISTRIP +INPCK", b"a\xffb\n", [b"a\xff\xffb\n", None], id="ff"),
        case("term.input.parmrk-doubles-ff", "-PARMRK -ISTRIP", b"a\xffb\n", [b"a\xffb\n", None], id="no-parmrk"),
        case("term.input.iuclc-needs-iexten", "+IUCLC +IEXTEN", b"AbC\n", [b"abc\n", None], id="iuclc"),
        case("term.input.iuclc-needs-iexten", "+IUCLC -IEXTEN", b"AbC\n", [b"AbC\n", None], id="iuclc-no-iexten"),
    ],
)
def test_input(
    pair: Pair, flags: str, typed: bytes, expected: list[bytes | None], read_now: ReadNow, seen: Seen
) -> None:
    """What is typed at the master is read at the slave as the input flags say."""
    restore(pair.slave, save(pair.slave).changed("-ECHO", *flags.split(), VERASE=0))
    os.write(pair.master, typed)
    assert seen([read_now(pair.slave) for _ in expected]) == expected


@pytest.mark.parametrize(
    ("flags", "written", "expected"),
    [
        case("term.output.onlcr", "+OPOST +ONLCR", b"a\nb\n", b"a\r\nb\r\n", id="onlcr"),
        case("term.output.onlcr", "+OPOST -ONLCR", b"a\nb\n", b"a\nb\n", id="no-onlcr"),
        case("term.output.opost-off-disables-onlcr", "-OPOST +ONLCR", b"a\nb\n\t", b"a\nb\n\t", id="no-opost"),
        case("term.output.ocrnl-onocr", "+OPOST +OCRNL -ONLCR", b"a\rb", b"a\nb", id="ocrnl"),
        case("term.output.ocrnl-onocr", "+OPOST -OCRNL -ONLCR", b"a\rb", b"a\rb", id="no-ocrnl"),
        case("term.output.onocr", "+OPOST +ONOCR -ONLCR", b"\rab\r\rc", b"ab\rc", id="onocr"),
        case("term.output.onocr", "+OPOST -ONOCR -ONLCR", b"\rab\r\rc", b"\rab\r\rc", id="no-onocr"),
        case("term.output.tab3-expands", "+OPOST +TAB3", b"abc\td\t", b"abc     d       ", id="tab3"),
        case("term.output.tab3-expands", "+OPOST +TAB0", b"abc\td\t", b"abc\td\t", id="tab0"),
    ],
)
def test_output(pair: Pair, flags: str, written: bytes, expected: bytes, read_all: ReadAll, seen: Seen) -> None:
    """What the slave writes is read at the master as the output flags say."""
    restore(pair.slave, save(pair.slave).changed(*flags.split()))
    os.write(pair.slave, written)
    assert seen(read_all()) == expected


@pytest.mark.parametrize(
    ("flags", "typed", "expected"),
    [
        case("term.echo.echoctl", "+ECHO +ECHOCTL", b"\x01", b"^A", id="echoctl"),
        case("term.echo.echoctl", "+ECHO -ECHOCTL", b"\x01", b"\x01", id="no-echoctl"),
        case("term.echo.echonl-without-echo", "-ECHO +ECHONL -ONLCR", b"secret\n", b"\n", id="echonl"),
        case("term.echo.echonl-without-echo", "-ECHO -ECHONL", b"secret\n", None, id="no-echonl"),
        case("term.echo.echonl-without-echo", "-ECHO +ECHONL -ICANON", b"secret\n", None, id="echonl-not-canonical"),
        case("term.echo.echoe-visual-erase", "+ECHO +ECHOE", b"ab\x7f", b"ab\b \b", id="echoe"),
    ],
)
def test_echo(pair: Pair, flags: str, typed: bytes, expected: bytes | None, read_all: ReadAll, seen: Seen) -> None:
    """What is typed comes back to the master as the echo flags say."""
    restore(pair.slave, save(pair.slave).changed(*flags.split()))
    os.write(pair.master, typed)
    assert seen(read_all()) == expected


@behaviour("term.echo.echoctl-exceptions")
def test_echo_without_carets(pair: Pair, read_all: ReadAll, seen: Seen) -> None:
    """With ECHOCTL tab, newline, START and STOP are echoed as they are, not as a caret and a letter."""
    restore(pair.slave, save(pair.slave).changed("+ECHO", "+ECHOCTL", "-IXON", "-OPOST"))
    os.write(pair.master, b"\x01")
    assert read_all() == b"^A"
    os.write(pair.master, b"\t\n\x11\x13")
    assert seen([read_all()]) == [b"\t\n\x11\x13"]
