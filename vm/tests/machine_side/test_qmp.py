"""QEMU's control stream as bytes."""

from __future__ import annotations

import pytest

from kernelproof.vm.qmp import MAX_LINE, QmpError, QmpReader, encode_command, read_answer


def test_command() -> None:
    """A command is one line."""
    assert encode_command("migrate", {"uri": "file:/x"}) == b'{"execute":"migrate","arguments":{"uri":"file:/x"}}\n'


def test_any_cut() -> None:
    """Messages come out whole however the stream is cut."""
    stream = b'{"QMP": {}}\r\n{"event": "STOP", "data": {}}\n{"return": {}}\n'
    reader, got = QmpReader(), []
    for byte in stream:
        reader.feed(bytes([byte]))
        if (message := reader.take()) is not None:
            got.append(message)
    assert got == [{"QMP": {}}, {"event": "STOP", "data": {}}, {"return": {}}]


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b"\xff\n", b"x" * (MAX_LINE + 1)], ids=["text", "list", "bytes", "long"]
)
def test_line_that_is_no_message(line: bytes) -> None:
    """A line that is no JSON object, or has no end, is an error."""
    reader = QmpReader()
    reader.feed(line)
    with pytest.raises(QmpError):
        reader.take()


def test_answers() -> None:
    """An answer is what was returned, or QEMU's refusal in its own words."""
    assert read_answer({"return": {"status": "running"}}) == {"status": "running"}
    with pytest.raises(QmpError, match="not found"):
        read_answer({"error": {"class": "CommandNotFound", "desc": "not found"}})
    with pytest.raises(QmpError, match="neither"):
        read_answer({"id": 3})
