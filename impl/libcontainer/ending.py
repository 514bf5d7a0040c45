"""How a container's processes are stopped, signalled and ended, and what was made for it is removed.

Source: OCI runtime specification 1.3, runtime.md, "Kill" and "Delete".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal makes enums of its constants when it is imported: 4 ms
import os
import select

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.conditions import cgroup_of, is_frozen, shares_processes, status
from kernelproof.impl.libcontainer.emptied import remove_empty
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.process.identity import open_process
from kernelproof.impl.libcontainer.state import (
    CREATED,
    CREATING,
    STOPPED,
    ContainerError,
    NoSuchContainerError,
    State,
    StateDirectory,
    StateError,
    WrongStatusError,
    describe_state,
    open_directory,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

# What cgroups and hooks need is 30 modules and more: loaded when there is one.

_SIGKILL = 9
_DEATH_SECONDS = 10.0
_FREEZE_SECONDS = 1.0


def kill(root: str, identifier: str, number: int, *, everything: bool = False) -> None:
    """Sends a signal to the container's first process, or to all its processes.

    A container without a PID namespace of its own is killed with all its processes, as they would live on.

    Raises:
        WrongStatusError: it has stopped.
        OSError: EPERM, EINVAL.
        NoSuchContainerError, StateError: see state.
    """
    with open_directory(root, identifier) as directory:
        state = directory.read_state()
        pidfd = open_process(state.process)
        if pidfd is None:
            if everything:  # without a PID namespace of its own they outlive the first
                kill_all(state, number)
                return
            # containerd looks for the first words: whatever else it is told is an error of its stop.
            raise WrongStatusError(f"container not running: {identifier!r} is {STOPPED}")
        try:
            if everything or (number == _SIGKILL and shares_processes(state)):
                kill_all(state, number)
            send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def send_signal(pidfd: int, number: int) -> None:
    """Sends a signal to the process of a pidfd; one that is gone is no error."""
    with suppress(ProcessLookupError):
        _signal.pidfd_send_signal(pidfd, number)


def kill_all(state: State, number: int) -> None:
    """Sends a signal to all processes of the container's cgroup and of those below; SIGKILL until nobody is left.

    For others they are frozen, where that can be done: so nobody is missed who is just being forked, and nobody gets it
    who is forked because of it.
    """
    cgroup = cgroup_of(state)
    if cgroup is None:
        return
    with cgroup:
        if number == _SIGKILL:
            cgroup.kill(_DEATH_SECONDS)
            return
        from kernelproof.impl.cgroups.ending import all_processes  # measured: see above

        goes_on = not is_frozen(state)
        if goes_on:
            with suppress(OSError, LookupError):  # somebody waits for a device; no freezer
                cgroup.freeze(_FREEZE_SECONDS)
        try:
            for pid in all_processes(cgroup.directory):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        finally:
            if goes_on:
                with suppress(OSError, LookupError):
                    cgroup.thaw()


def freeze(state: State, *, frozen: bool) -> None:
    """Freezes or thaws all processes of a container.

    Raises:
        WrongStatusError: it has no cgroup.
        OSError: what the kernel refuses; a freeze that failed is taken back.
    """
    cgroup = cgroup_of(state)
    if cgroup is None:
        raise WrongStatusError(f"container {state.id!r} has no cgroup, without which nothing can be paused")
    with cgroup:
        if not frozen:
            cgroup.thaw()
            return
        try:
            cgroup.freeze()
        except (OSError, RuntimeError):
            cgroup.thaw()
            raise


def delete(
    root: str,
    identifier: str,
    *,
    force: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    attend: Callable[[], None] = lambda: None,
) -> None:
    """Removes a container that has stopped, with all that was made for it.

    Args:
        force: kill it first; a container that does not exist is no error then, and one whose state is missing or
            damaged is found by what else is known of it (see salvaging).
        tell: gets warnings, such as of poststop hooks that failed.
        attend: called when all its processes were killed, to wait for those that are the caller's children.

    Raises:
        WrongStatusError: it has not stopped (see `force`).
        NoSuchContainerError: there is none.
        StateError: its state is damaged, and so is all else that tells which processes are its own.
        ContainerError, OSError: something could not be removed; the state stays.
    """
    try:
        directory = open_directory(root, identifier)
    except NoSuchContainerError:
        if force:
            return
        raise
    with directory:
        try:
            lock = StateLock(directory.fd)
        except FileNotFoundError:
            if force:
                return
            raise NoSuchContainerError(f"container {identifier!r} does not exist") from None
        with lock:
            _delete_locked(directory, force=force, tell=tell, attend=attend)


def _delete_locked(
    directory: StateDirectory, *, force: bool, tell: Callable[[str], None], attend: Callable[[], None]
) -> None:
    try:
        state = directory.read_state()
    except StateError:
        if not force:
            raise
        from kernelproof.impl.libcontainer.salvaging import salvage  # few states are damaged

        salvaged = salvage(directory)
        if salvaged is None:  # cut off before the first state was written: nothing but the directory was made
            directory.remove()
            return
        state = salvaged
    found = status(directory, state)
    if found not in (STOPPED, CREATING) and not force and found != CREATED:
        raise WrongStatusError(f"container {state.id!r} is {found}: stop it first, or delete it by force")
    end(state, attend)
    take_back(state)
    _clear_cgroup(state, was_made=found != CREATING)
    _run_poststop(directory, state, tell)
    directory.remove()


def _clear_cgroup(state: State, *, was_made: bool) -> None:
    if not state.cgroup:
        return
    if state.keep_cgroup:
        if was_made:  # else nobody looked yet whether others are in it, and none of ours is
            kill_all(state, _SIGKILL)
    elif not remove_empty(state.cgroup):
        from kernelproof.impl.libcontainer.controlgroups import remove_cgroup  # measured: see above

        remove_cgroup(state.cgroup)


def end(state: State, attend: Callable[[], None] = lambda: None) -> None:
    """Kills the container's first process and waits for its end; `attend` as for `delete`.

    Raises:
        ContainerError: it does not end.
    """
    pidfd = open_process(state.process)
    if pidfd is None:
        return
    try:
        if is_frozen(state):
            freeze(state, frozen=False)
        is_alone = not shares_processes(state)
        send_signal(pidfd, _SIGKILL)
        if not is_alone:
            kill_all(state, _SIGKILL)
        attend()
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_DEATH_SECONDS * 1000):
            raise ContainerError(f"container {state.id!r}: its process {state.process.pid} does not end")
    finally:
        os.close(pidfd)


def take_back(state: State) -> None:
    """Takes back what was made on the host beside the cgroup, in reverse; what is gone already is no error."""
    for kind, value in reversed(state.undo):
        undo = UNDO.get(kind)
        if undo is not None:
            undo(value)


def _remove_link(name: object) -> None:
    from kernelproof.impl.libcontainer.network.ends import remove_link  # netlink: 40 modules that few need

    remove_link(name)


def _remove_bridge(name: object) -> None:
    from kernelproof.impl.libcontainer.network.ends import remove_bridge  # netlink: 40 modules that few need

    remove_bridge(name)


def _remove_scope(value: object) -> None:
    from kernelproof.impl.libcontainer.scopes import remove_scope  # D-Bus: 20 modules that few need

    remove_scope(value)


UNDO: dict[str, Callable[[object], None]] = {"link": _remove_link, "bridge": _remove_bridge, "scope": _remove_scope}


def may_have_hooks(text: bytes, kind: str) -> bool:
    """Whether a configuration can have hooks of a kind: its key stands there, or could be written in escapes."""
    return f'"{kind}"'.encode() in text or b"\\u" in text


def _run_poststop(directory: StateDirectory, state: State, tell: Callable[[str], None]) -> None:
    try:
        text = directory.read("config.json")
    except FileNotFoundError:
        return
    except OSError as error:  # ELOOP: a link was put there, and whatever it leads to is none of our hooks
        tell(f"poststop hooks are not run: {error}")
        return
    if may_have_hooks(text, "poststop"):
        from kernelproof.impl.libcontainer.hooks import run_all, stored_hooks  # measured: see above

        hooks = stored_hooks(text, "poststop")
        run_all("poststop", hooks, describe_state(state, STOPPED), tell)
