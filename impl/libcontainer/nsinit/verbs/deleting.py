"""delete: remove what was made for a container."""

from __future__ import annotations

from kernelproof.impl.libcontainer.ending import delete
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Given, Option
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Deletes the container."""
    root = context.root or default_root()
    delete(root, given.operands[0], force=given.flag("force"), tell=context.log.warning)
    return 0


COMMAND = Command(
    "remove a container that has stopped, with all that was made for it",
    (Option("--force -f", FLAG, "kill it first; no error if there is none"),),
    ("ID",),
    run=run,
    examples=("nsinit delete web", "nsinit delete --force web"),
)
