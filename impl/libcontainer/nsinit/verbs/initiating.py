"""init, of 2014: what the parent started as the container's first process. Here nobody has to call it."""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.state import ContainerError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Refuses, with the reason."""
    raise ContainerError("init: the runtime's own process becomes the container's first; call create or run")


COMMAND = Command("of 2014: began a container from inside; nothing to call here", (), ("[WORD...]",), run=run)
