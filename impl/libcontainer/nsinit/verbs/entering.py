"""nsenter, of 2014: joined a container by pid, label and configuration. exec does that by the container's ID."""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.state import ContainerError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Refuses, with the reason."""
    raise ContainerError("nsenter: a pid alone is no container, it may be another's by now; call exec with the ID")


COMMAND = Command(
    "of 2014: joined a container by a pid; exec does it by ID", (), ("[WORD...]",), run=run, in_order=True
)
