"""Guest text is shown without what a terminal would obey."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm import console
from kernelproof.vm.console import Console, escape_text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain\ttext\r\nnext", "plain\ttext\nnext"),
        (b"\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("ä\u202eevil\u200b", "ä\\u202eevil\\u200b"),
        ("a\x00b\x7fc\x9bd", "a\\x00b\\x7fc\\x9bd"),
        ("lone\rreturn", "lone\\rreturn"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escapes(data: bytes | str, shown: str) -> None:
    """What is not printable, but for tab and newline, is shown as an escape."""
    assert escape_text(data) == shown


@given(st.binary())
def test_any_bytes_are_made_safe(data: bytes) -> None:
    """Whatever a guest writes, only printable characters, tabs and newlines come out, and they can be printed."""
    text = escape_text(data)
    text.encode("utf-8")
    assert all(character in "\t\n" or character.isprintable() for character in text)


def test_tail() -> None:
    """The end of a console is shown, and that there was more."""
    with closing(Console("test")) as held:
        os.write(held.descriptor, b"first\nsecond\n")
        assert held.text() == "first\nsecond\n"
        assert held.text(limit_bytes=7) == "[earlier lines left out]\nsecond\n"


def test_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console past its limit is emptied; who appends goes on at the new end."""
    monkeypatch.setattr(console, "LIMIT", 10)
    with closing(Console("test")) as held:
        appender = os.open(held.path, os.O_WRONLY | os.O_APPEND)
        os.write(appender, b"x" * 11)
        held.trim()
        os.write(appender, b"after")
        os.close(appender)
        assert held.text() == "[earlier lines left out]\nafter"
