"""features: print what this runtime knows."""

from __future__ import annotations

from kernelproof.impl.libcontainer.features import describe_features
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.nsinit.tables import print_json

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints the features."""
    print_json(describe_features())
    return 0


COMMAND = Command(
    "print what this runtime knows, as JSON",
    run=run,
    details="As in features.md of the specification: what is accepted in a configuration, whether or not this "
    "host has it.",
    examples=("nsinit features",),
)
