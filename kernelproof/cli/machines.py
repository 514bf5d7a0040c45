"""What `shell` and `run` share: which machine, what leads into it, how its loss is told, what a status means."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from kernelproof.cli import wishes as wishes_options
from kernelproof.vm.adding_up import AddUp
from kernelproof.vm.attending import Attending
from kernelproof.vm.errors import GuestError, MachineLost
from kernelproof.vm.forward_port import Forward, Forwarding, Listener, describe, parse_forward
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.machine import Machine
from kernelproof.vm.messages import Plain
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.template import Template
from kernelproof.vm.wishes import Wishes

OWN_FAILURE = 125  # what went wrong was not the program's doing; as of env(1), timeout(1) and container engines
NOT_STARTED = 126
NOT_FOUND = 127
TIMED_OUT = 124
_PING_SECONDS = 30.0  # 0.07 s measured
_LOG_LINES = 40
_STAMP = re.compile(r"^\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?")
_TROUBLE = re.compile(r"Kernel panic|BUG:|Oops|WARNING:|general protection|sysrq:|AGENT DIED|Out of memory")


def read_forward(text: str) -> Forward:
    """`--forward`, for argparse.

    Raises:
        argparse.ArgumentTypeError: not of that form.
    """
    try:
        return parse_forward(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_arguments(parser: argparse.ArgumentParser, kernel: str) -> None:
    """`--kernel`, `--profile`, `--forward`, `-q`, and what machines are made of.

    Args:
        parser: Is given them.
        kernel: What `--kernel` may name, for its help.
    """
    parser.add_argument("--kernel", metavar="KERNEL", action=AddUp, help=kernel)
    parser.add_argument("--profile", default="plain", metavar="PROFILE", help="the kind of machine (default: plain)")
    text = (
        "a port of this host that leads into the machine: [ADDRESS:]PORT or a path, a colon, and "
        "[HOST:]PORT, a path or vsock:PORT in the guest; more than once for more"
    )
    parser.add_argument("--forward", metavar="HERE:THERE", type=read_forward, action="append", default=[], help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing on the way")
    wishes_options.add_arguments(parser)


def choose(arguments: argparse.Namespace, wishes: Wishes) -> tuple[str, ...]:
    """The kernels that are named; one's own where one is given and none is named.

    Raises:
        ProvisionError: a word means none; lists what there is.
    """
    if wishes.kernel is None:
        return select_kernels(read_rows().default if arguments.kernel is None else arguments.kernel)
    return (*(select_kernels(arguments.kernel) if arguments.kernel is not None else ()), wishes.kernel.name)


@contextmanager
def open_machine(kernel: str, profile: str, wishes: Wishes, progress: Progress) -> Iterator[Machine]:
    """A new machine in real time.

    Raises:
        VmError: it could not be had.
    """
    try:
        machine = _clone(kernel, profile, wishes, progress, check=False)
    except MachineLost:  # the template may be of no use: it is tried, and made anew if so
        machine = _clone(kernel, profile, wishes, progress, check=True)
    with machine:
        yield machine


def _clone(kernel: str, profile: str, wishes: Wishes, progress: Progress, *, check: bool) -> Machine:
    project = Path.cwd() if Path("pyproject.toml").is_file() else None
    with Template(
        kernel, profile=profile, time="real", progress=progress, project=project, wishes=wishes, check=check
    ) as template:
        machine = template.clone()
        machine.request({"kind": "ping"}, timeout=_PING_SECONDS)
    return machine


@contextmanager
def forwarding(attending: Attending, forwards: Sequence[Forward], *, quiet: bool = False) -> Iterator[None]:
    """Let ports lead into the machine of a conversation while the block runs; says where, if any port was free.

    Raises:
        OSError: as bind(2) refuses; EADDRINUSE.
    """
    with ExitStack() as stack:
        listeners = []
        for forward in forwards:
            listeners.append(Listener(forward))
            stack.callback(listeners[-1].close)
        if listeners:
            stack.callback(Forwarding(attending, listeners).close)
        for listener in listeners:
            if not quiet:
                where = describe((listener.forward.here[0], *listener.address))
                print(f"kernelproof: {where} leads to {describe(listener.forward.there)}", file=sys.stderr, flush=True)
        yield


def fact(machine: Machine, part: str, name: str) -> Plain:
    """One fact of a machine, or None."""
    facts = machine.facts.get(part)
    return facts.get(name) if isinstance(facts, dict) else None


def read_status(returncode: int) -> int:
    """An exit status as shells have it: 128 and the number of the signal that killed it."""
    return returncode if returncode >= 0 else 128 - returncode


def tell_start_failure(error: GuestError) -> int:
    """Say why a program could not be started, and what helps; the status for it."""
    print(f"kernelproof: {error.detail}: {find_remedy(error.type)}", file=sys.stderr)
    return NOT_FOUND if error.type == "FileNotFoundError" else NOT_STARTED


def find_remedy(kind: str) -> str:
    """What helps when the guest could not start a program, by its exception's name. Pure."""
    if kind == "FileNotFoundError":
        return "name a program of the guest, or give its Debian package with --package NAME; --profile chooses others"
    if kind == "PermissionError":
        return "make it executable (chmod +x), or name its interpreter in front of it"
    return "is it a program for the guest's kind of processor, or a script whose first line names its interpreter?"


def tell_loss(error: MachineLost) -> None:
    """Say how the machine was lost, with the part of its kernel log that says why."""
    lines = error.log.splitlines()
    if lines:
        print("kernelproof: from the kernel log:", *shorten_log(lines), sep="\n  ", file=sys.stderr)
    print(f"kernelproof: {error}", file=sys.stderr)


def shorten_log(lines: Sequence[str]) -> list[str]:
    """The lines that say why: what follows the first sign of trouble, else the last ones. Pure.

    A panic shows all tasks and the scheduler's tables after its cause: its end is of no use.
    """
    trouble = next((number - 2 for number, line in enumerate(lines) if _TROUBLE.search(line)), None)
    start = max(0, len(lines) - _LOG_LINES if trouble is None else trouble)
    shown, rest = list(lines[start : start + _LOG_LINES]), len(lines) - start - _LOG_LINES
    return [*shown, f"[{rest} more lines]"] if rest > 0 else shown


def read_complaints(log: str) -> tuple[str, ...]:
    """What the kernel complained of: first lines of bugs, of warnings with a stack, of stalls.

    Args:
        log: The console since the machine began; warnings and worse are on it.
    """
    if not log:
        return ()
    # Loaded when there is something to judge.
    judge = import_module("kernelproof.conformance.kernel_log")
    records = [judge.Record(0, 0, _STAMP.sub("", line)) for line in log.splitlines()]
    troubles: tuple[str, ...] = judge.judge(records, 0).troubles
    return troubles
