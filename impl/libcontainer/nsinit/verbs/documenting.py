"""manual: print the manual page, made of the tables that read the command line."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.nsinit.manual import make_page
from kernelproof.impl.libcontainer.nsinit.options import Command, Given

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Prints the page."""
    sys.stdout.write(make_page())
    return 0


COMMAND = Command("print the manual page, for docs/nsinit.1", run=run)
