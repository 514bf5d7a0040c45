"""What a container is now: by its process and its cgroup's freezer, not by what was written when it was made."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer import frozen
from kernelproof.impl.libcontainer.state import (
    CREATED,
    PAUSED,
    RUNNING,
    State,
    StateDirectory,
    WrongStatusError,
    describe_state,
    open_directory,
    status_of,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.cgroup import Cgroup

# What a cgroup needs is 30 modules: loaded by who asks for one.


def status(directory: StateDirectory, state: State) -> str:
    """What a container is now, its cgroup's freezer asked too."""
    found = status_of(directory, state)
    if found in (CREATED, RUNNING) and is_frozen(state):
        return PAUSED
    return found


def cgroup_of(state: State) -> Cgroup | None:
    """Opens the container's cgroup; None if it has none, or none any more."""
    if not state.cgroup:
        return None
    from kernelproof.impl.libcontainer.controlgroups import find_cgroup  # measured: see above

    return find_cgroup(state.cgroup)


def is_frozen(state: State) -> bool:
    """Whether the container's cgroup is frozen."""
    return bool(state.cgroup) and frozen.is_frozen(state.cgroup)


def require(directory: StateDirectory, state: State, allowed: tuple[str, ...], what: str) -> str:
    """Refuses what the container's status does not allow.

    Raises:
        WrongStatusError: see the text.
    """
    found = status(directory, state)
    if found not in allowed:
        raise WrongStatusError(f"container {state.id!r} is {found}: it can't be {what}")
    return found


def read_state(root: str, identifier: str) -> dict[str, object]:
    """The state of a container as the specification has it.

    Raises:
        NoSuchContainerError, StateError, OSError: see state.
    """
    with open_directory(root, identifier) as directory:
        state = directory.read_state()
        return describe_state(state, status(directory, state))


def shares_processes(state: State) -> bool:
    """Whether the container's processes are in the runtime's PID namespace."""
    try:
        return os.stat(f"/proc/{state.process.pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return False
