"""The command line `kernelproof`: finds the sub-command, and says what went wrong as sentences.

A sub-command's module has two functions: `add_arguments(parser)` and `run(arguments) -> exit status`. It is imported
when it is asked for, since some of them load much.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kernelproof import __version__
from kernelproof.cli.commands import COMMANDS, describe, load_command
from kernelproof.cli.refusals import describe_refusal
from kernelproof.vm.errors import VmError

__all__ = ["COMMANDS", "main"]

INTERRUPTED = 130


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of the whole command line, with the arguments of the chosen sub-command."""
    parser = argparse.ArgumentParser(prog="kernelproof", description="Machines with real kernels, for tests.")
    parser.add_argument("--version", action="version", version=f"kernelproof {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        own = commands.add_parser(name, help=text, description=describe(name))
        if name == chosen:
            load_command(name).add_arguments(own)
    return parser


def run(words: Sequence[str]) -> int:
    """Parse and run one command line.

    Raises:
        SystemExit: `--help`, `--version`, or a usage error (status 2).
        VmError: what the sub-command could not do.
        OSError: what the system refused.
    """
    chosen = next((word for word in words if not word.startswith("-")), None)
    arguments = build_parser(chosen).parse_args(words)
    status: int = load_command(arguments.command).run(arguments)
    sys.stdout.flush()
    return status


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 after a failure, 2 after a usage error, 130 after Ctrl-C."""
    try:
        return run(sys.argv[1:] if words is None else words)
    except VmError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
    except BrokenPipeError:
        # The reader went away (`| head`): nothing more to say, and nothing left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
    except OSError as error:
        print(
            f"kernelproof: {describe_refusal(error)}\n  remedy: see to that file or folder and run it again",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("kernelproof: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 1
