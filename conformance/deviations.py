"""Deviations: the exact value that known kernels give in place of the documented one.

A deviation is believed only by value: the test must have recorded (`seen`) exactly the listed value, and the
*witness*, a small program on the standard library alone, run in the same machine, must print the same. Then, and only
then, the outcome is "deviation".

The witness prints one line: a text as it is, anything else as JSON.

What a peer does otherwise has the value alone: the peer's own command has shown it, nothing of the project between.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.kernel_ranges import KernelRange, Series, parse_range

_KEYS = ("kernels", "seen", "witness", "reason")
_PEER_KEYS = ("subject", "seen", "reason")
_WITNESS_LINES = 40


class Deviation(NamedTuple):
    """What a range of kernels does instead of the documented.

    Args:
        kernels: Which kernels.
        seen: The exact value: text, number, truth or a list of these.
        witness: The reproducer's file.
        source: The reproducer's text.
        reason: Why, where known: commit, place in the source.
    """

    kernels: KernelRange
    seen: Any
    witness: Path
    source: str
    reason: str


def deviation_on(deviations: tuple[Deviation, ...], series: Series) -> Deviation | None:
    """Return what is listed for a kernel, if anything."""
    return next((deviation for deviation in deviations if deviation.kernels.holds(series)), None)


class PeerDeviation(NamedTuple):
    """What a peer does instead of the documented.

    Args:
        subject: The peer.
        kernels: Where; None: everywhere.
        seen: The exact value, as for a `Deviation`.
        reason: Why, where known.
    """

    subject: str
    kernels: KernelRange | None
    seen: Any
    reason: str


def peer_deviation_on(deviations: tuple[PeerDeviation, ...], subject: str, series: Series) -> dict[str, Any] | None:
    """Return what is listed for a peer on a kernel as plain data, {"seen", "reason"}; None where nothing is."""
    for one in deviations:
        if one.subject == subject and (one.kernels is None or one.kernels.holds(series)):
            return {"seen": one.seen, "reason": one.reason}
    return None


def parse_peer_deviations(tables: object) -> tuple[tuple[PeerDeviation, ...], list[str]]:
    """Parse the `peers` of one entry; return them and every problem found."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return (), ["peers must be tables: [[behaviour.peers]]"]
    deviations: list[PeerDeviation] = []
    problems: list[str] = []
    for table in tables:
        wrong = _key_problems(table, (*_PEER_KEYS, "kernels"), _PEER_KEYS)
        try:
            kernels = parse_range(table["kernels"]) if "kernels" in table and not wrong else None
        except ValueError as error:
            wrong = [str(error)]
        if not wrong:
            deviations.append(PeerDeviation(table["subject"], kernels, table["seen"], table["reason"]))
        problems += [f"peer: {problem}" for problem in wrong]
    return tuple(deviations), problems


def parse_deviations(tables: object, *, folder: Path) -> tuple[tuple[Deviation, ...], list[str]]:
    """Parse the `deviations` of one entry; return them and every problem found.

    Args:
        tables: What TOML gave.
        folder: Where witnesses are looked for.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return (), ["deviations must be tables: [[behaviour.deviations]]"]
    deviations: list[Deviation] = []
    problems: list[str] = []
    for table in tables:
        wrong = _key_problems(table, _KEYS, _KEYS)
        if not wrong:
            try:
                deviations.append(_parse_deviation(table, folder))
            except ValueError as error:
                wrong = [str(error)]
        problems += [f"deviation: {problem}" for problem in wrong]
    return tuple(deviations), problems + _overlaps(deviations)


def _key_problems(table: dict[str, Any], known: tuple[str, ...], required: tuple[str, ...]) -> list[str]:
    problems = [f"unknown key {key!r}; known are {', '.join(known)}" for key in table if key not in known]
    problems += [f"has no {key}; add it" for key in required if key not in table]
    problems += [
        f"{key} must be a text that is not empty"
        for key in ("kernels", "witness", "reason", "subject")
        if key in table and not (isinstance(table[key], str) and table[key].strip())
    ]
    if "seen" in table and not _is_value(table["seen"]):
        problems.append("seen must be a text, a number, a truth or a list of these")
    return problems


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_value(item) for item in value)
    return isinstance(value, str | int | float)


def _parse_deviation(table: dict[str, Any], folder: Path) -> Deviation:
    witness = folder / table["witness"]
    return Deviation(
        kernels=parse_range(table["kernels"]),
        seen=table["seen"],
        witness=witness,
        source=_read_witness(witness, folder),
        reason=table["reason"],
    )


def _read_witness(path: Path, folder: Path) -> str:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"witness {path} lies outside {folder}; move it below")
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, filename=str(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"witness {path} can't be read as Python: {error}; write it there") from error
    lines = len(source.splitlines())
    if lines > _WITNESS_LINES:
        raise ValueError(f"witness {path} has {lines} lines; at most {_WITNESS_LINES}, so make it smaller")
    foreign = sorted(_imported(tree) - sys.stdlib_module_names)
    if foreign:
        raise ValueError(f"witness {path} imports {', '.join(foreign)}; the standard library must do")
    return source


def _imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else (node.module or "").partition(".")[0])
    return names


def _overlaps(deviations: list[Deviation]) -> list[str]:
    return [
        f"deviation: kernels {first.kernels.text} and {second.kernels.text} overlap; a kernel can have one value only"
        for number, first in enumerate(deviations)
        for second in deviations[number + 1 :]
        if first.kernels.overlaps(second.kernels)
    ]
