"""Which options a kernel needs to run in a machine, and which of them one lacks. Pure but for `read_wanted`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_MODULE_NAMES = {"EXT4_FS": "ext4", "HW_RANDOM_VIRTIO": "virtio_rng"}  # modules that are not called like their option


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row of `kernel_options.toml`.

    Args:
        option: Without `CONFIG_`.
        needed: Whether a machine fails without it.
        module: Whether it may be a module.
        why: What is lost without it.
    """

    option: str
    needed: bool
    module: bool
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a configuration has of a row.

    Args:
        wanted: The row.
        seen: `y`, `m`, or an empty text.
        problem: Why that does not do; empty if it does.
        line: What to set; empty if nothing.
    """

    wanted: Wanted
    seen: str
    problem: str = ""
    line: str = ""


def parse_wanted(text: str) -> tuple[Wanted, ...]:
    """Parse `kernel_options.toml`.

    Raises:
        ValueError: no TOML, or a row that lacks a member or has another.
    """
    found = []
    for kind, rows in tomllib.loads(text).items():
        for row in rows:
            if kind not in ("needed", "advised") or not {"option", "why"} <= set(row) <= {"option", "module", "why"}:
                raise ValueError(f"kernel_options.toml: {kind}: {row}")
            found.append(Wanted(row["option"], kind == "needed", row.get("module", False), row["why"]))
    return tuple(found)


@cache
def read_wanted() -> tuple[Wanted, ...]:
    """The rows that come with this package."""
    return parse_wanted(files("kernelproof.vm").joinpath("kernel_options.toml").read_text("utf-8"))


def parse_config(text: str) -> Mapping[str, str]:
    """The options that are set in a `.config`, without `CONFIG_`, each with its value."""
    return {match[1]: match[2] for match in map(_SET.fullmatch, text.splitlines()) if match}


def judge_options(
    options: Mapping[str, str], modules: Iterable[str] | None, wanted: Iterable[Wanted]
) -> tuple[Verdict, ...]:
    """What a configuration has of each row, in their order.

    Args:
        options: As `parse_config` gives them.
        modules: The names of the modules that come with the kernel; None if no folder of modules was named.
        wanted: The rows.
    """
    known = None if modules is None else {name.replace("-", "_") for name in modules}
    return tuple(_judge(row, options.get(row.option, ""), known) for row in wanted)


def _judge(row: Wanted, value: str, modules: set[str] | None) -> Verdict:
    seen = value if value in ("y", "m") else ""
    line = f"CONFIG_{row.option}=y"
    if seen == "y":
        return Verdict(row, seen)
    if seen == "m" and row.module:
        name = _MODULE_NAMES.get(row.option, row.option.lower())
        if modules is not None and name in modules:
            return Verdict(row, seen)
        problem = "a module, and no modules are given" if modules is None else f"its module {name} is not given"
        return Verdict(row, seen, problem, f"{line}, or --modules with it")
    problem = "a module: it is needed before any can be loaded" if seen == "m" else "not set"
    return Verdict(row, seen, problem, line)


def describe_missing(verdicts: Iterable[Verdict]) -> tuple[str, str]:
    """What a kernel lacks that a machine needs, and the lines to set; two empty texts if nothing."""
    lacking = [verdict for verdict in verdicts if verdict.problem and verdict.wanted.needed]
    problems = "; ".join(f"CONFIG_{item.wanted.option}: {item.problem} ({item.wanted.why})" for item in lacking)
    return problems, ", ".join(item.line for item in lacking)
