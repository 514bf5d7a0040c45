"""`kernelproof setup`: fetch and boot once, so that later runs start at once and need no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kernelproof.cli.tables import print_rows
from kernelproof.vm.cache import Cache
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.provision_progress import open_progress
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.template import Template

COLUMNS = ("series", "release", "package", "build", "accelerator")


def set_up(kernels: Iterable[str], profile: str, cache: Cache, progress: Progress) -> Iterator[dict[str, object]]:
    """Fetch what a machine with each kernel is made of, boot it once and clone it once; one row each.

    Raises:
        VmError: something could not be had, or the machine was lost.
    """
    project = Path.cwd() if Path("pyproject.toml").is_file() else None
    for series in kernels:
        with Template(series, profile=profile, cache=cache, progress=progress, project=project) as template:
            template.clone().close()
            kernel, machine = template.facts["kernel"], template.facts["machine"]
            assert isinstance(kernel, Mapping)
            assert isinstance(machine, Mapping)
            yield {name: {**kernel, **machine}.get(name) for name in COLUMNS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`[KERNEL …]` and how."""
    parser.add_argument("kernel", nargs="*", help="a series, a role (oldest, stable, newest) or all; see `kernels`")
    parser.add_argument("--profile", default="plain", help="the kind of machine (default: plain)")
    parser.add_argument("--refresh", action="store_true", help="ask for newer packages of what is there already")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing on the way")


def run(arguments: argparse.Namespace) -> int:
    """Set up and print what there is now."""
    kernels = select_kernels(",".join(arguments.kernel) or read_rows().default)
    cache = Cache()
    if arguments.refresh:
        cache.forget_choices()
    with open_progress(sys.stderr, quiet=arguments.quiet) as progress:
        rows = list(set_up(kernels, arguments.profile, cache, progress))
    print_rows(rows, COLUMNS, as_json=arguments.json)
    return 0
