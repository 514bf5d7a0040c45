"""What a test saw: the value that the kernel gave, recorded before it is asserted.

    assert seen(first_line(path)) == "0::/"
    assert seen.errno_of(mount, "none", target, "tmpfs") == "EPERM"

The last value recorded is the one a deviation is matched with, so record right before the assertion.

Peers do the same work in the same machine, and what comes of it is kept beside the test's own answer:

    with seen.beside("runc"):
        assert seen(ask("runc")) == 1

Nothing that happens in there fails the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import errorcode
from typing import Any, TypeVar

import pytest

NO_ERROR = "no error"  # what `errno_of` gives when the kernel did as it was told

_REASON_LIMIT = 2000  # characters of a peer's reason
_Value = TypeVar("_Value")


class Seen:
    """Records values; a fixture gives one to a test."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._peers: dict[str, dict[str, Any]] = {}
        self.wanted_peers: tuple[str, ...] = ()  # whom the host asks for

    def __call__(self, value: _Value, /) -> _Value:
        """Record a value as JSON and return it as it was given.

        An OSError is recorded as its errno's name, bytes as text with escapes, paths and other objects by `str`.
        """
        self._values.append(plain_value(value))
        return value

    def errno_of(self, call: Callable[..., object], /, *arguments: object, **keywords: object) -> str:
        """Call, record and return the name of the errno that the kernel refused with, or "no error"."""
        try:
            call(*arguments, **keywords)
        except OSError as error:
            answer = errno_name(error)
        else:
            answer = NO_ERROR
        return self(answer)

    @contextmanager
    def beside(self, peer: str) -> Iterator[None]:
        """Keep what is recorded, and what fails, as a peer's."""
        own, self._values = self._values, []
        reason = None
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 -- whatever a peer does, it fails nothing
            reason = _clipped(f"{type(error).__name__}: {error}")
        finally:
            answer = {"outcome": "pass" if reason is None else "fail", "reason": reason, "seen": self.last}
            self._peers[peer] = answer
            self._values = own

    @property
    def peers(self) -> dict[str, dict[str, Any]]:
        """What became of each peer: {"outcome": "pass" or "fail", "reason", "seen"}."""
        return self._peers

    @property
    def last(self) -> Any:
        """The value recorded last as JSON data; None before the first."""
        return self._values[-1] if self._values else None


_KEY = pytest.StashKey[Seen]()


def attach(item: pytest.Item) -> Seen:
    """Return the item's recorder, made when first asked."""
    return item.stash.setdefault(_KEY, Seen())


def last_seen(item: pytest.Item) -> Any:
    """Return what the item's test recorded last; None when it recorded nothing."""
    recorder = item.stash.get(_KEY, None)
    return None if recorder is None else recorder.last


def last_peers(item: pytest.Item) -> dict[str, dict[str, Any]]:
    """Return what became of the peers of an item's test; empty where it asked none."""
    recorder = item.stash.get(_KEY, None)
    return {} if recorder is None else recorder.peers


def _clipped(text: str) -> str:
    return text if len(text) <= _REASON_LIMIT else text[:_REASON_LIMIT] + "…"


def errno_name(error: OSError) -> str:
    """Return the name of an error's number: "EINVAL"; a number without a name as digits."""
    return errorcode.get(error.errno or 0, str(error.errno))


def plain_value(value: object) -> Any:
    """Return a value as JSON data: what a results file and a deviation hold."""
    if value is None or isinstance(value, bool | float | str):
        return _plain_text(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, OSError):
        return errno_name(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain_value(item) for item in value]
        return sorted(items, key=format_value) if isinstance(value, set | frozenset) else items
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    # A member of StrEnum is a text too; lone surrogates of file names fit no results file.
    return str(text).encode("utf-8", "backslashreplace").decode()


def format_value(value: object) -> str:
    """Return plain data as a witness prints it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
