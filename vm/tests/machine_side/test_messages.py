"""What the guest says is judged as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.errors import ChannelError
from kernelproof.vm.messages import CONVERSATIONS, MAX_DEPTH, SHAPES, check_answer, check_plain, rebuild

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_are_rebuilt(value: object) -> None:
    """A plain value is rebuilt as an equal one that shares nothing mutable; it may be sent as well."""
    copy = rebuild(value)
    assert copy == value
    if isinstance(value, list | dict):
        assert copy is not value
    check_plain(value)


def test_last_answer() -> None:
    """A final kind ends a conversation, an error ends any, a middle one does not."""
    item = CONVERSATIONS["item"]
    assert check_answer({"kind": "report", "data": {}}, item) == ({"kind": "report", "data": {}}, False)
    assert check_answer({"kind": "item-done"}, item)[1]
    assert check_answer({"kind": "error", "type": "E", "text": "t"}, item)[1]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": None},
        {"kind": ["pong"]},
        {"kind": "collected", "nodeids": []},
        {"kind": "dance"},
        {"kind": "x" * 1000},
    ],
    ids=str,
)
def test_kind_that_is_not_due(message: dict[str, object]) -> None:
    """A kind that does not answer what was asked is refused."""
    with pytest.raises(ChannelError, match="kind"):
        check_answer(message, CONVERSATIONS["ping"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("exec", {"kind": "exec-result", "returncode": 0, "stdout_bytes": 1}),
        ("exec", {"kind": "exec-result", "returncode": "0", "stdout_bytes": 1, "stderr_bytes": 1}),
        ("exec", {"kind": "exec-result", "returncode": True, "stdout_bytes": 1, "stderr_bytes": 1}),
        ("item", {"kind": "report", "data": []}),
        ("pull", {"kind": "file", "path": 3}),
        ("ping", {"kind": "error", "type": "E"}),
    ],
)
def test_member_of_the_wrong_type(asked: str, message: dict[str, object]) -> None:
    """An answer whose member is missing or of another type is refused; true is no number."""
    with pytest.raises(ChannelError, match="is missing or no"):
        check_answer(message, CONVERSATIONS[asked])


def test_lone_surrogates() -> None:
    """Text that can't be written as UTF-8 is escaped, in keys too."""
    assert rebuild({"a\udcff": ["\ud800"]}) == {"a\\udcff": ["\\ud800"]}


def test_depth() -> None:
    """Values nested too deeply are refused without exhausting the host's stack."""
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert rebuild(value) == value
    with pytest.raises(ChannelError, match="nested deeper"):
        rebuild([value])


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), b"x", object(), (1,)],
    ids=["nan", "minus-infinity", "bytes", "object", "tuple"],
)
def test_value_that_is_not_plain(value: object) -> None:
    """What JSON does not have is refused in both directions."""
    with pytest.raises(ChannelError, match="not plain"):
        rebuild(value)
    with pytest.raises((TypeError, ValueError), match="can't be sent"):
        check_plain([{"deep": value}])


def test_key_that_is_no_text() -> None:
    """A key that is no text would come back as another: it is not sent."""
    with pytest.raises(TypeError, match="no string"):
        check_plain({1: 2})


def test_every_shape_is_of_a_known_kind() -> None:
    """Each shape belongs to a kind that some conversation has."""
    kinds = {kind for conversation in CONVERSATIONS.values() for kind in conversation.final + conversation.more}
    assert set(SHAPES) <= kinds | {"error"}
