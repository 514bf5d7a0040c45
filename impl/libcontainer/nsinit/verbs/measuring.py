"""stats: what is measured of containers, for people; as JSON for one."""

from __future__ import annotations

import select

from kernelproof.impl.libcontainer.nsinit.options import TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.tables import draw_table, format_table, is_terminal, print_json
from kernelproof.impl.libcontainer.nsinit.values import parse_duration
from kernelproof.impl.libcontainer.nsinit.verbs.eventing import INTERVAL, measure
from kernelproof.impl.libcontainer.state import ContainerError, default_root, list_ids, open_directory

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

HEADER = ("ID", "CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def run(context: Context, given: Given) -> int:
    """Prints the table, live on a terminal; or JSON."""
    root = context.root or default_root()
    seconds = parse_duration(given.text("interval", "2s"), "--interval")
    if given.text("format", "table" if not given.operands or is_terminal() else "json") == "json":
        found = {identifier: _measure(root, identifier) for identifier in given.operands or list_ids(root)}
        print_json(found[given.operands[0]] if len(given.operands) == 1 else found)
        return 0
    if is_terminal():
        _show_live(root, given.operands, seconds)
    else:
        print(format_table(HEADER, read_rows(root, given.operands)), end="")
    return 0


def _measure(root: str, identifier: str) -> dict[str, object]:
    with open_directory(root, identifier) as directory:
        return measure(directory.read_state())


def _show_live(root: str, identifiers: list[str], seconds: float) -> None:
    from rich.live import Live  # measured: 70 ms, and only on a terminal

    with Live(screen=False) as live:
        while True:
            live.update(draw_table(HEADER, read_rows(root, identifiers)), refresh=True)  # type: ignore[arg-type]
            select.select((), (), (), seconds)  # until Ctrl-C


def read_rows(root: str, identifiers: list[str]) -> list[tuple[str, ...]]:
    """A row for each container; those that can't be measured are shown by their names alone."""
    rows = []
    for identifier in identifiers or list_ids(root):
        try:
            rows.append(make_row(identifier, _measure(root, identifier)))
        except ContainerError:
            rows.append((identifier, *["-"] * (len(HEADER) - 1)))
    return rows


def make_row(identifier: str, found: dict[str, object]) -> tuple[str, ...]:
    """A row of the table."""
    limit = _at(found, "memory", "usage", "limit")
    return (
        identifier,
        f"{_at(found, 'cpu', 'usage', 'total') / 1e9:.1f} s",
        format_bytes(_at(found, "memory", "usage", "usage")),
        "none" if limit >= 1 << 60 else format_bytes(limit),
        str(_at(found, "pids", "current")),
        format_bytes(_sum(found, "Read")),
        format_bytes(_sum(found, "Write")),
    )


def _at(found: object, *names: str) -> int:
    for name in names:
        found = found.get(name, 0) if isinstance(found, dict) else 0
    return found if isinstance(found, int) else 0


def _sum(found: dict[str, object], operation: str) -> int:
    block = found.get("blkio")
    entries = block.get("ioServiceBytesRecursive", ()) if isinstance(block, dict) else ()
    return sum(_at(entry, "value") for entry in entries if entry["op"] == operation)


def format_bytes(count: int) -> str:
    """Bytes for people: 1536 is 1.5 KiB."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if not unit else f"{value:.1f} {_UNITS[unit]}"


COMMAND = Command(
    "show what containers use: live on a terminal, else once",
    (Option("--format -f", TEXT, "table or json", "FORMAT", choices=("table", "json")), INTERVAL),
    ("[ID...]",),
    run=run,
    examples=("nsinit stats", "nsinit stats --format json web"),
)
