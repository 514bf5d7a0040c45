"""plan: print what create would do, step by step, without doing it."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.config.reading import load_config
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.nsinit.options import TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.tables import plain, print_json
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import BUNDLE
from kernelproof.impl.libcontainer.plan import Request, plan_container
from kernelproof.impl.libcontainer.state import check_id

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints the plan of a bundle on this host."""
    loaded = load_config(given.operands[0] if given.operands else given.text("bundle", "."))
    for warning in loaded.warnings:
        context.log.warning(f"config.json: {warning}")
    request = Request(check_id(given.text("id", "plan")), loaded.bundle)
    operations = plan_container(loaded.config, read_host(), request)
    if given.text("format", "text") == "json":
        steps = [
            {"stage": one.stage, "operation": type(one).__name__, "description": one.describe()} for one in operations
        ]
        print_json(steps)
    else:
        width = len(str(len(operations)))
        for number, one in enumerate(operations, 1):
            sys.stdout.write(f"{number:{width}} {one.stage:5} {plain(one.describe())}\n")
    return 0


COMMAND = Command(
    "print what create would do, step by step; nothing is done",
    (
        BUNDLE,
        Option("--id", TEXT, "the ID that the container would have", "ID"),
        Option("--format -f", TEXT, "text or json", "FORMAT", choices=("text", "json")),
    ),
    ("[BUNDLE]",),
    run=run,
    details="Of each step, the stage is said first: host (by the runtime), init (by the container's process, before "
    "its root is in place), root (on its way into the root), final (last before the program).",
    examples=("nsinit plan /srv/web",),
)
