"""`kernelproof setup`: fetch and boot once, so that later runs start at once and need no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
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

COLUMNS = ("name", "release", "package", "build", "accelerator")
EVERY = "all"  # the word for all kernels of the table


def set_up(kernel: str, profile: str, cache: Cache, progress: Progress, wishes: Wishes) -> dict[str, object]:
    """Fetch what a machine with a kernel is made of, boot it once and clone it once; a row about it.

    Raises:
        VmError: something could not be had, or the machine was lost.
    """
    project = Path.cwd() if Path("pyproject.toml").is_file() else None
    with Template(kernel, profile=profile, cache=cache, progress=progress, project=project, wishes=wishes) as template:
        template.clone().close()
        kernel_facts, machine = template.facts["kernel"], template.facts["machine"]
    assert isinstance(kernel_facts, Mapping)
    assert isinstance(machine, Mapping)
    return {name: {**kernel_facts, **machine}.get(name) for name in COLUMNS}


def set_up_all(
    kernels: Iterable[str], profile: str, cache: Cache, progress: Progress, wishes: Wishes
) -> list[dict[str, object]]:
    """As `set_up` for each kernel of the table; one that the archive has no more is told and left out.

    Raises:
        VmError: none could be had, or a machine was lost.
    """
    rows, errors = [], []
    for kernel in kernels:
        try:
            rows.append(set_up(kernel, profile, cache, progress, wishes))
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
    parser.add_argument("--profile", default="plain", help="the kind of machine (default: plain)")
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
    cache = Cache()
    if arguments.refresh:
        cache.forget_choices()
    every = arguments.all or EVERY in arguments.kernel
    with open_progress(sys.stderr, quiet=arguments.quiet) as progress:
        if every:
            rows = set_up_all(kernels, arguments.profile, cache, progress, wishes)
        else:
            rows = [set_up(kernel, arguments.profile, cache, progress, wishes) for kernel in kernels]
    print_rows(rows, COLUMNS, as_json=arguments.json)
    return 0
