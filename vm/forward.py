"""What of the host's pytest matters in the guest: options, plugins, folders on the import path, project settings.

Everything is forwarded deliberately: options that select, order, show or write files are the host's own business.
Builds data only.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

import kernelproof
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.measured import plan_measurement
from kernelproof.vm.selection import MachineKey

CONFORMANCE_PLUGIN = "kernelproof-conformance"  # as the host's entry point calls it
_CONFORMANCE_MODULE = "kernelproof.conformance.plugin"
_FIXTURES_MODULE = "kernelproof.vm.guest.fixtures"

# Of a machine whose second port is the user's terminal. (--pdbcls arrives as the two texts that it was made of.)
DEBUG_OPTIONS = ("usepdb", "usepdb_cls", "trace")

# Options that the host alone obeys, by their names in `config.option`. All others travel if they are plain values: of
# pytest those that shape fixtures, warnings, assertions, logging and tracebacks, and those of the project's conftests.
HOST_OPTIONS = frozenset(
    {
        # which items, in which order, when to stop
        "keyword",
        "markexpr",
        "markers",
        "deselect",
        "ignore",
        "ignore_glob",
        "pyargs",
        "keepduplicates",
        "collectonly",
        "maxfail",
        "lf",
        "failedfirst",
        "newfirst",
        "last_failed_no_failures",
        "stepwise",
        "stepwise_skip",
        "stepwise_reset",
        "continue_on_collection_errors",
        "file_or_dir",
        # what is shown, and where it is written
        "durations",
        "durations_min",
        "no_header",
        "no_summary",
        "fold_skipped",
        "force_short_summary",
        "reportchars",
        "disable_warnings",
        "max_warnings",
        "showcapture",
        "color",
        "code_highlight",
        "cacheshow",
        "cacheclear",
        "xmlpath",
        "junitprefix",
        "pastebin",
        "debug",
        "traceconfig",
        "log_file",
        "log_file_mode",
        "showfixtures",
        "show_fixtures_per_test",
        "help",
        "version",
        "basetemp",
        # what the guest is told in another way
        "plugins",
        "disable_plugin_autoload",
        "rootdir",
        "inifilename",
        "capture",
        # what has no place in a machine that nobody looks into
        *DEBUG_OPTIONS,
        "kernel",
        "kernel_image",
        "modules",
        "kernel_tree",
        "guest_root",
        "append",
        "package",
        "vm_timeout",
        "vm_scope",
        "vm_keep",
        "vm_repeat",
        "vm_vary",
        "vm_none",
        # distribution
        "numprocesses",
        "maxprocesses",
        "maxworkerrestart",
        "dist",
        "loadscopereorder",
        "tx",
        "px",
        "distload",
        "rsyncdir",
        "rsyncignore",
        "testrunuid",
        "maxschedchunk",
        "looponfail",
        "loadgroup",
    }
)

# The guest has no use for these, or its own.
_HOST_PLUGINS = ("kernelproof.vm", "kernelproof-vm", "terminal", "no:terminal", "xdist", "no:xdist")


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """`[tool.kernelproof]` of a project's pyproject.toml, as far as tests are concerned.

    Args:
        guest_plugins: pytest plugins that the guest loads, as arguments of `-p`.
        guest_files: Patterns of the files that are pushed into machines, relative to the root; none means all,
            and one after a `!` says what is not.
    """

    guest_plugins: tuple[str, ...] = ()
    guest_files: tuple[str, ...] = ()


def parse_settings(text: str, path: str) -> ProjectSettings:
    """The settings in the text of a pyproject.toml.

    Raises:
        ProvisionError: not TOML, or a value that is no list of texts.
    """
    try:
        table = tomllib.loads(text).get("tool", {}).get("kernelproof", {})
        return ProjectSettings(_texts(table, "guest-plugins"), _texts(table, "guest-files"))
    except (ValueError, AttributeError) as error:
        remedy = "correct it; guest-plugins and guest-files are lists of texts"
        raise ProvisionError("read [tool.kernelproof]", path, str(error), remedy) from error


def _texts(table: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{name} is {value!r}")
    return tuple(cast("list[str]", value))


def read_settings(root: Path) -> ProjectSettings:
    """The settings of the project at `root`; the defaults without a pyproject.toml.

    Raises:
        ProvisionError: as `parse_settings`.
        OSError: the file is there and can't be read.
    """
    path = root / "pyproject.toml"
    try:
        return parse_settings(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return ProjectSettings()


def plan_options(options: Mapping[str, object]) -> dict[str, object]:
    """Those of the host's option values that the guest gets: plain ones that are not the host's alone."""
    plan = {name: value for name, value in options.items() if name not in HOST_OPTIONS and is_plain(value)}
    # With -s the host prints what the guest captured: a machine has no terminal of the user's.
    capture = options.get("capture")
    plan["capture"] = capture if capture in ("fd", "sys") else "fd"
    return plan


def is_plain(value: object) -> bool:
    """Whether a value can travel as JSON and arrive as the same (tuples arrive as lists, and are left out)."""
    if isinstance(value, list):
        return all(is_plain(inner) for inner in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    return value is None or type(value) in (bool, int, float, str)


def plan_plugins(named: Iterable[str], own: Iterable[str], *, conformance: bool) -> list[str]:
    """Arguments of `-p` for the guest.

    Args:
        named: Those of the host's command line.
        own: The project's `guest-plugins`.
        conformance: Whether the host has the conformance plugin.
    """
    plan = [_FIXTURES_MODULE, *([_CONFORMANCE_MODULE] if conformance else [])]
    plan += own
    plan += [name for name in named if not name.startswith(_HOST_PLUGINS)]
    return list(dict.fromkeys(plan))


def plan_path(path: Sequence[str], root: Path, stdlib: str, prefix: str) -> tuple[list[str], list[str]]:
    """The folders of the host's import path that lie in the project: those before the standard library, those after.

    Args:
        path: The host's `sys.path`.
        root: The project's root, absolute.
        stdlib: Where the host's standard library is, an entry of `path`.
        prefix: Where the host's Python environment is: what lies in it is not the project's.
    """
    border = path.index(stdlib) if stdlib in path else len(path)
    first: list[str] = []
    last: list[str] = []
    for index, entry in enumerate(path):
        folder = Path(entry) if entry else Path.cwd()
        if folder.is_relative_to(root) and not (Path(prefix) != root and folder.is_relative_to(prefix)):
            (first if index < border else last).append(str(folder))
    return first, last


def package_folder() -> Path:
    """Where kernelproof itself is installed."""
    return Path(str(kernelproof.__file__)).absolute().parent


def plan_environment(key: MachineKey, release: str) -> dict[str, str]:
    """What is added to the guest's environment: where it is."""
    guest = {"series": key.series, "release": release, "profile": key.profile, "time": key.time}
    return {"KERNELPROOF_GUEST": json.dumps(guest)}


