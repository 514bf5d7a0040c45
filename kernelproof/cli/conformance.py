"""`kernelproof conformance`: the suite that came with kernelproof, run on a kernel of the table or on one's own.

The catalogue, its tests and witnesses are data of the installed package; pytest runs them where they lie. This process
becomes that pytest, so that its output, its signals and its exit status are pytest's own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, NoReturn

from kernelproof.cli import wishes as wishes_options
from kernelproof.cli.tables import print_rows
from kernelproof.conformance.catalogue import Entry, read_catalogue
from kernelproof.vm.adding_up import AddUp
from kernelproof.vm.errors import VmError
from kernelproof.vm.forward import package_folder
from kernelproof.vm.kernel_select import read_rows, select_kernels

COLUMNS = ("id", "kernels", "statement")
OBSERVERS = ("pyroute2",)  # what the suite's tests import beside what kernelproof needs: the extra `observe`

EPILOG = """examples:
  kernelproof conformance -k bridge                             on the default kernel
  kernelproof conformance --kernel-tree ~/linux --quick         one statement a topic, on the kernel built there
  kernelproof conformance --kernel-image bzImage -n 4           all of it, by four workers (with pytest-xdist)
  kernelproof conformance --kernel oldest,newest -- --maxfail 3 what stands behind -- is pytest's
  kernelproof conformance --list --json                         the statements, and nothing is run

Needs the observers: pip install 'kernelproof[observe]'. Results go to results/KERNEL.json below the working directory.

exit status: pytest's. 0 if nothing failed or broke, 1 if something did, 2 after Ctrl-C or a usage error of ours, 3 and
4 after an internal or a usage error of pytest, 5 if nothing was selected."""


class Suite(NamedTuple):
    """Where the suite lies.

    Args:
        folder: Of its tests and its catalogue.
        settings: What pytest is started with.
        ceiling: A folder above which git is not to look for the suite's repository; None in a checkout.
    """

    folder: Path
    settings: Path
    ceiling: Path | None


def find_suite() -> Suite:
    """The suite beside the code that runs: in an environment, or in a checkout by its real name."""
    package = package_folder().resolve()
    folder = (package / "conformance").resolve()
    is_installed = folder.parent == package  # a checkout has a link there
    return Suite(folder, folder / "suite.ini", package.parent if is_installed else None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kernels, which statements, and how."""
    text = "a series, a role (oldest, stable, newest) or all, with commas; your own kernel alone where one is given"
    parser.add_argument("--kernel", metavar="KERNELS", action=AddUp, help=text)
    parser.add_argument("-k", dest="keyword", metavar="EXPRESSION", help="only tests whose names fit, as of pytest")
    parser.add_argument("--quick", action="store_true", help="one statement in each topic")
    parser.add_argument("-n", dest="workers", metavar="NUMBER", help="that many workers, or auto (pytest-xdist)")
    parser.add_argument("-x", dest="first", action="store_true", help="end after the first failure")
    text = "where KERNEL.json goes (default: results)"
    parser.add_argument("--results-dir", metavar="DIR", type=Path, default=Path("results"), help=text)
    parser.add_argument("--junitxml", metavar="FILE", type=Path, help="write JUnit XML too")
    parser.add_argument("--list", action="store_true", help="print the statements, and run nothing")
    parser.add_argument("--json", action="store_true", help="with --list: JSON instead of a table")
    wishes_options.add_arguments(parser)
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="further arguments of pytest, behind --")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def plan_words(arguments: argparse.Namespace, suite: Suite, directory: Path, python: str) -> list[str]:
    """The command line of pytest. Pure.

    Args:
        arguments: As parsed; `kernel` says all that is to be said.
        suite: The suite.
        directory: The working directory, which results and pytest's cache go below.
        python: The interpreter. It is told not to look for modules in the working directory.
    """
    words = [python, "-P", "-m", "pytest", f"--config-file={suite.settings}", f"--rootdir={suite.folder.parent}"]
    words += ["-o", f"cache_dir={directory / '.pytest_cache'}", f"--results-dir={directory / arguments.results_dir}"]
    values = {
        "kernel": arguments.kernel,
        "kernel-image": arguments.kernel_image,
        "modules": arguments.modules,
        "kernel-tree": arguments.kernel_tree,
        "guest-root": arguments.guest_root,
        "junitxml": arguments.junitxml,
    }
    words += [f"--{name}={value}" for name, value in values.items() if value is not None]
    words += [f"--append={text}" for text in arguments.append]
    words += [f"--package={name}" for name in arguments.package]
    words += ["--behaviours=quick"] if arguments.quick else []
    words += ["-k", arguments.keyword] if arguments.keyword is not None else []
    words += ["-n", arguments.workers] if arguments.workers is not None else []
    words += ["-x"] if arguments.first else []
    return [*words, *arguments.pytest, str(suite.folder)]


def plan_environment(environment: Mapping[str, str], suite: Suite) -> dict[str, str]:
    """The environment of pytest: git takes the repository that an environment lies in for nobody's suite."""
    if suite.ceiling is None:
        return dict(environment)
    ceilings = [str(suite.ceiling), *filter(None, [environment.get("GIT_CEILING_DIRECTORIES")])]
    return {**environment, "GIT_CEILING_DIRECTORIES": os.pathsep.join(ceilings)}


def describe(entry: Entry) -> dict[str, object]:
    """A row about a statement."""
    return {
        "id": entry.id,
        "subsystem": entry.subsystem,
        "statement": entry.statement,
        "source": entry.source,
        "kernels": None if entry.kernels is None else entry.kernels.text,
        "needs": [requirement.text for requirement in entry.needs],
        "of": entry.of,
    }


def become(words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Be this program from now on.

    Raises:
        OSError: as execve(2) refuses.
    """
    sys.stdout.flush()
    os.execve(words[0], list(words), environment)


def run(arguments: argparse.Namespace) -> int:
    """Print the statements; or become the pytest that runs the suite.

    Raises:
        VmError: the observers are not installed, the options name no kernel that there is, or they choose tests for a
            list of statements.
        OSError: the interpreter can't be started.
    """
    suite = find_suite()
    if arguments.list:
        chosen = {"--kernel": arguments.kernel, "-k": arguments.keyword, "--quick": arguments.quick or None}
        if named := [name for name, value in chosen.items() if value is not None]:
            remedy = "leave it out; behind -- pytest's own --collect-only lists what a choice selects"
            raise VmError("list the statements", " ".join(named), "it chooses tests, and the list has all", remedy)
        catalogue = read_catalogue([suite.folder / "behaviours"])
        print_rows([describe(entry) for entry in catalogue.entries.values()], COLUMNS, as_json=arguments.json)
        return 0
    if lacking := [name for name in OBSERVERS if find_spec(name) is None]:
        remedy = "pip install 'kernelproof[observe]'"
        raise VmError("run the suite", ", ".join(lacking), "not installed, and its tests import it", remedy)
    own = wishes_options.read(arguments).kernel is not None
    if arguments.kernel is not None:
        select_kernels(arguments.kernel)  # told now, not behind the collection
    elif not own:
        arguments.kernel = read_rows().default
    become(plan_words(arguments, suite, Path.cwd(), sys.executable), plan_environment(os.environ, suite))
