"""The sub-commands, and what is known of them without running one: parsers, and words that arguments may be."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

COMMANDS = {
    "setup": "fetch and boot what machines with these kernels are made of, so that later runs need no network",
    "shell": "open a prompt in a new machine",
    "run": "run a program in a new machine: its output, its input and its exit status are those of a program here",
    "enter": "open a prompt in a machine that was kept when a test failed in it",
    "conformance": "check a kernel against the documented statements that came with this package",
    "merge": "put results of several runs into one file",
    "report": "make pages of results: documented statements by kernel, with search, filters and what changed",
    "diff": "say what changed from one run to another, regressions first",
    "bisect": "find between which two kernels a behaviour changed",
    "kernels": "list the kernels that can be chosen",
    "doctor": "look at this machine: what is there, what is missing, what to do about it",
    "clean": "remove what was fetched and made, and is not used any more; or all of it",
    "completion": "print what makes a shell complete this command's words",
}

# A module must not be called like one of Python's own.
_MODULES = {"bisect": "kernel_bisect"}


def load_command(name: str) -> ModuleType:
    """The module of a sub-command: `add_arguments(parser)` and `run(arguments) -> exit status`."""
    return importlib.import_module(f"kernelproof.cli.{_MODULES.get(name, name)}")


def build_command(name: str) -> argparse.ArgumentParser:
    """The parser of one sub-command, alone."""
    parser = argparse.ArgumentParser(prog=f"kernelproof {name}", description=describe(name))
    load_command(name).add_arguments(parser)
    return parser


def describe(name: str) -> str:
    """What a sub-command does, as a sentence."""
    text = COMMANDS[name]
    return f"{text[0].upper()}{text[1:]}."


def list_kernels() -> list[str]:
    """What `--kernel` may name."""
    table = importlib.import_module("kernelproof.vm.kernel_select").read_rows()
    return [*(row.series for row in table.rows), *(role for role, _ in table.roles), "all"]


def list_profiles() -> list[str]:
    """What `--profile` may name."""
    profiles = importlib.import_module("kernelproof.vm.profiles")
    return [*profiles.parse_profiles(profiles.PROFILES.read_text("utf-8"))]
