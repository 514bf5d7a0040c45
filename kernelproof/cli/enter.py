"""`kernelproof enter`: a prompt in a machine that was kept when a test failed in it."""

from __future__ import annotations

import argparse
import os
import sys
import time

from kernelproof.cli.shell import attend, plan_program, read_terminal_size
from kernelproof.cli.tables import print_rows
from kernelproof.vm.cache import Cache
from kernelproof.vm.kept import KIND, Kept, find_kept, list_kept, open_kept

EPILOG = """examples:
  python -m pytest --kernel 6.12 --vm-keep     each machine in which a test fails is kept, and its name told
  kernelproof enter                            those that are kept
  kernelproof enter 3fa2b1c07d                 a prompt in that one, as it was when the test failed
  kernelproof enter test_mount -- dmesg        a command in the latest in which a test of that name failed
  kernelproof enter 3fa2b1c07d --drop          forget it

What is entered is a copy: the next time it is as it was again. Ctrl-] three times within a second ends it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which machine, and what is run in it."""
    parser.add_argument("machine", nargs="?", metavar="MACHINE", help="its name, or a part of its test's node id")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="run at a terminal in place of a shell")
    parser.add_argument("--drop", action="store_true", help="forget the machine")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(forward=[], quiet=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """List, drop, or attend to one until it ends; its status is ours."""
    cache = Cache()
    if arguments.machine is None:
        rows = [_describe(kept, as_json=arguments.json) for kept in list_kept(cache)]
        print_rows(rows, ("machine", "kept", "kernel", "test"), as_json=arguments.json)
        return 0
    kept = find_kept(cache, arguments.machine)
    if arguments.drop:
        cache.drop(KIND, kept.folder.name)
        return 0
    if not (os.isatty(0) and os.isatty(1)):
        print("kernelproof: enter: standard input and output are no terminal", file=sys.stderr)
        print("  remedy: enter it at a terminal", file=sys.stderr)
        return 2
    with open_kept(cache, kept) as machine:
        program = plan_program(arguments.words, kept.kernel, read_terminal_size(), kept.directory)
        return attend(machine, program, arguments)


def _describe(kept: Kept, *, as_json: bool) -> dict[str, object]:
    when = kept.kept_at if as_json else time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.kept_at))
    return {"machine": kept.name, "kept": when, "kernel": kept.kernel, "test": kept.node}
