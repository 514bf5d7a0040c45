"""The formats of interface files, as text and back. Pure.

cgroup-v2.rst, section Interface Files, names them: new-line separated values, space separated values, flat keyed and
nested keyed. Version 1 uses the same ones without naming them. `max` stands for no limit.
"""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import FormatError

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

MAX: Final = -1  # "max" in a file: no limit
V1_UNLIMITED_BYTES: Final = (
    1 << 62
)  # version 1 has no word for no limit: 2**63 rounded down to pages, whatever their size

_LONG = 200  # cgroup.events and its like are shorter, memory.stat is longer

NestedKeyed = dict[str, dict[str, int]]


def parse_value(text: str, file: str = "") -> int:
    """One number; `max` is MAX.

    Args:
        text: the file's content.
        file: its name, for the error.

    Raises:
        FormatError: neither a number nor `max`.

    Source: cgroup-v2.rst, Interface Files, Conventions.
    """
    word = text.strip()
    if word == "max":
        return MAX
    if not _is_number(word):
        raise FormatError(file, text, "not a number and not max")
    return int(word)


def format_value(value: int) -> str:
    """The word of a number; a negative one is `max`."""
    return "max" if value < 0 else str(value)


def parse_words(text: str) -> tuple[str, ...]:
    """Space separated values, as in `cgroup.controllers`."""
    return tuple(text.split())


def parse_numbers(text: str, file: str = "") -> tuple[int, ...]:
    """New-line separated numbers, as in `cgroup.procs`.

    Raises:
        FormatError: a line is no number.
    """
    words = text.split()
    for word in words:
        if not _is_number(word):
            raise FormatError(file, word, "not a number")
    return tuple(map(int, words))


def parse_flat(text: str, file: str = "") -> dict[str, int]:
    """Flat keyed: each line a key and a number.

    Tabs and white space around a line are tolerated; a key that comes twice is kept as it was last.

    Raises:
        FormatError: a line is no pair, or its value no number.

    Source: cgroup-v2.rst, Interface Files, Format.
    """
    if len(text) > _LONG and _is_regular(text):  # measured: all at once takes two thirds of the time of line by line
        words = text.split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))
    found = {}
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not (_is_number(words[1]) or words[1] == "max"):
            raise FormatError(file, line, "not a key and a number")
        found[words[0]] = MAX if words[1] == "max" else int(words[1])
    return found


def _is_regular(text: str) -> bool:
    import re  # measured: 3 ms, and short files need none of it

    return re.fullmatch(r"(?:\S+ [0-9]+\n)+", text) is not None


def parse_nested(text: str, file: str = "") -> NestedKeyed:
    """Nested keyed: each line a key and pairs `name=number`; a line without pairs is an empty record.

    Raises:
        FormatError: a pair is none, or its value no number.

    Source: cgroup-v2.rst, Interface Files, Format.
    """
    found: NestedKeyed = {}
    for line in text.splitlines():
        key, *pairs = line.split() or [""]
        if not key:
            continue
        record = found.setdefault(key, {})
        for pair in pairs:
            name, equals, word = pair.partition("=")
            if not equals or not (_is_number(word) or word == "max"):
                raise FormatError(file, line, f"{pair!r} is not name=number")
            record[name] = MAX if word == "max" else int(word)
    return found


def format_nested(key: str, values: Mapping[str, int]) -> str:
    """One line of a nested keyed file."""
    return " ".join((key, *(f"{name}={format_value(value)}" for name, value in values.items())))


def parse_list(text: str, file: str = "") -> tuple[int, ...]:
    """CPUs or memory nodes as the kernel lists them: `0-2,4,6-10:2/4`.

    Args:
        text: the list; an empty one is no number at all.
        file: its name, for the error.

    Returns:
        The numbers, ascending, each once.

    Raises:
        FormatError: not such a list, or a range that runs backwards.

    Source: cpuset(7), List format.
    """
    numbers: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        span, colon, group = part.strip().partition(":")
        first, dash, last = span.partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise FormatError(file, text, f"{part!r} is no number and no range")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise FormatError(file, text, f"the range {part!r} runs backwards")
        if high - low > 1 << 20:
            raise FormatError(file, text, f"the range {part!r} is longer than any machine")
        used, size = (1, 1)
        if colon:
            left, slash, right = group.partition("/")
            if not (slash and _is_number(left) and _is_number(right) and 0 < int(left) <= int(right)):
                raise FormatError(file, text, f"{part!r} has no used/group behind its colon")
            used, size = int(left), int(right)
        numbers.update(number for number in range(low, high + 1) if (number - low) % size < used)
    return tuple(sorted(numbers))


def format_list(numbers: Iterable[int]) -> str:
    """Numbers as the kernel lists them: ascending, ranges with a dash.

    >>> format_list([4, 0, 1, 2])
    '0-2,4'
    """
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def _is_number(word: str) -> bool:
    # int() takes more than the kernel writes: underscores, other scripts' digits, white space.
    return word.isascii() and (word[1:] if word[:1] == "-" else word).isdigit()
