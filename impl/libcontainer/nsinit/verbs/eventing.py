"""events: print what is measured of a container, again and again, and what happens to it; or measure once."""

from __future__ import annotations

import sys
import time

from kernelproof.impl.libcontainer.conditions import require
from kernelproof.impl.libcontainer.config.jsontext import format_value
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.events import ENDED, Watch
from kernelproof.impl.libcontainer.nsinit.measures import describe_event, describe_stats
from kernelproof.impl.libcontainer.nsinit.options import FLAG, TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.values import parse_duration
from kernelproof.impl.libcontainer.state import (
    CREATED,
    PAUSED,
    RUNNING,
    State,
    WrongStatusError,
    default_root,
    open_directory,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

INTERVAL = Option("--interval", TEXT, "time between two measurements, 5s by default", "TIME")


def run(context: Context, given: Given) -> int:
    """Prints events, one JSON object a line, until the container has stopped."""
    seconds = parse_duration(given.text("interval", "5s"), "--interval")
    with open_directory(context.root or default_root(), given.operands[0]) as directory:
        state = directory.read_state()
        require(directory, state, (CREATED, RUNNING, PAUSED), "measured")
        if given.flag("stats"):
            print_event(state)
            return 0
        watch(state, seconds)
    return 0


def watch(state: State, seconds: float) -> None:
    """Prints a measurement at once and in each interval, and what happens when it does, until the container has ended.

    Raises:
        OSError: see events.Watch.
    """
    with Watch.open(state) as watching:
        while True:
            try:
                print_event(state)
            except WrongStatusError:
                return
            deadline = time.monotonic() + seconds
            for event in watching.events(seconds):
                if event.kind == ENDED:
                    return
                write(event.to_json())
                if time.monotonic() >= deadline:
                    break


def write(event: dict[str, object]) -> None:
    """Prints an event."""
    sys.stdout.write(format_value(event) + "\n")
    sys.stdout.flush()


def print_event(state: State) -> None:
    """Measures once and prints the event.

    Raises:
        WrongStatusError: there is no cgroup, or no longer.
    """
    write(describe_event("stats", state.id, measure(state)))


def measure(state: State) -> dict[str, object]:
    """What is measured of a container.

    Raises:
        WrongStatusError: there is no cgroup, or no longer.
    """
    cgroup = find_cgroup(state.cgroup) if state.cgroup else None
    if cgroup is None:
        raise WrongStatusError(f"container {state.id!r} has no cgroup, by which it could be measured")
    with cgroup:
        return describe_stats(cgroup.read_stats())


COMMAND = Command(
    "print what is measured of a container and what happens to it, one JSON object a line",
    (Option("--stats", FLAG, "once, then end"), INTERVAL),
    ("ID",),
    run=run,
    examples=("nsinit events --stats web", "nsinit events --interval 1s web"),
)
