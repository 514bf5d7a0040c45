"""Somebody who thaws a cgroup when the process that froze it has died, SIGKILL included.

A process of its own holds the file that thaws, and reads from a pipe whose other end the freezing process has: when
that process ends, however it does, the pipe does too. It is told when the cgroup is thawed in the ordinary way.
"""

from __future__ import annotations

import os
import sys

from kernelproof.impl.cgroups.directory import Directory

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack, contextmanager
else:
    from kernelproof.impl._syscalls.unwinding import ExitStack, contextmanager

# Descriptor 0 is the pipe, 1 the file: a byte means that all is well, an end that the other process is gone.
_PROGRAM = "import os, sys; os.read(0, 1) or os.write(1, sys.argv[1].encode())"


@contextmanager
def thawed_at_death(directory: Directory) -> Iterator[None]:
    """For the block of a `with`: should this process be killed in it, the cgroup is thawed.

    Args:
        directory: of version 2, or of the freezer hierarchy.

    Raises:
        OSError: ENOENT: the root, or no freezer; EACCES; EAGAIN, ENOMEM: no process can be made.
    """
    file, word = ("cgroup.freeze", "0") if directory.version == 2 else ("freezer.state", "THAWED")
    with ExitStack() as opened:
        thaws = directory.open_file(file, os.O_WRONLY)
        opened.callback(os.close, thaws)
        waits, lives = os.pipe2(os.O_CLOEXEC)
        lifeline = opened.enter_context(open(lives, "wb", buffering=0))  # noqa: SIM115 - it is a context
        opened.callback(os.close, waits)
        argv = [sys.executable, "-I", "-S", "-c", _PROGRAM, word]
        actions = [(os.POSIX_SPAWN_DUP2, waits, 0), (os.POSIX_SPAWN_DUP2, thaws, 1)]
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=True)
        try:
            yield
        finally:
            lifeline.write(b"x")
            lifeline.close()
            os.waitpid(pid, 0)
