"""kill: send a signal."""

from __future__ import annotations

from kernelproof.impl.libcontainer.ending import kill
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.values import parse_signal
from kernelproof.impl.libcontainer.state import default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Sends the signal."""
    number = parse_signal(given.operands[1] if len(given.operands) > 1 else "TERM")
    kill(context.root or default_root(), given.operands[0], number, everything=given.flag("all"))
    return 0


COMMAND = Command(
    "send a signal to a container's first process",
    (Option("--all -a", FLAG, "to all its processes; no error if it has stopped"),),
    ("ID", "[SIGNAL]"),
    run=run,
    details="A signal is a number or a name, with or without SIG, in any case: 9, KILL, SIGKILL, RTMIN+1; TERM if none "
    "is given; 0 asks whether there is a process to send to.",
    examples=("nsinit kill web HUP", "nsinit kill --all web 9"),
)
