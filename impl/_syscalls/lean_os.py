"""`os` as far as it is built into the interpreter; what is not is looked up in os when it is asked for.

To load os takes a fifth of an interpreter's start, and a command that reads a state or sends a signal uses nothing of
what it adds to posix:

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        import os
    else:
        from kernelproof.impl._syscalls import lean_os as os

Source: Python documentation, posix; PEP 562.
"""

from __future__ import annotations

import posix
import sys
from posix import *  # noqa: F403 - all that os has from there
from posix import _exit as _exit

del environ  # noqa: F821 - of bytes; that of os is another


def has_variable(name: str) -> bool:
    """Whether there is an environment variable of this name."""
    loaded = sys.modules.get("os")
    return name.encode() in posix.environ if loaded is None else name in loaded.environ


def __getattr__(name: str) -> object:
    if name.startswith("__"):  # an import asks whether this is a package
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import os  # measured: see above

    value: object = getattr(os, name)
    globals()[name] = value
    return value
