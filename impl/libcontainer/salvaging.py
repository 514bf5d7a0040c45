"""A container whose state is missing or damaged, found by what else is known of it, for `delete --force`.

The state is written twice: to state.json, and as a line of the lock's file. Who cuts off the one leaves the other,
which says no less who the process is: one that merely has its pid is never taken for it. Where both are damaged
nothing is killed: the configuration names the cgroup, but that of a container of another directory of states could
have the same name by now.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer import locking
from kernelproof.impl.libcontainer.config.jsontext import parse
from kernelproof.impl.libcontainer.controlgroups import cgroup_name, find_cgroup
from kernelproof.impl.libcontainer.state import (
    CONFIG_FILE,
    STATE_FILE,
    State,
    StateDirectory,
    StateError,
    state_of_json,
)


def salvage(directory: StateDirectory) -> State | None:
    """The state of a container from the lock's file; None if there is nothing to end: only the directory was made.

    Args:
        directory: whose state can't be read.

    Raises:
        StateError: nothing says which processes are its own, and it is not known to have none.
        OSError: ELOOP: a link was put in the place of a file; EIO.
    """
    line = (_read(directory, locking.NAME) or b"").partition(b"\n")[0]
    try:
        return state_of_json(parse(line), directory.id)
    except ValueError:
        if line or _read(directory, STATE_FILE) is not None:
            _refuse_if_alive(directory)
    return None


def _read(directory: StateDirectory, name: str) -> bytes | None:
    try:
        return directory.read(name)
    except FileNotFoundError:
        return None


def _refuse_if_alive(directory: StateDirectory) -> None:
    name = _named_cgroup(directory)
    path = f"{directory.id}/{STATE_FILE} and {directory.id}/{locking.NAME}"
    remedy = "end its processes, then remove the directory"
    if name is None:
        raise StateError(f"{path} are damaged, and nothing else says which processes are the container's: {remedy}")
    cgroup = find_cgroup(name)
    if cgroup is None:
        return
    with cgroup:
        alive = cgroup.processes()
    if alive:
        pids = ", ".join([str(pid) for pid in alive[:10]])
        raise StateError(f"{path} are damaged; processes {pids} are in the cgroup {name}, perhaps its own: {remedy}")


def _named_cgroup(directory: StateDirectory) -> str | None:
    # None where the configuration is lost, or leaves the place to systemd.
    try:
        config = parse(_read(directory, CONFIG_FILE) or b"")
    except ValueError:
        return None
    linux = config.get("linux", {}) if isinstance(config, dict) else None
    if not isinstance(linux, dict):
        return None
    path = linux.get("cgroupsPath", "")
    return cgroup_name(path, directory.id) if isinstance(path, str) and ":" not in path else None
