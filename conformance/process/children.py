"""Children as the impl makes them."""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.namespaces import clone3


def cloned() -> int:
    """Make a child as fork does; return its pid, and 0 in the child."""
    return clone3(0).pid


def make_process(set_tid: tuple[int, ...] = ()) -> None:
    """Make a child that ends at once, and wait for it."""
    pid = clone3(0, set_tid=set_tid).pid
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
