"""Modules that are loaded when something of them is asked for first, under the names that an import would give them.

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from kernelproof.impl.cgroups import ending
    else:
        from kernelproof.impl._syscalls.late import Late

        ending = Late("kernelproof.impl.cgroups.ending")

For what a command that lives for milliseconds needs seldom, or only while another process is at work.
"""

from __future__ import annotations

import sys


class Late:
    """Stands for a module.

    Args:
        name: whole.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        __import__(self._name)
        return getattr(sys.modules[self._name], name)

    def __repr__(self) -> str:
        return f"<{self._name}, when it is needed>"


def load(module: object) -> None:
    """Loads a module that is late now, as there is time."""
    getattr(module, "__name__")  # noqa: B009 - the look-up is what loads it
