"""config: check a configuration, of the specification or of 2014, and print it as either, or what differs."""

from __future__ import annotations

import os
import sys

from kernelproof.impl.libcontainer.config import jsontext
from kernelproof.impl.libcontainer.config.legacy import FILE as LEGACY_FILE
from kernelproof.impl.libcontainer.config.legacy import convert_legacy, is_legacy
from kernelproof.impl.libcontainer.config.legacy_writing import dump_legacy
from kernelproof.impl.libcontainer.config.problems import ConfigError, Problem
from kernelproof.impl.libcontainer.config.reading import FILE, parse_config_with_warnings, read_bounded
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.config.writing import compare, dump
from kernelproof.impl.libcontainer.nsinit.options import TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.tables import print_json
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import BUNDLE

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints the configuration, or the differences; 1 if there are differences."""
    path = find_file(given.operands[0] if given.operands else given.text("bundle", "."))
    config, warnings = load_either(path, given.operands[1:])
    for warning in warnings:
        context.log.warning(f"{path}: {warning}")
    if given.has("compare"):
        found = compare(config, load_either(find_file(given.text("compare")))[0])
        if given.text("format", "text") == "json":
            print_json([{"path": one.path, "left": one.left, "right": one.right} for one in found])
        else:
            sys.stdout.write("".join([f"{one}\n" for one in found]))
        return 1 if found else 0
    sys.stdout.write(dump_legacy(config) if given.text("to", "oci") == "2014" else dump(config, own=True))
    return 0


def find_file(path: str) -> str:
    """The configuration that a path names: a file, or of a directory config.json, else container.json."""
    if not os.path.isdir(path):
        return path
    current = os.path.join(path, FILE)
    legacy = os.path.join(path, LEGACY_FILE)
    return legacy if os.path.exists(legacy) and not os.path.exists(current) else current


def load_either(path: str, args: Sequence[str] = ()) -> tuple[Config, list[Problem]]:
    """Reads a configuration of the specification, or of 2014, for a program; what is odd in it comes beside it.

    Raises:
        OSError: it can't be read.
        ConfigError: it can't be taken.
    """
    data = read_bounded(path)
    try:
        value = jsontext.parse(data)
    except ValueError as error:
        raise ConfigError(path, [Problem("$", "", str(error))]) from None
    if not is_legacy(value):
        config, warnings = parse_config_with_warnings(data, path, own=True)
        if args and config.process is not None:
            config = config.replace(process=config.process.replace(args=tuple(args)))
        return config, list(warnings)
    config, problems, odd = convert_legacy(value, args)
    if problems:
        raise ConfigError(path, problems)
    if not args:
        remedy = "Name it behind the path"
        odd.append(Problem("$", "", "the file names no program, and config.json needs one", remedy))
    return config, odd


COMMAND = Command(
    "check a configuration and print it, converted or compared",
    (
        BUNDLE,
        Option("--to", TEXT, "oci: as config.json; 2014: as container.json", "FORM", choices=("oci", "2014")),
        Option("--compare", TEXT, "print instead where another file differs; exit status 1 if it does", "PATH"),
        Option("--format -f", TEXT, "of differences: text or json", "FORMAT", choices=("text", "json")),
    ),
    ("[PATH]", "[COMMAND...]"),
    run=run,
    in_order=True,
    details="PATH is a file or a bundle. A container.json of 2014 is told by its keys; of its five generations the "
    "first is refused, as its capabilities meant the opposite. It names no program: COMMAND does. Keys that only "
    "this runtime has are written too.",
    examples=("nsinit config /srv/web", "nsinit config --to oci container.json httpd -f > config.json"),
)
