"""JSON text: what is cut off, too large or doubled is seen, with its place; what is written can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.libcontainer.config import jsontext
from kernelproof.impl.libcontainer.config.jsontext import Fraction, Members, format_value, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "nothing is there"),
        (b" \n ", "nothing is there"),
        (b'{"a":', "line 1, column 6: a value is missing; the text is cut off there"),
        (b'{"a": 1', "cut off there"),
        (b'{\n "a": 1,\n "b" 2}', "line 3, column 6: expecting ':' delimiter"),
        (b'"abc', "unterminated string"),
        (b"[1,]", "column 4"),
        (b"1 2", "line 1, column 3: text after the end of the document"),
        (b'{"a": "\xff"}', "byte 8 is no UTF-8"),
        (b"\xef\xbb\xbf{}", "column 1"),
        (b"[" * 200_000, "too many levels"),
        (b"1" * 5_000, "thousands of digits"),
        (b'{"a": "\x01"}', "control character"),
        (b"{'a': 1}", "property name"),
        (b"\0", "column 1"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_text_that_is_no_json_is_refused_with_its_place(text: bytes, said: str) -> None:
    """Each way to be no JSON is a ValueError that says where, and no other error."""
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_what_is_too_large_is_refused_before_it_is_parsed() -> None:
    """A document above the bound is not looked at; one at the bound is."""
    with pytest.raises(ValueError, match="more than 10 are not read"):
        parse(b"[1,2,3,4,5]", most_bytes=10)
    assert parse(b"[1,2,3,45]", most_bytes=10) == [1, 2, 3, 45]


@pytest.mark.parametrize("text", ["1.5", "1e3", "-0.0", "NaN", "Infinity", "1E400"])
def test_a_number_that_is_no_integer_keeps_its_text(text: str) -> None:
    """Fractions, exponents and what is no number are never rounded."""
    value = parse(text)
    assert isinstance(value, Fraction)
    assert value == text


def test_doubled_names_are_kept_in_mind() -> None:
    """An object with doubled names says which; its last values count. Others are plain dicts."""
    value = parse('{"a": 1, "b": {"c": 2, "c": 3}, "a": 4, "a": 5}')
    assert isinstance(value, Members)
    assert value == {"a": 5, "b": {"c": 3}}
    assert value.doubled == ("a",)
    inner = value["b"]
    assert isinstance(inner, Members)
    assert inner.doubled == ("c",)
    assert type(parse("{}")) is dict


@pytest.mark.parametrize("number", [(1 << 64) - 1, -(1 << 63), 0, 10**300])
def test_integers_come_through_in_full(number: int) -> None:
    """No integer passes through a float."""
    assert parse(str(number)) == number


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    """format_value and parse are each other's inverse, and the standard library reads the same."""
    for indent in (None, 0, 2, 4):
        text = format_value(value, indent)
        assert parse(text) == value == json.loads(text)
        assert text.isascii()


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()[:-1]))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever is given, the answer is a value or a ValueError."""
    try:
        value = parse(data)
    except ValueError:
        value = None
    else:
        assert value == json.loads(data, parse_float=str, parse_constant=str)


@pytest.mark.parametrize("value", [{1, 2}, object, float("nan"), float("inf"), b"x"], ids=repr)
def test_what_is_no_json_is_not_written(value: object) -> None:
    """A value that JSON does not have is a ValueError."""
    with pytest.raises(ValueError, match="no JSON value"):
        format_value([value])


def test_reading_loads_no_regular_expressions() -> None:
    """Parsing and writing in a new interpreter import neither json nor re; a syntax error may."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from kernelproof.impl.libcontainer.config import jsontext as j;"
        "assert j.parse(j.format_value({'a': [1]})) == {'a': [1]};"
        "print(sorted({'json', 're', 'typing', 'collections', 'enum'} & set(sys.modules)))"
    )
    root = jsontext.__file__.partition("/kernelproof/")[0]
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, root], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"
