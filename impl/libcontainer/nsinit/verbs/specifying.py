"""spec: write a config.json to begin with."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config.templates import default_config, rootless_config
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import BUNDLE

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Writes the file; one that is there is never overwritten."""
    wanted = rootless_config(os.geteuid(), os.getegid()) if given.flag("rootless") else default_config()
    path = os.path.join(given.text("bundle", "."), "config.json")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "w") as file:
        file.write(wanted.dump())
    return 0


COMMAND = Command(
    "write a config.json to begin with",
    (BUNDLE, Option("--rootless", FLAG, "for the caller's own IDs: no root is needed to run it")),
    (),
    run=run,
    details="It runs sh at a terminal, with the directory rootfs beside it as its root, read-only. A config.json that "
    "is there already is an error.",
    examples=("mkdir -p web/rootfs && nsinit spec --bundle web",),
)
