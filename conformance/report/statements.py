"""What a report says of a documented statement, beside results: as the catalogue and the test's file have it.

The reader of the catalogue fills it in; this package knows no catalogue.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_PLACE = re.compile(r"[a-z_0-9]+\(\)(?:(?:,? and [a-z_0-9]+\(\))? in [\w.-]+(?:/[\w.-]+)+\.[chS])?")
_FILE = re.compile(r"\b(?:[\w.-]+/)+[\w.-]+\.[chS]\b")
_COMMIT = re.compile(r"\b(?:commit )?([0-9a-f]{12,40})\b")


class KnownDeviation(NamedTuple):
    """What kernels do instead of the documented.

    Args:
        kernels: The range, as the catalogue writes it.
        on: The names of the kernels of this report that are in it.
        seen: The exact value.
        reason: Why, where known.
        witness: The reproducer's path, for people and for `kernelproof run`.
        source: The reproducer's text.
        since: Since when, and until when if it is over, in words.
        profile: The kind of machine that it needs.
    """

    kernels: str
    on: tuple[str, ...]
    seen: Any
    reason: str
    witness: str
    source: str
    since: str
    profile: str = "plain"

    @property
    def command(self) -> str:
        """What runs the witness, on the first kernel that does otherwise."""
        profile = "" if self.profile == "plain" else f" --profile {self.profile}"
        return f"kernelproof run --kernel {self.on[0] if self.on else 'all'}{profile} -- python3 {self.witness}"

    @property
    def places(self) -> tuple[str, ...]:
        """Functions and files of the kernel, and commits, that the reason names."""
        found = [match[0] for match in _PLACE.finditer(self.reason)]
        found += [path for path in _FILE.findall(self.reason) if not any(path in place for place in found)]
        return (*dict.fromkeys(found), *(f"commit {commit}" for commit in _COMMIT.findall(self.reason)))


class SuiteTest(NamedTuple):
    """The test of a statement.

    Args:
        path: Of its file, from the project's root.
        line: Where it begins.
        function: Its name.
        text: Its source.
    """

    path: str
    line: int
    function: str
    text: str


class Statement(NamedTuple):
    """One documented statement.

    Args:
        id: Its stable name.
        statement: What the document promises.
        source: Document and section.
        subsystem: The part of the catalogue that it stands in.
        of: "kernel", "userland" or "runtime".
        kernels: Where it is meant to hold; None: everywhere.
        outside: The names of the kernels of this report where it is not meant to hold.
        needs: What must be there.
        since, note, suspected: For people; None where there is none.
        deviations: What known kernels do instead.
        tests: Its tests: one, and one more for each peer; empty while it is planned.
    """

    id: str
    statement: str
    source: str
    subsystem: str
    of: str = "kernel"
    kernels: str | None = None
    outside: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    since: str | None = None
    note: str | None = None
    suspected: str | None = None
    deviations: tuple[KnownDeviation, ...] = ()
    tests: tuple[SuiteTest, ...] = ()

    @property
    def topic(self) -> str:
        """The id's first two words."""
        return self.id.rpartition(".")[0]
