"""start: let a created container's program begin."""

from __future__ import annotations

from kernelproof.impl.libcontainer.lifecycle import start
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Starts the program."""
    for text in start(context.root or default_root(), given.operands[0]):
        context.log.warning(f"not to be had here: {text}")
    return 0


COMMAND = Command("let the program of a created container begin", (), ("ID",), run=run, examples=("nsinit start web",))
