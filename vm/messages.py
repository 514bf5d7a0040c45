"""Judges what the guest says: data of known kinds and shapes, rebuilt value by value. Pure.

The guest is not trusted. Nothing here executes, imports or opens what it names; what is not due is a `ChannelError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kernelproof.vm.errors import ChannelError

Plain: TypeAlias = bool | int | float | str | list["Plain"] | dict[str, "Plain"] | None

MAX_DEPTH = 48  # of nested lists and objects; pytest's serialised tracebacks need about 12
MAX_CONVERSATION = (
    64 * 1024 * 1024
)  # bytes of messages in answer to one request; files that are pulled are bounded apart

_REMEDY = "run the test alone with --kernel; if it repeats, report it: a guest may not break the protocol"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What may answer a kind of message: any number of `more`, then one of `final`."""

    final: tuple[str, ...]
    more: tuple[str, ...] = ()


CONVERSATIONS: Mapping[str, Conversation] = {
    "ping": Conversation(("pong",)),
    "exec": Conversation(("exec-result",)),
    "attend": Conversation(("attended",), more=("credit", "reset")),
    "call": Conversation(("call-result",)),
    "push": Conversation(("pushed",)),
    "pull": Conversation(("pulled",), more=("file",)),
    "session": Conversation(("collected", "session-over"), more=("report",)),
    "item": Conversation(("item-done", "session-over"), more=("report", "debugger", "failed")),
    "rehearse": Conversation(("rehearsed",)),
    "bytecode": Conversation(("compiled-all",), more=("compiled",)),
    "hello": Conversation(("hello",)),  # asked by nobody: the agent says it when it has booted
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The members that a kind of answer must have, by type. Others are kept: who asked judges them."""

    members: Mapping[str, type] = field(default_factory=dict)


SHAPES: Mapping[str, Shape] = {
    "hello": Shape({"protocol": int, "release": str, "python": str, "missing_modules": list, "missing_imports": list}),
    "error": Shape({"type": str, "text": str}),
    "exec-result": Shape({"returncode": int, "stdout_bytes": int, "stderr_bytes": int}),
    "call-result": Shape(),
    "attended": Shape({"returncode": int}),
    "credit": Shape({"stream": int, "bytes": int}),
    "reset": Shape({"stream": int}),
    "file": Shape({"path": str}),
    "pulled": Shape({"files": int}),
    "collected": Shape({"nodeids": list}),
    "report": Shape({"data": dict}),
}


def broken(detail: str) -> ChannelError:
    """The error for a guest that broke the protocol."""
    return ChannelError("read from guest", "channel", detail, _REMEDY)


def check_answer(message: Mapping[str, object], conversation: Conversation) -> tuple[dict[str, Plain], bool]:
    """The answer rebuilt from plain values, and whether it ends its conversation.

    Raises:
        ChannelError: a kind that is not due, a member missing or of another type, or a value that is not plain.
    """
    kind = message.get("kind")
    if not isinstance(kind, str):
        raise broken("a message without a kind")
    final = kind in conversation.final or kind == "error"
    if not final and kind not in conversation.more:
        raise broken(f"a message of kind {kind[:40]!r} came, due was one of {conversation.final + conversation.more}")
    answer = {_plain_text(name): rebuild(value) for name, value in message.items()}
    for name, wanted in SHAPES.get(kind, Shape()).members.items():
        if type(answer.get(name)) is not wanted:
            raise broken(f"{kind}: {name!r} is missing or no {wanted.__name__}")
    return answer, final


def rebuild(value: object, depth: int = 0) -> Plain:
    """A copy made of plain values only; text that is no Unicode (lone surrogates) is escaped.

    Raises:
        ChannelError: nested deeper than `MAX_DEPTH`, not finite, or of a type that JSON does not have.
    """
    if depth > MAX_DEPTH:
        raise broken(f"values nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list):
        return [rebuild(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_plain_text(name): rebuild(item, depth + 1) for name, item in value.items()}
    raise broken(f"a value that is not plain: {type(value).__name__}")


def _plain_text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_plain(value: object) -> None:
    """Refuse what would not reach the guest as it is: only None, bool, int, float, str, list and dict[str, …].

    Raises:
        TypeError: another type, or a key that is no string.
        ValueError: a float that is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} can't be sent to a guest")
    if value is None or type(value) in (bool, int, float, str):
        return
    if type(value) is list:
        for item in value:
            check_plain(item)
    elif type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"the key {name!r} is no string")
            check_plain(item)
    else:
        raise TypeError(f"a {type(value).__name__} can't be sent to a guest: plain JSON values only")
