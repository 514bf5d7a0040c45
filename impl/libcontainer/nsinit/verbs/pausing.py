"""pause: freeze all processes of a container."""

from __future__ import annotations

from kernelproof.impl.libcontainer.lifecycle import pause
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Pauses the container."""
    pause(context.root or default_root(), given.operands[0])
    return 0


COMMAND = Command(
    "freeze all processes of a container, and wait until they are", (), ("ID",), run=run, examples=("nsinit pause web",)
)
