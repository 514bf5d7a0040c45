"""`kernelproof shell`: a prompt in a new machine, as if one had logged in to it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from importlib import import_module

from kernelproof.cli import machines
from kernelproof.cli import wishes as wishes_options
from kernelproof.cli.late_progress import LateProgress
from kernelproof.cli.signals import SignalPipe
from kernelproof.impl.term import LEAVE, raw, read_window_size
from kernelproof.vm.attending import Attending, Program
from kernelproof.vm.errors import GuestError, MachineLost, ProvisionError
from kernelproof.vm.guest.streams import STDIN, STDOUT
from kernelproof.vm.machine import Machine

SHELLS = (("bash",), ("busybox", "ash"), ("sh",))
ESCAPE = 0x1D  # Ctrl-]
ESCAPES = 3
ESCAPE_SECONDS = 1.0
SIZE = (24, 80)  # of a terminal that does not know its own
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}")

EPILOG = """examples:
  kernelproof shell                               the default kernel
  kernelproof shell --kernel 5.10                 another one; `kernelproof kernels` lists them
  kernelproof shell --kernel newest -- strace -f true
  kernelproof shell --forward 8080:80             port 8080 of this host leads to the guest's port 80
  kernelproof shell --with-files                  the files of this project are there, read-only

The machine is new, and gone when the shell ends. Ctrl-] three times within a second ends it however it hangs."""


class Escaped(Exception):
    """The user wants out."""


class Escape:
    """Watches what is typed for the way out."""

    def __init__(self) -> None:
        self._count = 0
        self._began = 0.0

    def see(self, data: bytes) -> None:
        """Look at what was typed.

        Raises:
            Escaped: the key came so often within a second.
        """
        now = time.monotonic()
        for key in data:
            if key != ESCAPE or now - self._began > ESCAPE_SECONDS:
                self._count, self._began = 0, now
            self._count += key == ESCAPE
            if self._count >= ESCAPES:
                raise Escaped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which machine, and what is run in it."""
    machines.add_arguments(parser, "a series (5.10), or a role: oldest, stable, newest; see `kernelproof kernels`")
    parser.add_argument("--with-files", action="store_true", help="copy this project's files into it, read-only")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="run at a terminal in place of a shell")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def plan_program(words: list[str], release: str, terminal: tuple[int, int], directory: str | None) -> Program:
    """What is started: the command, or the first shell that the guest has. Pure but for the environment."""
    environment = {name: value for name in ("TERM", "COLORTERM") if _WORD.fullmatch(value := os.environ.get(name, ""))}
    version = re.match(r"\d+\.\d+(\.\d+)?", release)
    environment["PS1"] = rf"{version[0] if version else release}:\w\$ "
    return Program((tuple(words),) if words else SHELLS, environment, directory, terminal)


def read_terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal."""
    size = read_window_size(0)
    return size[:2] if size.is_known else SIZE


def run(arguments: argparse.Namespace) -> int:
    """Attend to it until it ends; its status is ours."""
    if not (os.isatty(0) and os.isatty(1)):
        print("kernelproof: shell: standard input and output are no terminal", file=sys.stderr)
        print("  remedy: use `kernelproof run` in scripts", file=sys.stderr)
        return 2
    wishes = wishes_options.read(arguments)
    kernel, *others = machines.choose(arguments, wishes)
    if others:
        named = f"{arguments.kernel or ''} means {len(others) + 1} of them"
        raise ProvisionError("choose kernel", "--kernel", named, "name one")
    with LateProgress(quiet=arguments.quiet) as progress:
        # Loaded when it is asked for: it loads half as much as all else here.
        files = import_module("kernelproof.vm.project_copy") if arguments.with_files else None
        copy = None if files is None else files.read_project_copy()
        with machines.open_machine(kernel, arguments.profile, wishes, progress) as machine:
            if files is not None:
                files.copy_project(machine, copy)
            progress.end()
            directory = "~" if copy is None else str(copy.directory)
            release = str(machines.fact(machine, "kernel", "release"))
            program = plan_program(arguments.words, release, read_terminal_size(), directory)
            return attend(machine, program, arguments)


def attend(machine: Machine, program: Program, arguments: argparse.Namespace) -> int:
    """Join the user's terminal and the program's; the terminal is as it was afterwards, however it ends."""
    attending = Attending(program)
    attending.streams.read_from(STDIN, 0, on_data=Escape().see)
    attending.streams.write_to(STDOUT, 1)
    ended: list[signal.Signals] = []
    try:
        with (
            SignalPipe((signal.SIGWINCH, *_ENDING)) as signals,
            machines.forwarding(attending, arguments.forward, quiet=arguments.quiet),
            raw(
                0,
                guard=True,
                leave=LEAVE,
                signals=(*_ENDING, signal.SIGTSTP),
                on_resume=lambda size: signals.put(signal.SIGWINCH),  # it may have another size now
            ),
        ):

            def on_signal() -> None:
                for number in signals.take():
                    if number == signal.SIGWINCH:
                        attending.resize(*read_terminal_size())
                    else:
                        ended.append(number)
                        raise Escaped

            attending.watch(signals.fileno(), on_signal)
            return machines.read_status(attending.run(machine))
    except Escaped:
        _leave_modes()
        print("kernelproof: the machine is dropped", file=sys.stderr)
        return 128 + ended[0] if ended else machines.OWN_FAILURE
    except GuestError as error:
        return machines.tell_start_failure(error)
    except MachineLost as error:
        _leave_modes()
        if error.kind in ("power-off", "reboot"):
            print("kernelproof: the machine is switched off", file=sys.stderr)
            return 0
        machines.tell_loss(error)
        return machines.OWN_FAILURE


def _leave_modes() -> None:
    # A full-screen program can't do it any more.
    os.write(1, LEAVE + b"\r\n")
