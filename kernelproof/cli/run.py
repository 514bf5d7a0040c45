"""`kernelproof run`: a program in a new machine, as if it ran here."""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kernelproof.cli import machines
from kernelproof.cli import wishes as wishes_options
from kernelproof.cli.late_progress import LateProgress
from kernelproof.cli.numbers import read_number
from kernelproof.cli.run_table import Kept, print_table
from kernelproof.cli.signals import SignalPipe
from kernelproof.vm.attending import Attending, Program
from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import GuestError, MachineLost, ProvisionError, VmError
from kernelproof.vm.guest.streams import STDERR, STDIN, STDOUT
from kernelproof.vm.machine import Machine
from kernelproof.vm.project_copy import ProjectCopy, copy_project, find_root, read_project_copy
from kernelproof.vm.pulling import plan_pulls, pull
from kernelproof.vm.tap import TapReader
from kernelproof.vm.wishes import Wishes

_SUBJECT = re.compile(r"[a-z0-9][a-z0-9-]*")
_LOG_LIMIT = 64 * 1024  # characters in a row: a log begins with why
_CLONE = re.compile(r"[0-9a-f]{32}")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

EPILOG = """examples:
  kernelproof run -- ./check.sh --fast            on the default kernel; the project's files are there, read-only
  kernelproof run --kernel 5.10 -- python3 -m pytest -q
  kernelproof run --pull /tmp/report -- ./check.sh /tmp/report
  kernelproof run --add build/test -- build/test  a file that git ignores (the program itself needs no --add)
  kernelproof run --kernel all -- ./check.sh      a table, a row a kernel; with --json for programs
  kernelproof run --forward 8080:80 -- ./server

Output that is TAP or KTAP also goes into results/KERNEL.json, a row a test.

exit status: the program's; 128+N if signal N killed it; 124 after --timeout; 125 if the machine was lost or could not
be had; 126 and 127 if the program could not be started or is not there; 1 if it is 0 and a TAP test failed. Of
several kernels: 0 if it was 0 on all of them, else 1."""


class Interrupted(Exception):
    """The user wants it to end now."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


class Wanted(NamedTuple):
    """What is run, on whatever kernel."""

    words: tuple[str, ...]
    name: str  # in results
    copy: ProjectCopy | None
    directory: str
    arguments: argparse.Namespace


class Done(NamedTuple):
    """What became of it on one kernel."""

    status: int
    outcome: str  # "exit", "signal", "timeout", "lost", "not started"
    detail: str
    tests: dict[str, int]
    release: str = ""


class Told(NamedTuple):
    """What is known of a run beside its output.

    Args:
        began: When, by the monotonic clock.
        problem: Why its tests are not all: it was lost, killed, or failed with all tests passing.
        complaints: The kernel's.
        log: The console.
        lost: Whether the machine is gone.
    """

    began: float
    problem: str | None
    complaints: tuple[str, ...]
    log: str
    lost: bool = False


def read_seconds(text: str) -> float:
    """A number of seconds above zero, for argparse.

    Raises:
        ArgumentTypeError: another text.
    """
    seconds = read_number(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds above 0 is needed")
    return seconds


def read_subject(text: str) -> str:
    """A name that results can have, for argparse.

    Raises:
        ArgumentTypeError: another text.
    """
    if not _SUBJECT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: {_SUBJECT.pattern} is needed")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is run, where, and what comes back."""
    several = "a series, a role (oldest, stable, newest), all, or several of them with commas: then there is a table"
    machines.add_arguments(parser, several)
    parser.add_argument(
        "--pull",
        metavar="PATH",
        action="append",
        default=[],
        help="copy a file or folder of the guest's back, after it",
    )
    parser.add_argument("--pull-to", metavar="DIR", type=Path, default=Path(), help="into this folder (default: here)")
    parser.add_argument("--timeout", metavar="SECONDS", type=read_seconds, default=math.inf, help="kill it after that")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--no-files", action="store_true", help="take none of the project's files along")
    files.add_argument("--writable", action="store_true", help="let it write to its copy of the project's files")
    parser.add_argument(
        "--add", metavar="PATH", type=Path, action="append", default=[], help="take this along, also if git ignores it"
    )
    parser.add_argument("--no-stdin", action="store_true", help="give it no input: what is here is left for others")
    tap = parser.add_mutually_exclusive_group()
    tap.add_argument("--tap", action="store_true", help="read its output as TAP, whatever it begins with")
    tap.add_argument("--no-tap", action="store_true", help="don't, even if it is")
    text = "who acts, in results: stand-in (default) counts as impl does, any other name is shown beside it"
    parser.add_argument("--subject", type=read_subject, default="stand-in", metavar="NAME", help=text)
    parser.add_argument("--results-dir", metavar="DIR", type=Path, help="of results files (default: results)")
    parser.add_argument("--json", action="store_true", help="print a JSON array with what came of it, and no output")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- PROGRAM [ARGUMENT ...]")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def plan(arguments: argparse.Namespace) -> Wanted:
    """What is run, with the files that go along.

    Raises:
        VmError, OSError: they can't be taken along.
    """
    words = tuple(arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words)
    here = Path.cwd()
    program = here / words[0]
    if arguments.no_files:
        return Wanted(words, Path(words[0]).name, None, "/", arguments)
    own = [program] if "/" in words[0] and program.is_file() else []
    copy = read_project_copy(here, [*own, *arguments.add], writable=arguments.writable)
    name = os.path.relpath(program, copy.root) if own else Path(words[0]).name
    return Wanted(words, escape_text(name), copy, str(copy.directory), arguments)


