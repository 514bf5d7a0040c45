"""resume, in 2014 unpause: let a paused container go on."""

from __future__ import annotations

from kernelproof.impl.libcontainer.lifecycle import resume
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Resumes the container."""
    resume(context.root or default_root(), given.operands[0])
    return 0


COMMAND = Command("let a paused container go on", (), ("ID",), run=run, examples=("nsinit resume web",))
