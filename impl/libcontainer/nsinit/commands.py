"""The subcommands: name, module and first words. A module is loaded when its subcommand is called."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.nsinit.options import FLAG, TEXT, Command, Option

PROGRAM = "nsinit"

# Name -> module below `verbs`, in the order of the help: a container's life, what runs in it, looking, describing.
VERBS = {
    "create": "creating",
    "start": "starting",
    "run": "running",
    "exec": "executing",
    "kill": "killing",
    "delete": "deleting",
    "pause": "pausing",
    "resume": "resuming",
    "update": "updating",
    "state": "stating",
    "list": "listing",
    "ps": "processes",
    "events": "eventing",
    "stats": "measuring",
    "spec": "specifying",
    "config": "converting",
    "plan": "planning",
    "features": "featuring",
    "completion": "completing",
}
# Names of 2014, of other runtimes, and of what is inside: accepted, not advertised.
HIDDEN = {
    "unpause": "resuming",
    "exec-2014": "executing_2014",
    "init": "initiating",
    "nsenter": "entering",
    "manual": "documenting",
}

GLOBAL = Command(
    "start and control containers from bundles of the OCI runtime specification",
    (
        Option("--root", TEXT, "directory of the containers' states", "DIR"),
        Option("--log", TEXT, "append records to a file as well", "FILE"),
        Option("--log-format", TEXT, "how records are written", "FORMAT", choices=("text", "json")),
        Option("--debug", FLAG, "record each step"),
        Option("--systemd-cgroup", FLAG, "let systemd make the cgroup: cgroupsPath is slice:prefix:name"),
        Option("--cgroup-manager", TEXT, "who makes the cgroup", "WHO", choices=("cgroupfs", "systemd", "disabled")),
        Option("--rootless", TEXT, "ignore what only root may do", "WHEN", choices=("true", "false", "auto")),
        Option("--version -v", FLAG, "print the version and end"),
        Option("--help -h", FLAG, "print this help and end"),
        Option("--criu", TEXT, "accepted for other runtimes' sake; there are no checkpoints here", "PATH", hidden=True),
    ),
    ("COMMAND", "[ARGUMENT...]"),
    in_order=True,
)
HELP = Option("--help -h", FLAG, "print this help and end")


def module_of(name: str) -> str | None:
    """The module of a subcommand, or None if there is none of the name."""
    found = VERBS.get(name) or HIDDEN.get(name)
    return f"kernelproof.impl.libcontainer.nsinit.verbs.{found}" if found else None


def load(name: str) -> Command:
    """The table of a subcommand, its module loaded.

    Raises:
        LookupError: there is none of the name.
    """
    module = module_of(name)
    if module is None:
        raise LookupError(name)
    __import__(module)
    command: Command = sys.modules[module].COMMAND
    return command