def run(arguments: argparse.Namespace) -> int:
    """Run it on one kernel, or on several for a table."""
    if arguments.words in ([], ["--"]):
        print("kernelproof: run: no program is named\n  remedy: kernelproof run -- PROGRAM", file=sys.stderr)
        return 2
    try:
        wishes = wishes_options.read(arguments)
        kernels = machines.choose(arguments, wishes)
        plan_pulls(arguments.pull, arguments.pull_to)
        wanted = plan(arguments)
        if len(kernels) > 1 or arguments.json:
            return run_all(wanted, kernels, wishes)
        return run_one(wanted, kernels[0], wishes, arguments.pull_to, None).status
    except Interrupted as error:
        print("kernelproof: interrupted", file=sys.stderr)
        return 128 + error.number
    except MachineLost as error:
        machines.tell_loss(error)
    except VmError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
    return machines.OWN_FAILURE


def run_all(wanted: Wanted, kernels: Sequence[str], wishes: Wishes) -> int:
    """Run it on each kernel and print a row for each.

    Raises:
        ProvisionError: no kernel could be had.
        Interrupted: by the user, after what there is was printed.
    """
    rows: list[dict[str, object]] = []
    errors: list[ProvisionError] = []
    interrupted: Interrupted | None = None
    for kernel in kernels:
        kept, began = Kept(), time.monotonic()
        try:
            done = run_one(wanted, kernel, wishes, wanted.arguments.pull_to / kernel, kept)
        except ProvisionError as error:
            errors.append(error)
            print(f"kernelproof: note: kernel {kernel} left out: {error}", file=sys.stderr)
            continue
        except MachineLost as error:
            done = Done(machines.OWN_FAILURE, "lost", str(error), {})
            kept.log = error.log
        except VmError as error:
            done = Done(machines.OWN_FAILURE, "failed", str(error), {})
        except Interrupted as error:
            interrupted = error
            break
        rows.append({"kernel": kernel, **done._asdict(), **kept.texts(), "seconds": time.monotonic() - began})
    if errors and not rows:
        raise errors[0]
    print_table(rows, as_json=wanted.arguments.json)
    if interrupted is not None:
        raise interrupted
    return int(any(row["status"] for row in rows))


def run_one(wanted: Wanted, kernel: str, wishes: Wishes, pull_to: Path, kept: Kept | None) -> Done:
    """Run it in a new machine.

    Args:
        wanted: What is run.
        kernel: A series, or the name of one's own.
        wishes: What machines are made of.
        pull_to: The folder for what comes back.
        kept: Takes the output; else it goes where ours goes.

    Raises:
        VmError: no machine, or it was lost.
        Interrupted: by the user, for the second time.
    """
    arguments = wanted.arguments
    began = time.monotonic()
    with (
        LateProgress(quiet=arguments.quiet) as progress,
        machines.open_machine(kernel, arguments.profile, wishes, progress) as machine,
    ):
        if wanted.copy is not None:
            copy_project(machine, wanted.copy)
        progress.end()
        reader = None if arguments.no_tap else TapReader()
        try:
            done = attend(machine, wanted, reader, kept)
        except MachineLost as error:
            _note_results(wanted, machine, reader, Told(began, str(error), (), error.log, lost=True))
            raise
        log = machine.log()
        complaints = machines.read_complaints(log)
        for line in complaints:
            print(f"kernelproof: kernel log: {line}", file=sys.stderr)
        problem = done.detail if done.outcome != "exit" else _find_problem(done, reader)
        tests = _note_results(wanted, machine, reader, Told(began, problem, complaints, log))
        detail = "; ".join([*([done.detail] if done.detail else []), *(f"kernel log: {line}" for line in complaints)])
        done = done._replace(tests=tests, detail=detail, release=str(machines.fact(machine, "kernel", "release")))
        if done.status == 0 and any(tests.get(name) for name in ("fail", "broken")):
            done = done._replace(status=1)
        if done.outcome != "not started":
            done = _pull(machine, wanted, pull_to, done)
    return done


