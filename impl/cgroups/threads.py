"""Threaded subtrees of version 2: threads of one process in cgroups of their own, below one that has its memory.

    worker.make_threaded()          its parent becomes the root of the threaded subtree
    worker.add_thread(tid)

Only cpu, cpuset, perf_event and pids work in there. There is no way back but to remove the cgroup.

Source: cgroup-v2.rst, Threads; cgroups(7), Cgroups v2 thread mode.
"""

from __future__ import annotations

import errno

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.enabling import THREADED, enabled
from kernelproof.impl.cgroups.errors import NoControllerError

DOMAIN, DOMAIN_THREADED, DOMAIN_INVALID, IS_THREADED = "domain", "domain threaded", "domain invalid", "threaded"


def type_of(directory: Directory) -> str:
    """One of "domain", "domain threaded", "domain invalid" and "threaded"; the root is a domain.

    Raises:
        NoControllerError: a cgroup of version 1.
        OSError: ENODEV: it was removed.
    """
    if directory.version != 2:
        raise NoControllerError(f"{directory.path} is of version 1, where every cgroup takes threads")
    return (directory.read_or_none("cgroup.type") or DOMAIN).strip()


def make_threaded(directory: Directory, parent: Directory) -> None:
    """Make a cgroup threaded; one that is so already stays so.

    Args:
        directory: the cgroup.
        parent: the one above it, whose resources its threads will use.

    Raises:
        NoControllerError: version 1.
        OSError: EOPNOTSUPP: it can't be, with a note of why; EACCES; ENOENT: the root.
    """
    if type_of(directory) == IS_THREADED:
        return
    try:
        directory.write("cgroup.type", IS_THREADED)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            error.add_note(explain(directory, parent))
        raise


def explain(directory: Directory, parent: Directory) -> str:
    """Why a cgroup can't be made threaded, as far as files can tell."""
    if type_of(parent) == DOMAIN_INVALID:
        return f"{parent.path} is an invalid domain: make it threaded first"
    given = [name for name in enabled(parent) if name not in THREADED]
    if given and parent.read_or_none("cgroup.type") is not None:
        return (
            f"{parent.path} gives {', '.join(given)} to those below it, which do not work for threads: take them away"
        )
    for name in parent.children():
        with parent.child(name) as sibling:
            if type_of(sibling) != IS_THREADED and sibling.processes():
                return f"{sibling.path} is a domain with processes: move them into {parent.path} or elsewhere first"
    given = [name for name in enabled(directory) if name not in THREADED]
    if given:
        return f"{directory.path} gives {', '.join(given)} to those below it, which do not work for threads"
    return "the kernel does not say more"


def domain_of(chain: tuple[Directory, ...]) -> Directory:
    """The cgroup whose resources the threads of a cgroup use: itself, or the root of its threaded subtree.

    Args:
        chain: the cgroup, its parent, and so on up to the mounted root.

    Raises:
        NoControllerError: version 1.
    """
    return next((directory for directory in chain if type_of(directory) != IS_THREADED), chain[-1])
