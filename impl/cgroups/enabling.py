"""Controllers of version 2 on the way down: `cgroup.subtree_control` of every ancestor, and why it is refused.

Source: cgroup-v2.rst, Controlling Controllers; cgroups(7), Cgroups v2 subtree control.
"""

from __future__ import annotations

import errno

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.formats import parse_words

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

THREADED = ("cpu", "cpuset", "perf_event", "pids")  # cgroup-v2.rst, Threads: controllers of threaded cgroups


def enabled(directory: Directory) -> tuple[str, ...]:
    """Controllers that a cgroup gives to those below it.

    Raises:
        OSError: as `Directory.read`.
    """
    return parse_words(directory.read("cgroup.subtree_control"))


def enable(directory: Directory, controllers: Iterable[str]) -> tuple[str, ...]:
    """Give controllers to the cgroups below one.

    Args:
        directory: of version 2.
        controllers: those that are enabled already are left alone.

    Returns:
        Those that were not enabled before: what `disable` takes to undo it.

    Raises:
        NoControllerError: the cgroup does not have one itself.
        OSError: EBUSY: it holds processes, and only leaves may (but the root); EOPNOTSUPP: a domain controller in a
            threaded subtree; EACCES, EPERM: not delegated. Notes say what helps.
    """
    asked = tuple(dict.fromkeys(controllers))
    given = enabled(directory) if asked else ()
    wanted = [name for name in asked if name not in given]
    if not wanted:
        return ()
    there = directory.controllers()
    missing = [name for name in wanted if name not in there]
    if missing:
        raise NoControllerError(
            f"{directory.path} does not have {', '.join(missing)} itself (it has {', '.join(there) or 'none'}): "
            "enable it in its parent, or unmount the version 1 hierarchy that has it"
        )
    done: list[str] = []
    for name in wanted:
        try:
            directory.write("cgroup.subtree_control", f"+{name}")
        except OSError as error:
            disable(directory, done)
            explain(error, directory, name)
            raise
        done.append(name)
    return tuple(done)


def disable(directory: Directory, controllers: Sequence[str]) -> None:
    """Take controllers away from the cgroups below one, the last first.

    Raises:
        OSError: EBUSY: a cgroup below gives it on.
    """
    for name in reversed(controllers):
        directory.write("cgroup.subtree_control", f"-{name}")


def explain(error: OSError, directory: Directory, controller: str) -> None:
    """Add to an error of `cgroup.subtree_control` what it means and what helps."""
    if error.errno == errno.EBUSY:
        pids = directory.processes()
        shown = ", ".join(map(str, pids[:5])) + (" …" if len(pids) > 5 else "")
        error.add_note(
            f"{directory.path} holds {len(pids)} processes ({shown}); "
            "one that gives controllers on may hold none: move them into a cgroup below it first"
        )
    elif error.errno == errno.EOPNOTSUPP:
        error.add_note(
            f"{controller} is a domain controller, and the subtree is threaded: only {', '.join(THREADED)} work there"
        )
    elif error.errno in (errno.EACCES, errno.EPERM):
        error.add_note("the cgroup is not delegated to this user: chown its cgroup.subtree_control, or be root")
