"""What subcommands call, recorded in place of libcontainer's own functions."""

from __future__ import annotations

import os
from typing import Any, NamedTuple


class Calls(NamedTuple):
    """What was called in place of libcontainer's own functions."""

    seen: list[tuple[tuple[object, ...], dict[str, object]]]

    def __call__(self, *values: object, **named: object) -> Any:
        """Notes a call; what comes back has a pidfd."""
        self.seen.append((values, named))
        return Started(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class Started(NamedTuple):
    """In place of lifecycle.Started."""

    pidfd: int
    refused: tuple[str, ...] = ()
