"""Reading all at once, quickly, or piece by piece is the same."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.user import (
    GROUP,
    LINE_LIMIT,
    PASSWD,
    Diagnostic,
    Group,
    Parsed,
    User,
    iterate,
    parse_group,
    parse_passwd,
)
from kernelproof.impl.user.tables import Reader

LINES = st.lists(
    st.one_of(
        st.text(alphabet="ab:0159,#+- \t\r\0\xe9\u0663_x", max_size=24),
        st.builds(
            "{}:x:{}:{}:{}".format,
            st.sampled_from(["ada", "bob", "7", "", " ada", "#c", "-x", "é"]),
            st.sampled_from(["0", "5", "007", "4294967294", "4294967295", "", "x", "+1", "9" * 5000]),
            st.sampled_from(["0", "5", "05", "5\r", ""]),
            st.sampled_from(["::", "", "g:h:s:t", "a,,b", ":\r"]),
        ),
    ),
    max_size=12,
).map("\n".join)


@given(LINES)
def test_every_line_is_an_entry_or_said(text: str) -> None:
    """Each line that is neither blank nor a comment is an entry, a diagnostic, or both; and no id is out of range."""
    parsed: Parsed[User] | Parsed[Group]
    for parsed in (parse_passwd(text), parse_group(text)):
        used = {entry.line for entry in parsed}
        said = {each.line for each in parsed.diagnostics}
        for number, line in enumerate(text.split("\n"), 1):
            content = line.strip(" \t\r")
            assert (number in used | said) == bool(content and not content.startswith("#"))
        assert not [each for each in parsed.diagnostics if each.kept and each.line not in used]
    for user in parse_passwd(text):
        assert 0 <= user.uid <= 2**32 - 2
        assert 0 <= user.gid <= 2**32 - 2
        assert user.name
        assert str(user.uid) == (user[0].split(":")[2].lstrip("0") or "0")


@given(LINES)
def test_quick_reading_is_the_careful_one(text: str) -> None:
    """Reading a block quickly gives what reading line by line gives."""
    readers = Reader(PASSWD, "t"), Reader(PASSWD, "t"), Reader(GROUP, "t"), Reader(GROUP, "t")
    for quick in readers[::2]:
        quick.take_block(text)
    for careful in readers[1::2]:
        for number, line in enumerate(text.split("\n"), 1):
            careful.take(line, number)
    assert readers[0].entries == readers[1].entries
    assert readers[2].entries == readers[3].entries
    assert readers[0].diagnostics == readers[1].diagnostics
    assert readers[2].diagnostics == readers[3].diagnostics


@given(LINES, st.integers(1, 7), st.booleans())
def test_streaming_is_reading_at_once(text: str, size: int, binary: bool) -> None:
    """A file object that gives a few bytes at a time reads as the whole text does."""
    source: io.BytesIO | io.StringIO = io.BytesIO(text.encode()) if binary else io.StringIO(text, newline="")

    class Slow:
        def read(self, _size: int, /) -> str | bytes:
            return source.read(size)

    found: list[Diagnostic] = []
    users = tuple(iterate(PASSWD, Slow(), "passwd data", report=found.append))
    whole = parse_passwd(text)
    assert users == whole.entries
    assert tuple(found) == whole.diagnostics


def test_file_object_without_data_is_not_its_end() -> None:
    """A file object that has nothing to read at the moment is an error, not the end of the file."""

    class Waiting:
        def read(self, _size: int, /) -> None:
            return None

    with pytest.raises(BlockingIOError, match="nothing to read now"):
        parse_passwd(Waiting())


def test_streaming_keeps_no_more_than_a_block() -> None:
    """Entries come while the file is still being read."""

    class Growing:
        def __init__(self) -> None:
            self.reads = 0

        def read(self, _size: int, /) -> bytes:
            self.reads += 1
            return b"ada:x:5:6:::\n"

    growing = Growing()
    users = iterate(PASSWD, growing)
    assert [next(users).uid for _ in range(50)] == [5] * 50
    assert growing.reads <= 51


def test_line_limit_is_a_megabyte() -> None:
    """A line of exactly the limit is read, one more character is not."""
    rest = ":x:1:1:::"
    assert len(parse_passwd("a" * (LINE_LIMIT - len(rest)) + rest)) == 1
    assert len(parse_passwd("a" * (LINE_LIMIT - len(rest) + 1) + rest)) == 0
    plain = "ann:x:5:5::/:\n"
    for surplus in (0, 1, 9):
        text = plain + "a" * (LINE_LIMIT - len(rest) + surplus) + rest + "\n" + plain
        assert len(parse_passwd(text)) == (3 if surplus == 0 else 2)
