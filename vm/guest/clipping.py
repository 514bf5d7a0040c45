"""Makes any report fit for the channel: plain data, and no longer than a frame may be.

A test may print 100 MB, fail with a message of that length or attach objects. What can't travel is cut or shown as
text, and the report says so. Only reports that do not fit come here.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping

OUTPUT_LIMIT = 8 * 1024 * 1024  # bytes of JSON that all captured output of one report may take
REPRESENTATION_LIMIT = 4 * 1024 * 1024  # likewise, of a traceback
PROPERTIES_LIMIT = 1024 * 1024  # likewise, of what a test or a plugin attached

STREAM_LIMIT = OUTPUT_LIMIT // 2  # bytes that pytest gets to read of each stream it captured

_DEPTH = 16


def identify(descriptor: int) -> tuple[int, int] | None:
    """The file behind a descriptor, or None if it is no regular one."""
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def clip_file(descriptor: int, limit_bytes: int = STREAM_LIMIT) -> None:
    """Cut the middle out of a longer file, before anyone reads and decodes all of it.

    Args:
        descriptor: Open for reading and writing; left at the end.
        limit_bytes: What is kept, half of it from the beginning.

    Raises:
        OSError: as pread(2), ftruncate(2) and write(2) refuse.
    """
    size = os.fstat(descriptor).st_size
    if size <= limit_bytes:
        return
    half = limit_bytes // 2
    head, tail = os.pread(descriptor, half, 0), os.pread(descriptor, half, size - half)
    note = f"\n[... kernelproof cut {size - 2 * half} bytes here: at most {limit_bytes} of a stream are kept ...]\n"
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    rest = memoryview(head + note.encode("ascii") + tail)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def clip_text(text: str, limit_bytes: int) -> str:
    """The beginning and the end of `text`, and between them how much is missing, in at most `limit_bytes` of JSON.

    Text that fits is returned as it is.
    """
    length = len(json.dumps(text))
    if length <= limit_bytes:
        return text
    kept = len(text)
    clipped = text
    while length > limit_bytes and kept:
        # By proportion, and at least by a tenth: what escapes to six bytes may be spread unevenly.
        kept = min(kept * limit_bytes // length, kept * 9 // 10)
        head = kept // 2
        tail = kept - head
        note = f"\n[... kernelproof cut {len(text) - kept} characters here: at most {limit_bytes} bytes are kept ...]\n"
        clipped = text[:head] + note + text[len(text) - tail :]
        length = len(json.dumps(clipped))
    return clipped


def make_plain(value: object, depth: int = 0) -> object:
    """`value` with everything that JSON has no word for shown by `repr`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if depth < _DEPTH and isinstance(value, Mapping):
        return {str(key): make_plain(inner, depth + 1) for key, inner in value.items()}
    if depth < _DEPTH and isinstance(value, list | tuple):
        return [make_plain(inner, depth + 1) for inner in value]
    return repr(value)


def is_long(sections: list[tuple[str, str]]) -> bool:
    """Whether captured output must be cut even though its report might fit into a frame."""
    return sum(len(text) for _, text in sections) > OUTPUT_LIMIT


def clip_report(data: Mapping[str, object], representation: str) -> dict[str, object]:
    """A serialised report that fits into a frame.

    Args:
        data: What `pytest_report_to_serializable` made.
        representation: The report's traceback as one text, for the case that its parts are too long.
    """
    plain = {str(key): make_plain(value) for key, value in data.items()}
    sections = plain.get("sections")
    if isinstance(sections, list):
        plain["sections"] = _clip_sections(sections)
    if _length(plain.get("longrepr")) > REPRESENTATION_LIMIT:
        plain["longrepr"] = clip_text(representation, REPRESENTATION_LIMIT)
    for key, value in plain.items():
        if key not in ("sections", "longrepr") and _length(value) > PROPERTIES_LIMIT:
            plain[key] = _cut(key, value)
    return plain


def _cut(key: str, value: object) -> object:
    if isinstance(value, str):
        return clip_text(value, PROPERTIES_LIMIT)
    note = f"kernelproof cut {key}: more than {PROPERTIES_LIMIT} bytes"
    return [["kernelproof-cut", note]] if key == "user_properties" else note


def _clip_sections(sections: list[object]) -> list[object]:
    budget = OUTPUT_LIMIT
    clipped: list[object] = []
    # The latest output matters most: earlier phases get what it leaves.
    for section in reversed(sections):
        name, text = _section(section)
        text = clip_text(text, max(budget, 1024))
        budget -= _length(text)
        clipped.append([name, text])
    return clipped[::-1]


def _section(section: object) -> tuple[str, str]:
    if isinstance(section, list) and len(section) == 2:
        return str(section[0]), str(section[1])
    return "section", str(section)


def _length(value: object) -> int:
    return len(json.dumps(value))
