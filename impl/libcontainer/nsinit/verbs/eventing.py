"""events: print what is measured of a container, again and again, or once."""

from __future__ import annotations

import os
import select
import sys

from kernelproof.impl.libcontainer.conditions import require
from kernelproof.impl.libcontainer.config.jsontext import format_value
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.nsinit.measures import describe_event, describe_stats
from kernelproof.impl.libcontainer.nsinit.options import FLAG, TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.values import parse_duration
from kernelproof.impl.libcontainer.process.identity import open_process
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
    """Prints a measurement at once, then in each interval, until the process has ended."""
    pidfd = open_process(state.process)
    if pidfd is None:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        while True:
            print_event(state)
            if poll.poll(seconds * 1000):
                return
    except WrongStatusError:
        return
    finally:
        os.close(pidfd)


def print_event(state: State) -> None:
    """Measures once and prints the event.

    Raises:
        WrongStatusError: there is no cgroup, or no longer.
    """
    sys.stdout.write(format_value(describe_event("stats", state.id, measure(state))) + "\n")
    sys.stdout.flush()


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
    "print what is measured of a container, one JSON object a line",
    (Option("--stats", FLAG, "once, then end"), INTERVAL),
    ("ID",),
    run=run,
    examples=("nsinit events --stats web", "nsinit events --interval 1s web"),
)
