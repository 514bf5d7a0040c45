"""Recordings: written as the format says, read with its bounds, played at the right times."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.term import (
    Event,
    Header,
    Recorder,
    Recording,
    RecordingError,
    WindowSize,
    plan_times,
    play,
    waiter,
)

HEADER = Header(WindowSize(24, 80), 1_700_000_000, 1.5, "sh", "A title", (("TERM", "xterm"),))


def clock_of(*times: float) -> Callable[[], float]:
    """A clock that gives these times."""
    return iter(times).__next__


def test_recording_is_the_documented_format() -> None:
    """The header and the events are lines of JSON, with times from the beginning."""
    file = io.StringIO()
    with Recorder(file, HEADER, clock_of(10, 10.25, 11.5, 12, 13)) as recorder:
        recorder.output(b"$ ")
        recorder.input(b"l")
        recorder.resize(WindowSize(50, 100))
        recorder.mark("here")
    lines = file.getvalue().splitlines()
    assert json.loads(lines[0]) == {
        "version": 2,
        "width": 80,
        "height": 24,
        "timestamp": 1_700_000_000,
        "idle_time_limit": 1.5,
        "command": "sh",
        "title": "A title",
        "env": {"TERM": "xterm"},
    }
    assert [json.loads(line) for line in lines[1:]] == [
        [0.25, "o", "$ "],
        [1.5, "i", "l"],
        [2, "r", "100x50"],
        [3, "m", "here"],
    ]
    recording = Recording(lines)
    assert recording.header == HEADER
    assert [event.kind for event in recording] == ["o", "i", "r", "m"]


@given(st.text(), st.lists(st.integers(1, 5), min_size=1))
def test_text_survives_every_split(text: str, sizes: list[int]) -> None:
    """Characters that are cut by the border of two pieces are whole in the recording."""
    data = text.encode("utf-8", "replace")
    file = io.StringIO()
    with Recorder(file, Header(WindowSize(1, 1)), lambda: 0.0) as recorder:
        at = number = 0
        while at < len(data):
            recorder.output(data[at : at + sizes[number % len(sizes)]])
            at += sizes[number % len(sizes)]
            number += 1
    events = list(Recording(io.StringIO(file.getvalue())))
    assert "".join(event.data for event in events) == data.decode()


def test_bytes_that_are_no_text_are_marked() -> None:
    """What is no UTF-8 becomes the replacement character, a beginning without end too."""
    file = io.StringIO()
    with Recorder(file, Header(WindowSize(1, 1)), lambda: 0.0) as recorder:
        recorder.output(b"a\xffb\xc3")
    assert "".join(event.data for event in Recording(file.getvalue().splitlines())) == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "{",
        '{"version": 1, "width": 1, "height": 1}',
        '{"version": 2, "width": 1}',
        '{"version": 2, "width": "1", "height": 1}',
        '{"version": 2, "width": true, "height": 1}',
        '{"version": 2, "width": 65536, "height": 1}',
        '{"version": 2, "width": -1, "height": 1}',
        '{"version": 2, "width": 1, "height": 1, "env": []}',
        '{"version": 2, "width": 1, "height": 1, "env": {"A": 1}}',
        '{"version": 2, "width": 1, "height": 1, "timestamp": "now"}',
        '{"version": 2, "width": 1, "height": 1, "idle_time_limit": -1}',
        '{"version": 2, "width": 1, "height": 1, "title": 5}',
    ],
)
def test_bad_header(line: str) -> None:
    """A first line that is no header of version 2 is refused."""
    with pytest.raises(RecordingError, match="line 1"):
        Recording([line])
    with pytest.raises(RecordingError):
        Recording([])


@pytest.mark.parametrize(
    "line",
    ['{"a": 1}', "[1]", '["1", "o", ""]', '[-1, "o", ""]', '[1, 2, ""]', '[1, "o", 3]', '[1, "o", "", 4]',
     f'[1{"0" * 400}, "o", ""]', '[true, "o", ""]', '[Infinity, "o", ""]', '[NaN, "o", ""]', "[" * 100_000,
     "x" * ((16 << 20) + 1)],
)  # fmt: skip
def test_bad_event(line: str) -> None:
    """A line that is no event is refused with its number; blank lines are skipped."""
    lines = ['{"version": 2, "width": 1, "height": 1}', '[0, "o", "a"]', "", line]
    events = iter(Recording(lines))
    assert next(events) == Event(0, "o", "a")
    with pytest.raises(RecordingError, match="line 4"):
        next(events)


def test_time_does_not_go_back() -> None:
    """An event before the one before it is refused."""
    lines = ['{"version": 2, "width": 1, "height": 1}', '[2, "o", "a"]', '[1, "o", "b"]']
    with pytest.raises(RecordingError, match=r"line 3: the time goes back from 2\.0 to 1\.0"):
        list(Recording(lines))


@pytest.mark.parametrize(
    "data",
    ["", "80", "80x", "x24", "-1x5", "80X24", "\u0663x\u0663", "1x2x3", "65536x24", "99999x24", "9" * 5000 + "x24"],
)
def test_bad_size(data: str) -> None:
    """A size that is none is refused when it is asked for."""
    with pytest.raises(RecordingError, match="is no size"):
        _ = Event(0, "r", data).size


def test_times_with_speed_and_idle_limit() -> None:
    """Pauses are cut to the limit, and everything is sped up."""
    events = [Event(1, "o", "a"), Event(11, "o", "b"), Event(11.5, "o", "c")]
    assert [at for at, _ in plan_times(events)] == [1, 11, 11.5]
    assert [at for at, _ in plan_times(events, speed=2)] == [0.5, 5.5, 5.75]
    assert [at for at, _ in plan_times(events, idle_limit_seconds=2)] == [1, 3, 3.5]
    for bad in (0, -1):
        with pytest.raises(ValueError, match="is not above 0"):
            list(plan_times(events, speed=bad))


def test_playing() -> None:
    """Output is written and sizes are set at their times; input and markers are not shown."""
    lines = [
        '{"version": 2, "width": 1, "height": 1, "idle_time_limit": 1}',
        '[1, "o", "a"]', '[2, "i", "x"]', '[50, "r", "80x24"]', '[51, "m", ""]', '[52, "o", "b"]',
    ]  # fmt: skip
    done: list[object] = []
    play(Recording(lines), done.append, done.append, on_resize=done.append)
    assert done == [1, "a", 3, WindowSize(24, 80), 5, "b"]
    done.clear()
    play(Recording(lines), done.append, done.append, idle_limit_seconds=100)
    assert done == [1, "a", 52, "b"]


def test_waiting_until() -> None:
    """The waiter waits for what is left, and not at all for what is past."""
    waited: list[float] = []
    wait_until = waiter(waited.append, clock_of(100, 100.5, 103))
    wait_until(2)
    wait_until(2)
    assert waited == [1.5]
    waiter(threading.Event().wait)(0.001)
