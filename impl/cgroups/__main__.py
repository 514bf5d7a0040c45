"""Look at cgroups and change them: python -m kernelproof.impl.cgroups tree|stat|top|set|kill|freeze|events.

A cgroup is named by its path from the mounted root of the hierarchy: /system.slice. Exit status 0 is done, 1 is an
error, 2 is a wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernelproof.impl._syscalls.interrupts import deadly_interrupts
from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.errors import CgroupError
from kernelproof.impl.cgroups.events import CgroupEvents
from kernelproof.impl.cgroups.sampling import Sampler, Use
from kernelproof.impl.cgroups.showing import (
    COLUMNS,
    flat_lines,
    plain_object,
    printable,
    table_lines,
    tree_lines,
    tree_object,
    use_rows,
)
from kernelproof.impl.cgroups.stats import ALL
from kernelproof.impl.cgroups.wording import parse_limits

if TYPE_CHECKING:
    from rich.table import Table

_ORDERS = {"cpu": "cpus", "memory": "memory_bytes", "io": "io_bytes", "tasks": "processes", "name": "name"}


def do_tree(given: argparse.Namespace) -> None:
    """Print a cgroup with all that are below it."""
    with Cgroup.open(given.cgroup) as cgroup:
        found = tree_object(cgroup.directory, cgroup.name)
    if given.json:
        print(json.dumps(found))
        return
    for line in tree_lines(found):
        print(line)


def do_stat(given: argparse.Namespace) -> None:
    """Print what was measured of a cgroup."""
    with Cgroup.open(given.cgroup) as cgroup:
        found = plain_object(cgroup.read_stats(tuple(given.only) if given.only else ALL))
    if given.json:
        print(json.dumps(found))
        return
    rows = list(flat_lines(found))
    for line in table_lines(rows) if rows else ():
        print(line)


def do_top(given: argparse.Namespace) -> None:
    """Show what the cgroups below one use, again and again."""
    with Cgroup.open(given.cgroup) as cgroup, Sampler(cgroup.directory) as sampler:
        show = _print_json if given.json else live(given) if sys.stdout.isatty() else _print_rows
        sampler.look()
        rounds = 0
        while given.count is None or rounds < given.count:
            _wait(given.interval)
            show(sampler.look(), _ORDERS[given.sort], given.lines)
            rounds += 1


def _wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        select.poll().poll(left * 1000)


def _print_json(uses: list[Use], by: str, most: int) -> None:
    print(json.dumps([use._asdict() for use in uses]), flush=True)


def _print_rows(uses: list[Use], by: str, most: int) -> None:
    for line in table_lines([COLUMNS, *use_rows(uses, by)[:most]]):
        print(line)
    print(flush=True)


def live(given: argparse.Namespace) -> Callable[[list[Use], str, int], None]:
    """Begin a table that is drawn again; return what draws it. `given.close` ends it."""
    from rich.console import Console  # 60 ms, which only a terminal pays
    from rich.live import Live  # likewise

    live = Live(console=Console(), auto_refresh=False, screen=given.count is None)
    live.start()
    given.close = live.stop

    def show(uses: list[Use], by: str, most: int) -> None:
        rows = use_rows(uses, by)[: min(most, max(live.console.height - 4, 1))]
        live.update(_table(rows), refresh=True)

    return show


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table  # 60 ms, which only a terminal pays
    from rich.text import Text  # likewise

    table = Table(expand=True)
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def do_set(given: argparse.Namespace) -> None:
    """Set limits of a cgroup, all or none, and print what became of them."""
    limits = parse_limits(given.limits)
    with Cgroup.open(given.cgroup) as cgroup:
        if given.dry_run:
            planned = [step.write._asdict() for step in cgroup.plan(limits, check_usage=not given.force)]
            _show(given, planned, ("file", "value"))
            return
        applied = cgroup.set(limits, check_usage=not given.force)
    rows: list[dict[str, Any]] = [
        {
            "limit": one.write.limit,
            "file": one.write.file,
            "asked": plain_object(one.asked),
            "written": one.write.value,
            "effective": None if one.effective is None else one.effective.strip(),
            "why": one.why,
        }
        for one in applied
    ]
    _show(given, rows, ("file", "written", "effective", "why"))


def _show(given: argparse.Namespace, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if given.json:
        print(json.dumps(rows))
        return
    shown = [tuple(printable(str(row[column] or "")) for column in columns) for row in rows]
    for line in table_lines([tuple(column.upper() for column in columns), *shown]):
        print(line)


def do_kill(given: argparse.Namespace) -> None:
    """Kill all processes of a cgroup and of those below it, and wait until they have ended."""
    with Cgroup.open(given.cgroup) as cgroup:
        cgroup.kill(given.timeout)
        if given.remove:
            cgroup.remove(given.timeout)
    if given.json:
        print(json.dumps({"killed": given.cgroup, "removed": given.remove}))


def do_freeze(given: argparse.Namespace) -> None:
    """Freeze a cgroup with all that is below it, or let it go on, and wait until that is so."""
    with Cgroup.open(given.cgroup) as cgroup:
        (cgroup.thaw if given.thaw else cgroup.freeze)(given.timeout)
    if given.json:
        print(json.dumps({"cgroup": given.cgroup, "frozen": not given.thaw}))


def do_events(given: argparse.Namespace) -> None:
    """Print what happens in a cgroup, one event a line, until it is removed or interrupted."""
    with deadly_interrupts(), Cgroup.open(given.cgroup) as cgroup, CgroupEvents.open(cgroup.directory) as events:
        for event in events.watch(given.timeout):
            text = json.dumps(event._asdict()) if given.json else f"{event.file} {event.name} {event.value}".strip()
            print(text, flush=True)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kernelproof.impl.cgroups",
        description="Look at cgroups and change them. A cgroup is named by its path from the mounted root.",
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], None], default: str | None = None) -> Any:
        command = commands.add_parser(name, help=act.__doc__, description=act.__doc__)
        command.set_defaults(act=act, prog=parser.prog, close=None)
        command.add_argument("--json", action="store_true", help="print JSON")
        if default is None:
            command.add_argument("cgroup", help="path from the mounted root")
        else:
            command.add_argument("cgroup", nargs="?", default=default, help=f"path from the root (default: {default})")
        return command

    add("tree", do_tree, "/")
    command = add("stat", do_stat)
    command.add_argument("--only", action="append", choices=ALL, help="what to read (again and again)")
    command = add("top", do_top, "/")
    command.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two looks")
    command.add_argument("--count", type=int, default=None, help="how many looks (default: until interrupted)")
    command.add_argument("--sort", choices=_ORDERS, default="cpu", help="what orders them (default: cpu)")
    command.add_argument("--lines", type=int, default=1000, help="how many cgroups to show")
    command = add("set", do_set)
    command.add_argument("limits", nargs="+", metavar="NAME=VALUE", help="memory_max_bytes=64M, pids_max=max …")
    command.add_argument("--force", action="store_true", help="a memory limit below what is in use, too")
    command.add_argument("--dry-run", action="store_true", help="print the writes and do none")
    command = add("kill", do_kill)
    command.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="until it is an error")
    command.add_argument("--remove", action="store_true", help="and remove the cgroup")
    command = add("freeze", do_freeze)
    command.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="until it is an error")
    command.add_argument("--thaw", action="store_true", help="let it go on")
    command = add("events", do_events)
    command.add_argument("--timeout", type=_seconds, default=None, metavar="SECONDS", help="how long to watch")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = make_parser().parse_args(arguments)
    try:
        given.act(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not find the pipe broken a second time at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, CgroupError, ValueError) as error:
        _tell(given, error)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if given.close is not None:
            given.close()
    return 0


def _tell(given: argparse.Namespace, error: Exception) -> None:
    print(f"{given.prog}: {printable(str(error))}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"  {printable(note)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
