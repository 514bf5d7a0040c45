"""Fixtures that are set up once, before the snapshot: all machines of a run begin with what they made.

    @kernelproof.snapshot_fixture
    def image():
        return build_a_costly_image()

On a host without machines it is an ordinary fixture of the session. What it returns, writes or starts is in every
clone; its part behind a `yield` runs in each of them, after the test.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

_MARK = "_kernelproof_before_snapshot"


def snapshot_fixture(function: Callable[..., Any]) -> Any:
    """Make a session fixture that is set up once, before the snapshot from which each test's machine is cloned."""
    setattr(function, _MARK, True)
    return pytest.fixture(scope="session")(function)


def set_up_for_snapshot(session: pytest.Session) -> bool:
    """Set up those fixtures that any item uses, and say whether there are any.

    One that fails fails again, with the same traceback, in every item. The fixtures that they use themselves must be
    the session's, as with all session fixtures.
    """
    done: set[str] = set()
    for item in session.items:
        wanted = [name for name in marked_names(item) if name not in done]
        if wanted:
            done.update(wanted)
            _set_up(session, cast("pytest.Function", item), wanted)
    return bool(done)


def marked_names(item: pytest.Item) -> list[str]:
    """The names of the fixtures that an item uses and that are set up before the snapshot."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return []
    return [
        name
        for name, definitions in info.name2fixturedefs.items()
        if any(getattr(definition.func, _MARK, False) for definition in definitions[-1:])
    ]


def _set_up(session: pytest.Session, item: pytest.Function, names: list[str]) -> None:
    session._setupstate.setup(cast("pytest.Item", session))  # of all that could be set up, the session alone
    item._initrequest()
    for name in names:
        with suppress(Exception, pytest.fail.Exception, pytest.skip.Exception):  # kept by pytest: every item tells it
            item._request.getfixturevalue(name)
    item._initrequest()
