"""Which names are valid by which rules."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.user import is_valid_name, name_problems


@pytest.mark.parametrize(
    ("name", "common", "useradd", "strict", "relaxed"),
    [
        ("ada", True, True, True, True),
        ("a" * 31, True, True, True, True),
        ("a" * 32, False, True, False, True),
        ("a" * 256, False, True, False, True),
        ("a" * 257, False, False, False, True),
        ("Ada", False, True, True, True),
        ("_ada", False, True, True, True),
        ("ada_1", False, True, True, True),
        ("ada.lovelace", False, True, False, True),
        ("host$", False, True, False, True),
        ("ho$t", False, False, False, True),
        ("-ada", False, False, False, True),
        ("1ada", False, True, False, True),
        ("1000", False, False, False, False),
        ("-1000", False, False, False, False),
        (".", False, False, False, False),
        ("..", False, False, False, False),
        ("ada lovelace", False, False, False, True),
        (" ada", False, False, False, False),
        ("ada:x", False, False, False, False),
        ("a/b", False, False, False, False),
        ("a\x01b", False, False, False, False),
        ("a\x85b", False, False, False, False),
        ("ad\u00e9", False, False, False, True),
        ("a\udce9", False, False, False, False),
        ("", False, False, False, False),
    ],
)
def test_rules(name: str, common: bool, useradd: bool, strict: bool, relaxed: bool) -> None:
    """Each set of rules takes and refuses what its document says."""
    found = [is_valid_name(name, rules) for rules in ("common", "useradd", "strict", "relaxed")]
    assert found == [common, useradd, strict, relaxed]


@given(st.text(max_size=40))
def test_common_core_is_valid_everywhere(name: str) -> None:
    """What the common rules take is what the document's pattern takes, and every other set takes it too."""
    assert is_valid_name(name) == bool(re.fullmatch("[a-z][a-z0-9-]{0,30}", name))
    if is_valid_name(name):
        assert all(is_valid_name(name, rules) for rules in ("useradd", "strict", "relaxed"))


def test_problems_are_all_named() -> None:
    """All that is wrong with a name is said at once."""
    assert name_problems("1 x") == ("it holds ' '", "it does not begin with a small letter")
    assert name_problems("-5", "relaxed") == ("it is a dash and a number",)
    assert name_problems("") == ("it is empty",)
    with pytest.raises(LookupError, match="no rules 'posix'"):
        name_problems("x", "posix")
