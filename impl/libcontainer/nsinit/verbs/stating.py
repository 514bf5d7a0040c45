"""state: print what a container is."""

from __future__ import annotations

from kernelproof.impl.libcontainer.conditions import read_state
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.nsinit.tables import print_json
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints the state."""
    print_json(read_state(context.root or default_root(), given.operands[0]))
    return 0


COMMAND = Command(
    "print the state of a container as JSON",
    (),
    ("ID",),
    run=run,
    details="As in runtime.md of the specification, with rootfs, created and owner beside it. The status is creating, "
    "created, running, paused or stopped.",
    examples=("nsinit state web",),
)
