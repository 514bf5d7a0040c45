"""The local side of a copy, its two ways, and a program that writes much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import pytest

from kernelproof.impl.term import (
    Ended,
    copy_terminal,
    copy_terminal_async,
)
from kernelproof.impl.tests.term.programs import script_argv

Copy = Callable[..., Ended]


def copy_by_asyncio(*arguments: int, **keywords: object) -> Ended:
    return asyncio.run(copy_terminal_async(*arguments, **keywords))  # type: ignore[arg-type]


both_ways = pytest.mark.parametrize("copy", [copy_terminal, copy_by_asyncio], ids=["poll", "asyncio"])


class Local(NamedTuple):
    """The local side: two pipes."""

    stdin: int
    typing: int  # write here what is typed
    stdout: int
    screen: int  # read here what is shown


def writer(count: int) -> list[str]:
    """A program that writes so many bytes."""
    return script_argv(
        f"import os\nleft = {count}\nwhile left: left -= os.write(1, b'0123456789abcdef' * min(4096, left // 16))"
    )
