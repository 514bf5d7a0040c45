"""Which kernels there are, and which of them a word means. Pure but for `read_rows`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.errors import ProvisionError


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A series of kernels that is known.

    Args:
        series: The first two numbers of its releases.
        suites: Where it is: groups of suites, tried in order; in a group the newest build wins.
        why: What the row is there for.
    """

    series: str
    suites: tuple[tuple[str, ...], ...]
    why: str


@dataclass(frozen=True, slots=True)
class KernelTable:
    """What `kernels.toml` says of a distribution.

    Args:
        flavour: The end of the packages' names.
        default: The series that is taken when none is named.
        roles: Words for series: `oldest`, `stable`, `newest`.
        rows: The series, oldest first.
        also: Names of packages that are taken beside where they are there, with `{release}` in them.
        tried: Whether anyone has run machines on a host of this distribution.
        distribution: Its name.
    """

    flavour: str
    default: str
    roles: tuple[tuple[str, str], ...]
    rows: tuple[KernelRow, ...]
    also: tuple[str, ...] = ()
    tried: bool = True
    distribution: str = "debian"

    def row(self, series: str) -> KernelRow:
        """The row of a series.

        Raises:
            LookupError: there is none.
        """
        for row in self.rows:
            if row.series == series:
                return row
        raise LookupError(f"no kernel series {series}")


def parse_tables(text: str) -> Mapping[str, KernelTable]:
    """Parse `kernels.toml`: a table a distribution, by its name.

    Raises:
        ValueError: it is no TOML, lacks a key, or a role or the default names no row.
    """
    return {name: _parse_table(name, data) for name, data in tomllib.loads(text).items()}


def _parse_table(name: str, data: Mapping[str, Any]) -> KernelTable:
    try:
        rows = tuple(
            KernelRow(row["series"], tuple(tuple(group) for group in row["suites"]), row["why"])
            for row in data["kernel"]
        )
        roles, also = tuple(data["roles"].items()), tuple(data["also"])
        table = KernelTable(data["flavour"], data["default"], roles, rows, also, data["tried"], name)
        for series in (table.default, *(series for _, series in table.roles)):
            table.row(series)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"kernels.toml: {name}: {error}") from error
    return table


@cache
def read_tables() -> Mapping[str, KernelTable]:
    """All tables that come with this package."""
    return parse_tables(files("kernelproof.vm").joinpath("kernels.toml").read_text("utf-8"))


@cache
def read_rows() -> KernelTable:
    """The table of this host's distribution."""
    return read_tables()[read_distribution().name]


def select_kernels(text: str, table: KernelTable | None = None) -> tuple[str, ...]:
    """The series that `text` means, in the order of the table, each once.

    Args:
        text: Words between commas: a series (`6.12`), a prefix of whole numbers (`6` or `6.1`, which is never 6.12), a
            release (`6.12.43`), a role (`oldest`, `stable`, `newest`), `default`, or `all`.
        table: What is known; that of this host's distribution if None.

    Raises:
        ProvisionError: a word means none of them.
    """
    known = read_rows() if table is None else table
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise _unknown("", known)
    wanted = {series for word in words for series in _select(word, known)}
    return tuple(row.series for row in known.rows if row.series in wanted)


def _select(word: str, table: KernelTable) -> Sequence[str]:
    if word == "all":
        return [row.series for row in table.rows]
    word = dict(table.roles).get(word, table.default if word == "default" else word)
    parts = word.split(".")
    found = [row.series for row in table.rows if row.series.split(".")[: len(parts)] == parts[:2]]
    if not found or not all(part.isdecimal() for part in parts):
        raise _unknown(word, table)
    return found


def _unknown(word: str, table: KernelTable) -> ProvisionError:
    series = ", ".join(row.series for row in table.rows)
    roles = ", ".join(f"{role} ({series})" for role, series in table.roles)
    return ProvisionError(
        "choose kernels", repr(word), "not known", f"name one of {series}; or a role: {roles}; or `all`, between commas"
    )