def _pull(machine: Machine, wanted: Wanted, folder: Path, done: Done) -> Done:
    # A program that failed may not have made what was to come back: its own status says more.
    try:
        pull(machine, wanted.arguments.pull, folder, wanted.directory)
    except GuestError as error:
        if done.status == 0:
            raise
        print(f"kernelproof: pull: {error.detail}", file=sys.stderr)
    return done


def _find_problem(done: Done, reader: TapReader | None) -> str | None:
    if done.status == 0 or reader is None or any(result.failed for result in reader.finish()):
        return None
    return f"exit status {done.status}, though no test failed"


def attend(machine: Machine, wanted: Wanted, reader: TapReader | None, kept: Kept | None) -> Done:
    """Join the program's streams and ours until it ends.

    Raises:
        MachineLost: the machine is gone.
        Interrupted: a second signal.
        OSError: our output can't be written to: ENOSPC.
    """
    arguments = wanted.arguments
    attending = Attending(Program((wanted.words,), directory=wanted.directory))
    feed = (lambda data: None) if reader is None else reader.feed
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if kept is None:
            attending.streams.write_to(STDOUT, 1, on_data=feed)
            attending.streams.write_to(STDERR, 2)
        else:
            attending.streams.write_to(STDOUT, None, on_data=lambda data: _both(feed, kept.stdout, data))
            attending.streams.write_to(STDERR, None, on_data=kept.stderr)
        attending.streams.read_from(STDIN, nothing if kept or arguments.no_stdin or not _is_open(0) else 0)
        with (
            SignalPipe(_ENDING) as signals,
            machines.forwarding(attending, arguments.forward, quiet=arguments.quiet),
        ):
            attending.watch(signals.fileno(), _pass_on(signals, attending))
            returncode = attending.run(machine, arguments.timeout)
    except GuestError as error:
        return Done(machines.tell_start_failure(error), "not started", error.detail, {})
    finally:
        os.close(nothing)
    if attending.timed_out:
        detail = f"killed after {arguments.timeout:g} s"
        print(f"kernelproof: {wanted.name}: {detail}", file=sys.stderr)
        return Done(machines.TIMED_OUT, "timeout", detail, {})
    if returncode < 0:
        return Done(machines.read_status(returncode), "signal", f"killed by signal {-returncode}", {})
    return Done(returncode, "exit", "", {})


def _both(first: Callable[[bytes], None], second: Callable[[bytes], None], data: bytes) -> None:
    first(data)
    second(data)


def _pass_on(signals: SignalPipe, attending: Attending) -> Callable[[], None]:
    passed: list[signal.Signals] = []

    def on_signal() -> None:
        for number in signals.take():
            if passed:
                raise Interrupted(number)
            passed.append(number)
            attending.kill(number)  # the program may clean up; for who can't wait there is a second signal

    return on_signal


def _is_open(descriptor: int) -> bool:
    with suppress(OSError):
        os.fstat(descriptor)
        return True
    return False


def _note_results(wanted: Wanted, machine: Machine, reader: TapReader | None, told: Told) -> dict[str, int]:
    """Write rows if the output was TAP; how many there are of each outcome."""
    arguments = wanted.arguments
    if reader is None or not (reader.announced or arguments.tap):
        return {}
    # Loaded here: most programs speak no TAP, and it costs them a tenth of their start.
    from kernelproof.cli import tap_results

    clone = None if told.lost else machine.call("secrets:token_hex", 16)
    ran = tap_results.Ran(
        wanted.name,
        machine.facts,
        arguments.profile,
        arguments.subject,
        clone if isinstance(clone, str) and _CLONE.fullmatch(clone) else None,
        time.monotonic() - told.began,
        told.problem,
        told.complaints,
        told.log[:_LOG_LIMIT] or None,
    )
    rows = tap_results.plan_rows(ran, reader.finish())
    root = find_root(Path.cwd())
    path, note = tap_results.write(arguments.results_dir or root / "results", root, ran, rows)
    counts = tap_results.count(rows)
    words = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in counts.items())
    if not arguments.quiet:
        for line in (note, f"{words}; written to {path}"):
            if line:
                print(f"kernelproof: {line}", file=sys.stderr)
    return counts
