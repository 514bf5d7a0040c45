"""A program that is born in a cgroup: never anywhere else, not for a moment.

    with Cgroup.create("web/worker") as cgroup:
        born = cgroup.spawn(["/usr/bin/worker"])

A process that is made first and moved then has run outside already: its first memory is charged there, its first child
may escape, and the move can be refused while it is starting. clone3(2) takes the descriptor of the cgroup's directory
in place of all that (Linux 5.7, version 2 only). A runtime that makes its processes itself passes
`Directory.fileno()` to `clone3` with CLONE_INTO_CGROUP.

On Linux 6.18 to 7.2, and maybe on others, what is born in a cgroup on which cgroup.kill was used before is killed at
once: make the cgroup anew, or move the process there.

Source: clone(2), CLONE_INTO_CGROUP.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple, NoReturn
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_NUMBER_BYTES = 4


class Born(NamedTuple):
    """A process, and a descriptor of it that is close-on-exec and the caller's to close."""

    pid: int
    pidfd: int


def spawn(directory: Directory, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Born:
    """Start a program in a cgroup.

    It has this process's descriptors that are not close-on-exec, its signal mask and its working directory.

    Args:
        directory: the cgroup, of version 2.
        argv: the program, as a path, and its arguments.
        env: its environment; this process's own by default.

    Raises:
        NoControllerError: a cgroup of version 1, into which nothing can be born.
        RuntimeError: this process has more than one thread.
        OSError: EBUSY: the cgroup gives domain controllers on; EOPNOTSUPP: an invalid domain; EACCES: no right to move
            a process there; EAGAIN: pids.max; ENODEV: it was removed; ENOSYS, E2BIG: before Linux 5.7; or what
            execve(2) says of the program. No process is left then.
    """
    if directory.version != 2:
        raise NoControllerError(f"{directory.path} is of version 1: a process can only be moved there after its birth")
    if not argv:
        raise ValueError("argv is empty: it begins with the program")
    said, told = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            born = clone3(CloneFlag.INTO_CGROUP | CloneFlag.PIDFD, cgroup_fd=directory.fileno())
            if born.pid == 0:
                _become(argv, os.environ if env is None else env, told)
        except OSError as error:
            _explain(error, directory)
            raise
        finally:
            os.close(told)
        answer = os.read(said, _NUMBER_BYTES)  # nothing: execve closed it
    finally:
        os.close(said)
    assert born.pidfd is not None
    if answer:
        os.waitpid(born.pid, 0)
        os.close(born.pidfd)
        number = int.from_bytes(answer, "little")
        refused = OSError(number, os.strerror(number), argv[0])
        refused.add_note(f"execve in the cgroup {directory.path}")
        raise refused
    return Born(born.pid, born.pidfd)


def _become(argv: Sequence[str], env: Mapping[str, str], told: int) -> NoReturn:
    try:
        os.execve(argv[0], list(argv), dict(env))
    except OSError as error:
        os.write(told, (error.errno or errno.EIO).to_bytes(_NUMBER_BYTES, "little"))
    finally:
        os._exit(127)  # nothing may leave this function: the caller's frames belong to the parent


def _explain(error: OSError, directory: Directory) -> None:
    error.add_note(f"a birth into the cgroup {directory.path}")
    if error.errno == errno.EBUSY:
        given = ", ".join(enabling.enabled(directory))
        error.add_note(f"the cgroup gives {given} to those below it, so it may hold no processes: use one below it")
    elif error.errno == errno.EOPNOTSUPP:
        error.add_note("the cgroup is an invalid domain: write threaded to its cgroup.type first, or use another")
    elif error.errno == errno.EACCES:
        error.add_note("cgroup.procs of the cgroup and of the nearest common ancestor must be this user's to write")
    elif error.errno == errno.EAGAIN:
        error.add_note("pids.max of the cgroup or of one above is reached")
