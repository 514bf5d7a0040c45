"""Record a terminal and play it again, in asciicast v2: a line of JSON for the header, and one for each event.

    {"version": 2, "width": 80, "height": 24, "timestamp": 1700000000}
    [0.25, "o", "$ "]
    [1.5, "i", "l"]
    [2.0, "r", "100x50"]

A recording from elsewhere is data: its lines are bounded, its events checked.

Source: asciinema documentation, asciicast v2.
"""

from __future__ import annotations

import codecs
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from kernelproof.impl.term.errors import RecordingError
from kernelproof.impl.term.window import WindowSize

if TYPE_CHECKING:
    from typing import Self

LINE_LIMIT = 16 << 20  # characters
OUTPUT = "o"
INPUT = "i"
RESIZE = "r"
MARKER = "m"


class Header(NamedTuple):
    """The header of a recording."""

    size: WindowSize
    timestamp: int | None = None  # seconds since 1970-01-01
    idle_time_limit: float | None = None  # seconds
    command: str | None = None
    title: str | None = None
    env: tuple[tuple[str, str], ...] = ()


class Event(NamedTuple):
    """Something that happened, so many seconds after the beginning."""

    seconds: float
    kind: str  # OUTPUT, INPUT, RESIZE, MARKER, or one of a later edition
    data: str

    @property
    def size(self) -> WindowSize:
        """The size that an event of the kind RESIZE tells.

        Raises:
            RecordingError: it is no size.
        """
        columns, _, rows = self.data.partition("x")
        if not all(0 < len(each) <= 5 and each.isascii() and each.isdecimal() for each in (rows, columns)):
            raise RecordingError(f"{self.data[:40]!r} is no size")
        size = WindowSize(int(rows), int(columns))
        if max(size) > 65535:
            raise RecordingError(f"{self.data!r} is no size: a window has at most 65535 rows and columns")
        return size