def plan_session(config: pytest.Config, files: Sequence[Path], *, debugs: bool) -> dict[str, object]:
    """The `session` message: what the guest's pytest starts with; its `environment` is not in it yet.

    Args:
        config: The host's configuration.
        files: The test files to collect, absolute.
        debugs: Whether its items may be debugged at the user's terminal.

    Raises:
        ProvisionError: the project's settings are wrong.
    """
    settings = read_settings(config.rootpath)
    stdlib = os.path.dirname(os.__file__)
    first, last = plan_path(sys.path, config.rootpath, stdlib, sys.prefix)
    named = config.option.plugins
    conformance = config.pluginmanager.has_plugin(CONFORMANCE_PLUGIN)
    options = plan_options(vars(config.option))
    if debugs:
        options |= {name: getattr(config.option, name, None) for name in DEBUG_OPTIONS}
    return {
        "kind": "session",
        "directory": str(config.invocation_params.dir),
        "arguments": [str(path) for path in files],
        "plugins": plan_plugins(named, settings.guest_plugins, conformance=conformance),
        "options": options,
        "rootdir": str(config.rootpath),
        "inifile": None if config.inipath is None else str(config.inipath),
        "first": first,
        "path": list(dict.fromkeys([*last, str(package_folder().parent)])),
        "debugs": debugs,
        "coverage": plan_measurement(config.rootpath),
    }
