"""What becomes of an item whose machine was lost: a pytest error of the setup phase, with the kernel log.

The test neither passed nor failed: it is broken, and the next one is not touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pytest

from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import GuestError, MachineLost

# Characters of the kernel log in a report: a panic begins with its cause, the stacks of all tasks take about 48 KiB,
# and the scheduler's tables that may follow are of less use.
LOG_HEAD, LOG_TAIL = 64 * 1024, 8 * 1024


@dataclass(frozen=True, slots=True)
class Loss:
    """Why an item has no result.

    Args:
        kind: One of `errors.LOST_KINDS`, or `session` (no machine could be made ready), `collect` (the guest does not
            have the item), `hook` (a plugin failed in the guest).
        text: What happened and what to do about it, safe to show.
        log: The end of the kernel log, safe to show.
    """

    kind: str
    text: str
    log: str = ""

    @classmethod
    def from_error(cls, kind: str, error: Exception) -> Self:
        """The loss that an error of ours means."""
        text = f"{error}\n{error.text}" if isinstance(error, GuestError) else str(error)
        return cls(kind, escape_text(text), error.log if isinstance(error, MachineLost) else "")

    def again(self) -> Loss:
        """The same for the items that follow: its first line only."""
        first = self.text.split("\n", 1)[0]
        return Loss(self.kind, first if first.endswith(_SEE_ABOVE) else f"{first}{_SEE_ABOVE}")


_SEE_ABOVE = " (told in full at the first test that needed this machine)"


def shorten_log(log: str) -> str:
    """The beginning and the end of a long log, the second much shorter."""
    if len(log) <= LOG_HEAD + LOG_TAIL:
        return log
    return f"{log[:LOG_HEAD]}\n[... {len(log) - LOG_HEAD - LOG_TAIL} characters left out ...]\n{log[-LOG_TAIL:]}"


def broken_reports(
    item: pytest.Item, identity: Mapping[str, object], loss: Loss, wall_seconds: float
) -> list[dict[str, object]]:
    """The serialised reports of a broken item: a failed setup and its tear-down.

    Args:
        item: The item.
        identity: Node id, location and keywords as its reports bear them.
        loss: What happened.
        wall_seconds: How long it took.
    """
    path, line, _ = item.location
    crash = {"path": path, "lineno": (line or 0) + 1, "message": loss.text.split("\n", 1)[0]}
    entry = {"type": "ReprEntryNative", "data": {"lines": [f"{loss.text}\n"]}}
    longrepr = {
        "reprcrash": crash,
        "reprtraceback": {"reprentries": [entry], "extraline": None, "style": "native"},
        "sections": [],
        "chain": None,
    }
    now = time.time()
    sections = [("Kernel log", shorten_log(loss.log))] if loss.log else []
    times = {"start": now - wall_seconds, "stop": now}
    common = {**identity, "$report_type": "TestReport", "user_properties": [], **times}
    return [
        {
            **common,
            "when": "setup",
            "outcome": "failed",
            "longrepr": longrepr,
            "sections": sections,
            "duration": wall_seconds,
        },
        {**common, "when": "teardown", "outcome": "passed", "longrepr": None, "sections": [], "duration": 0.0},
    ]
