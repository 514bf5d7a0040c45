"""Cgroups as words and tables, for the command. Pure, but for the tree, which is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.formats import parse_flat
from kernelproof.impl.cgroups.sampling import Use

COLUMNS = ("CGROUP", "CPU%", "MEMORY", "IO/s", "TASKS", "STALLED%")


def printable(text: str) -> str:
    """Text without what would move a terminal's cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def tree_object(directory: Directory, name: str) -> dict[str, Any]:
    """A cgroup with all that are below it."""
    events = parse_flat(directory.read_or_none("cgroup.events") or "", "cgroup.events")
    found: dict[str, Any] = {
        "name": name,
        "type": (directory.read_or_none("cgroup.type") or "domain").strip(),
        "controllers": (directory.read_or_none("cgroup.controllers") or "").split(),
        "processes": len((directory.read_or_none("cgroup.procs") or "").split()),
        "populated": bool(events["populated"]) if "populated" in events else None,
        "frozen": bool(events["frozen"]) if "frozen" in events else None,
        "children": [],
    }
    for child in directory.children():
        try:
            with directory.child(child) as below:
                found["children"].append(tree_object(below, child))
        except FileNotFoundError:
            continue  # removed meanwhile
    return found


def tree_lines(found: Mapping[str, Any], depth: int = 0) -> Iterable[str]:
    """A tree as lines."""
    words = [f"{found['processes']} processes"] if found["processes"] else []
    words += [found["type"]] if found["type"] != "domain" else []
    words += ["frozen"] if found["frozen"] else []
    yield "  " * depth + printable(found["name"]) + (f"  ({', '.join(words)})" if words else "")
    for child in found["children"]:
        yield from tree_lines(child, depth + 1)


def plain_object(value: object) -> Any:
    """A record as data that fits JSON."""
    if hasattr(value, "_asdict"):
        return {key: plain_object(each) for key, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain_object(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_object(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def flat_lines(found: object, before: str = "") -> Iterable[tuple[str, str]]:
    """Data as pairs of a dotted name and a value; what is not there is left out."""
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from flat_lines(value, f"{before}.{key}" if before else str(key))
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from flat_lines(value, f"{before}.{number}")
    elif found is not None:
        yield before, str(found)


def use_rows(uses: Sequence[Use], by: str) -> list[tuple[str, ...]]:
    """Rows of `top`, the largest first.

    Args:
        uses: of one look.
        by: the member of `Use` that orders them.
    """

    def size(use: Use) -> float:
        value = getattr(use, by)
        return -1.0 if value is None else float(value)

    ordered = sorted(uses, key=lambda use: use.name) if by == "name" else sorted(uses, key=size, reverse=True)
    return [
        (
            printable(use.name),
            "-" if use.cpus is None else f"{use.cpus * 100:.1f}",
            short_bytes(use.memory_bytes),
            short_bytes(use.io_bytes),
            "-" if use.processes is None else str(use.processes),
            "-" if use.stalled is None else f"{use.stalled:.1f}",
        )
        for use in ordered
    ]


def short_bytes(number: float | None) -> str:
    """Bytes in three or four digits, with a suffix in powers of 1024.

    >>> short_bytes(3 << 20)
    '3.0M'
    """
    if number is None:
        return "-"
    for suffix in ("", "K", "M", "G"):
        if abs(number) < 1024:
            return f"{number:.0f}{suffix}" if not suffix else f"{number:.1f}{suffix}"
        number /= 1024
    return f"{number:.1f}T"


def table_lines(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows as lines with columns, the last one ragged."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    for row in rows:
        yield " ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
