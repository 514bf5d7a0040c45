"""`kernelproof setup`: fetch and boot once, so that later runs start at once and need no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelproof.cli import wishes as wishes_options
from kernelproof.cli.tables import print_rows
from kernelproof.vm.cache import Cache
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.provision_progress import open_progress
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.template import Template
from kernelproof.vm.wishes import Wishes

COLUMNS = ("name", "profile", "release", "package", "build", "accelerator")
EVERY = "all"  # the word for all kernels of the table


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a kernel is made ready.

    Args:
        profiles: Of these kinds of machines, all.
        boots: Whether each is booted and cloned once, beside that it is fetched.
    """

    profiles: Sequence[str]
    boots: bool


def set_up(kernel: str, extent: Extent, cache: Cache, progress: Progress, wishes: Wishes) -> list[dict[str, object]]:
    """Fetch what machines with a kernel are made of, boot each once and clone it once; a row about each.

    Raises:
        VmError: something could not be had, or a machine was lost.
    """
    project = Path.cwd() if Path("pyproject.toml").is_file() else None
    rows: list[dict[str, object]] = []
    for profile in extent.profiles:
        with Template(
            kernel, profile=profile, cache=cache, progress=progress, project=project, wishes=wishes
        ) as template:
            if extent.boots:
                template.clone().close()
            kernel_facts, machine = template.facts["kernel"], template.facts["machine"]
        assert isinstance(kernel_facts, Mapping)
        assert isinstance(machine, Mapping)
        facts = {**kernel_facts, **machine, "profile": profile}
        rows.append({name: facts.get(name) for name in COLUMNS})
    return rows


def set_up_all(
    kernels: Iterable[str], extent: Extent, cache: Cache, progress: Progress, wishes: Wishes
) -> list[dict[str, object]]:
    """As `set_up` for each kernel of the table; one that the archive has no more is told and left out.

    Raises:
        VmError: none could be had, or a machine was lost.
    """
    rows, errors = [], []
    for kernel in kernels:
        try:
            rows += set_up(kernel, extent, cache, progress, wishes)
        except ProvisionError as error:
            errors.append(error)
            progress.note(f"kernel {kernel} left out: {error}")
    if errors and not rows:
        raise errors[0]
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`[KERNEL …]` and how."""
    parser.add_argument("kernel", nargs="*", help="a series, a role (oldest, stable, newest) or all; see `kernels`")
    parser.add_argument("--all", action="store_true", help="every kernel of the table; what is gone is left out")
    parser.add_argument(
        "--profile", action="append", help="the kind of machine (default: plain); more than once adds more"
    )
    parser.add_argument("--fetch-only", action="store_true", help="fetch and build all parts, and boot nothing")
    parser.add_argument("--refresh", action="store_true", help="ask for newer packages of what is there already")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing on the way")
    wishes_options.add_arguments(parser)


def choose(arguments: argparse.Namespace, wishes: Wishes) -> tuple[str, ...]:
    """The kernels that are named; of one's own, and no other, where one is given and none is named.

    Raises:
        ProvisionError: a word means none; lists what there is.
    """
    words = EVERY if arguments.all else ",".join(arguments.kernel)
    if wishes.kernel is None:
        return select_kernels(words or read_rows().default)
    return (*(select_kernels(words) if words else ()), wishes.kernel.name)


def run(arguments: argparse.Namespace) -> int:
    """Set up and print what there is now."""
    wishes = wishes_options.read(arguments)
    kernels = choose(arguments, wishes)
    extent = Extent(tuple(dict.fromkeys(arguments.profile or ["plain"])), boots=not arguments.fetch_only)
    cache = Cache()
    if arguments.refresh:
        cache.forget_choices()
    every = arguments.all or EVERY in arguments.kernel
    with open_progress(sys.stderr, quiet=arguments.quiet) as progress:
        if every:
            rows = set_up_all(kernels, extent, cache, progress, wishes)
        else:
            rows = [row for kernel in kernels for row in set_up(kernel, extent, cache, progress, wishes)]
    print_rows(rows, COLUMNS, as_json=arguments.json)
    return 0
