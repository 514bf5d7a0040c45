"""completion: what shells need to complete the words of nsinit."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.nsinit.completion import SCRIPTS, complete
from kernelproof.impl.libcontainer.nsinit.options import Command, Given, UsageError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints a script, or for `words` what the last word may be."""
    what, *words = given.operands
    if what == "words":
        sys.stdout.write("".join([f"{word}\n" for word in complete(words)]))
        return 0
    script = SCRIPTS.get(what)
    if script is None:
        raise UsageError(f"shell {what!r}: one of {', '.join(SCRIPTS)} is needed")
    sys.stdout.write(script)
    return 0


COMMAND = Command(
    "print the script by which a shell completes words: bash, zsh or fish",
    (),
    ("SHELL", "[WORD...]"),
    run=run,
    in_order=True,
    examples=('eval "$(nsinit completion bash)"', 'eval "$(nsinit completion zsh)"'),
)