class Recorder:
    """Writes a recording; a context manager that writes what is left, and leaves the file open.

    Bytes are decoded as UTF-8 over the borders of pieces; what is none becomes U+FFFD, as JSON holds no bytes.

    Args:
        file: to write to, text.
        header: of the recording.
        clock: the time in seconds, only going forward.
    """

    def __init__(self, file: TextIO, header: Header, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._start = clock()
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {OUTPUT: make("replace"), INPUT: make("replace")}
        self._write(format_header(header))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()

    def output(self, data: bytes) -> None:
        """Record what a program wrote."""
        self._bytes(OUTPUT, data)

    def input(self, data: bytes) -> None:
        """Record what was typed. Passwords are typed too: record input only where that is known."""
        self._bytes(INPUT, data)

    def resize(self, size: WindowSize) -> None:
        """Record a new window size."""
        self._event(RESIZE, f"{size.columns}x{size.rows}")

    def mark(self, label: str = "") -> None:
        """Record a marker."""
        self._event(MARKER, label)

    def finish(self) -> None:
        """Record the beginning of a character that never came to its end, and flush the file."""
        for kind, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                self._event(kind, text)
        self._file.flush()

    def _bytes(self, kind: str, data: bytes) -> None:
        if text := self._decoders[kind].decode(data):
            self._event(kind, text)

    def _event(self, kind: str, data: str) -> None:
        self._write(json.dumps([round(self._clock() - self._start, 6), kind, data], ensure_ascii=False))

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")


def format_header(header: Header) -> str:
    """Return the first line of a recording."""
    fields: dict[str, object] = {"version": 2, "width": header.size.columns, "height": header.size.rows}
    for name in ("timestamp", "idle_time_limit", "command", "title"):
        if getattr(header, name) is not None:
            fields[name] = getattr(header, name)
    if header.env:
        fields["env"] = dict(header.env)
    return json.dumps(fields, ensure_ascii=False)


class Recording:
    """A recording to read: its header at once, its events as they are asked for.

    Args:
        lines: of the file, with or without newlines.

    Raises:
        RecordingError: the first line is no header of asciicast v2.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = enumerate(lines, 1)
        number, line = next(self._lines, (1, ""))
        self.header = _parse_header(_parse_json(line, number))

    def __iter__(self) -> Iterator[Event]:
        """Yield the events.

        Raises:
            RecordingError: a line is no event, or its time goes back; the text has its number.
        """
        before = 0.0
        for number, line in self._lines:
            if not line.strip():
                continue
            event = _parse_event(_parse_json(line, number), number)
            if event.seconds < before:
                raise RecordingError(f"line {number}: the time goes back from {before} to {event.seconds}")
            before = event.seconds
            yield event


def _parse_json(line: str, number: int) -> Any:
    if len(line) > LINE_LIMIT:
        raise RecordingError(f"line {number} has more than {LINE_LIMIT} characters")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"line {number} is no JSON: {error}") from error


def _parse_header(fields: Any) -> Header:
    if not isinstance(fields, dict) or fields.get("version") != 2:
        raise RecordingError("line 1 is no header of asciicast version 2")
    size = WindowSize(*(_parse_length(fields.get(name)) for name in ("height", "width")))
    env = fields.get("env", {})
    if not isinstance(env, Mapping) or not all(isinstance(each, str) for pair in env.items() for each in pair):
        raise RecordingError("line 1: env is no object of strings")
    timestamp, limit = (fields.get(name) for name in ("timestamp", "idle_time_limit"))
    for name, value in (("timestamp", timestamp), ("idle_time_limit", limit)):
        if value is not None and not _is_time(value):
            raise RecordingError(f"line 1: {name} is {value!r}")
    command, title = (fields.get(name) for name in ("command", "title"))
    for name, text in (("command", command), ("title", title)):
        if text is not None and not isinstance(text, str):
            raise RecordingError(f"line 1: {name} is {text!r}")
    return Header(size, timestamp, limit, command, title, tuple(env.items()))


def _parse_length(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise RecordingError(f"line 1: height or width is {value!r}, not 0 to 65535")
    return value


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _parse_event(fields: Any, number: int) -> Event:
    if (
        not isinstance(fields, list)
        or len(fields) != 3
        or not _is_time(fields[0])
        or not all(isinstance(each, str) for each in fields[1:])
    ):
        raise RecordingError(f"line {number} is no event: a time, a kind and a text")
    return Event(float(fields[0]), fields[1], fields[2])


def plan_times(
    events: Iterable[Event], *, speed: float = 1.0, idle_limit_seconds: float | None = None
) -> Iterator[tuple[float, Event]]:
    """Yield when to play each event, in seconds after the beginning.

    Args:
        events: of a recording.
        speed: how many times faster than it was recorded.
        idle_limit_seconds: the longest pause to keep, before it is sped up.

    Raises:
        ValueError: a speed that is not above 0.
    """
    if not speed > 0:
        raise ValueError(f"speed {speed} is not above 0")
    at = before = 0.0
    for event in events:
        pause = event.seconds - before
        at += pause if idle_limit_seconds is None else min(pause, idle_limit_seconds)
        before = event.seconds
        yield at / speed, event


def play(
    recording: Recording,
    write: Callable[[str], object],
    wait_until: Callable[[float], object],
    *,
    on_resize: Callable[[WindowSize], object] | None = None,
    speed: float = 1.0,
    idle_limit_seconds: float | None = None,
) -> None:
    """Play the output of a recording.

    Args:
        recording: to play.
        write: gets the text of each output event.
        wait_until: waits until so many seconds after the beginning; see `waiter`.
        on_resize: gets each new window size.
        speed: how many times faster than it was recorded.
        idle_limit_seconds: the longest pause to keep; None takes the header's.

    Raises:
        RecordingError: a line of the recording is no event.
        ValueError: a speed that is not above 0.
    """
    limit = recording.header.idle_time_limit if idle_limit_seconds is None else idle_limit_seconds
    for at, event in plan_times(recording, speed=speed, idle_limit_seconds=limit):
        if event.kind == OUTPUT:
            wait_until(at)
            write(event.data)
        elif event.kind == RESIZE and on_resize is not None:
            wait_until(at)
            on_resize(event.size)


def waiter(wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic) -> Callable[[float], None]:
    """Return a function that waits until a time after now, for `play`.

    Args:
        wait: waits for so many seconds, or until something happens: threading.Event().wait for example.
        clock: the time in seconds, only going forward.
    """
    start = clock()

    def wait_until(seconds: float) -> None:
        left = start + seconds - clock()
        if left > 0:
            wait(left)

    return wait_until
