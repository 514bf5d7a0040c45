"""What is done to a container from its making to its end. Each function opens its state, takes its lock, and is done.

    create    its process waits, all is set up; start lets its program begin; run does both
    kill, pause, resume, delete, read_state

A process is made here by cloning this one. So `create` is for programs with one thread, such as the command line or the
helper of `container`; the others are for any.

Source: OCI runtime specification 1.3, runtime.md, "Operations".
"""

from __future__ import annotations

import contextlib
import os
import select

from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.operations import Operation, Site, StartError
from kernelproof.impl.libcontainer.process import rendezvous
from kernelproof.impl.libcontainer.process.identity import open_process, read_identity
from kernelproof.impl.libcontainer.process.walking import HostWalk, failure
from kernelproof.impl.libcontainer.state import (
    CREATED,
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    ContainerError,
    NoSuchContainerError,
    State,
    StateDirectory,
    StateError,
    WrongStatusError,
    describe_state,
    make_directory,
    open_directory,
    status_of,
    write_whole,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.cgroups.cgroup import Cgroup
    from kernelproof.impl.libcontainer.config.records import Config
    from kernelproof.impl.libcontainer.plan import Request

# What makes a container is 90 modules, what its cgroup and its hooks need 30 more: 25 ms, measured. So `state`,
# `start`, `kill` and `delete` load what they need when they need it.

_SIGKILL = 9
_DEATH_SECONDS = 10.0


class Started:
    """A container that was made.

    Attributes:
        state: its state.
        pidfd: of its first process, closed by who takes it.
        master: of its terminal, if it has one and no socket got it; else -1.
        walk: the walk over its plan, of which the end is outstanding if it does not wait for a `start`.
    """

    __slots__ = ("master", "pidfd", "state", "walk")

    def __init__(self, state: State, pidfd: int, master: int, walk: HostWalk) -> None:
        self.state = state
        self.pidfd = pidfd
        self.master = master
        self.walk = walk


def create(
    root: str,
    config: Config,
    request: Request,
    *,
    config_text: bytes = b"",
    pid_file: str = "",
    prepare: Callable[[Site], None] | None = None,
) -> Started:
    """Makes a container; its program has not begun.

    Args:
        root: directory of all states.
        config: checked.
        request: how.
        config_text: what is kept as the container's own copy of the configuration.
        pid_file: where the pid of its process is written, before this returns.
        prepare: called with the site before anything is done, for descriptors that come with a request.

    Raises:
        ContainerExistsError, InvalidIdError: see state.
        StartError: an operation failed; everything is as before.
        OSError: the state can't be written.
    """
    from kernelproof.impl.libcontainer.facts import read_host  # measured: see above
    from kernelproof.impl.libcontainer.plan import plan_container, root_path

    directory = make_directory(root, request.id)
    with directory, StateLock(directory.fd):
        state = State(request.id, request.bundle, root_path(config, request.bundle), dict(config.annotations))
        try:
            operations = plan_container(config, read_host(), request)
            cgroup = next((one for one in operations if type(one).__name__ == "MakeCgroup"), None)
            state.cgroup = str(getattr(cgroup, "name", ""))
            directory.write("config.json", config_text)
            directory.write_state(state)
            return _make(directory, state, operations, request, pid_file, prepare)
        except StartError as error:
            if config.hooks is not None:
                from kernelproof.impl.libcontainer.hooks import run_all  # measured: see above

                run_all("poststop", config.hooks.poststop, describe_state(state, STOPPED), error.add_note)
            _forget(directory, state, error)
            raise
        except BaseException:
            directory.remove()
            raise


def _forget(directory: StateDirectory, state: State, error: StartError) -> None:
    # What could not be taken back must be found by `delete --force`.
    if error.left:
        directory.write_state(state)
        error.add_note(f"{'; '.join(error.left)}: delete the container by force when the reason is gone")
    else:
        directory.remove()


def _make(
    directory: StateDirectory,
    state: State,
    operations: tuple[Operation, ...],
    request: Request,
    pid_file: str,
    prepare: Callable[[Site], None] | None,
) -> Started:
    from kernelproof.impl.libcontainer.controlgroups import open_cgroup  # measured: see above

    site = Site()
    site.found["state"] = directory.fd
    site.found["preserved"] = request.preserved
    if prepare is not None:
        prepare(site)
    walk = HostWalk(operations, site)

    def record() -> None:
        pid, pidfd = site.found["pid"], site.descriptors["pidfd"]
        assert isinstance(pid, int)
        state.process = read_identity(pid, pidfd)
        state.status = CREATED
        cgroup = open_cgroup(site)
        state.cgroup = state.cgroup if cgroup is not None else ""
        state.keep_cgroup = bool(site.found.get("cgroup was there"))
        undo = site.found.get("undo", [])
        assert isinstance(undo, list)
        state.undo = undo
        directory.write_state(state)
        if pid_file:
            write_pid(pid_file, pid)

    site.found["record"] = record
    try:
        walk.run()
    except BaseException:
        site.close()
        raise
    try:
        pidfd, master = site.descriptors.pop("pidfd"), site.descriptors.pop("master", -1)
        cgroup = open_cgroup(site)
        if request.waits and walk.child is not None:
            if cgroup is not None:
                cgroup.close()
            walk.child.channel.close()
            site.close()
        return Started(state, pidfd, master, walk)
    except BaseException:
        walk.undo()
        raise


def write_pid(path: str, pid: int) -> None:
    """Writes a pid file, whole or not at all.

    Raises:
        OSError: what open(2), write(2) or rename(2) give.
    """
    parent = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_whole(parent, os.path.basename(path), str(pid).encode(), 0o644)
    finally:
        os.close(parent)


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
    cgroup = cgroup_of(state)
    if cgroup is None:
        return False
    from kernelproof.impl.cgroups import freezing  # measured: see above
    from kernelproof.impl.cgroups.errors import NoControllerError

    with cgroup:
        try:
            return freezing.is_frozen(cgroup.directory if cgroup.version == 2 else cgroup.directory_of("freezer"))
        except NoControllerError:
            return False


def start(root: str, identifier: str) -> None:
    """Lets a created container's program begin, and waits until it has.

    Raises:
        WrongStatusError: it is not created.
        StartError: the program, or what comes just before it, failed.
        NoSuchContainerError, StateError, OSError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        require(directory, state, (CREATED,), "started")
        start_locked(directory)
        run_poststart(directory, state)


def start_locked(directory: StateDirectory) -> None:
    """Starts it; the caller holds the lock. Errors as `start`."""
    try:
        rendezvous.start(directory.fd)
    finally:
        rendezvous.remove(directory.fd)


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
            if everything:
                return
            raise WrongStatusError(f"container {identifier!r} is {STOPPED}: it can't be killed")
        try:
            if everything or (number == _SIGKILL and shares_processes(state)):
                kill_all(state, number)
            send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def send_signal(pidfd: int, number: int) -> None:
    """Sends a signal to the process of a pidfd; one that is gone is no error."""
    from signal import pidfd_send_signal  # measured: its enums cost 4 ms, and few come here

    with contextlib.suppress(ProcessLookupError):
        pidfd_send_signal(pidfd, number)


def shares_processes(state: State) -> bool:
    """Whether the container's processes are in the runtime's PID namespace."""
    try:
        return os.stat(f"/proc/{state.process.pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return False


def kill_all(state: State, number: int) -> None:
    """Sends a signal to all processes of the container's cgroup; SIGKILL in one step where the kernel has it."""
    cgroup = cgroup_of(state)
    if cgroup is None:
        return
    with cgroup:
        if number == _SIGKILL:
            cgroup.kill(_DEATH_SECONDS)
            return
        for pid in cgroup.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def pause(root: str, identifier: str) -> None:
    """Freezes all processes of a container, and waits until they are.

    Raises:
        WrongStatusError: it is neither created nor running.
        OSError, NoSuchContainerError, StateError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        require(directory, state, (CREATED, RUNNING), "paused")
        _freeze(state, frozen=True)


def resume(root: str, identifier: str) -> None:
    """Lets a paused container go on.

    Raises:
        WrongStatusError: it is not paused.
        OSError, NoSuchContainerError, StateError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        require(directory, state, (PAUSED,), "resumed")
        _freeze(state, frozen=False)


def _freeze(state: State, *, frozen: bool) -> None:
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
        force: kill it first; a container that does not exist is no error then, and one whose state is cut off is
            removed as far as it can be known.
        tell: gets warnings, such as of poststop hooks that failed.
        attend: called when all its processes were killed, to wait for those that are the caller's children.

    Raises:
        WrongStatusError: it has not stopped (see `force`).
        NoSuchContainerError: there is none.
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
        # Cut off before the first state was written: nothing but the directory was made.
        directory.remove()
        return
    found = status(directory, state)
    if found not in (STOPPED, CREATING) and not force and found != CREATED:
        raise WrongStatusError(f"container {state.id!r} is {found}: stop it first, or delete it by force")
    end(state, attend)
    take_back(state)
    if state.cgroup:
        if state.keep_cgroup:
            kill_all(state, _SIGKILL)
        else:
            from kernelproof.impl.libcontainer.controlgroups import remove_cgroup  # measured: see above

            remove_cgroup(state.cgroup)
    _run_poststop(directory, state, tell)
    directory.remove()


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
            _freeze(state, frozen=False)
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


UNDO: dict[str, Callable[[object], None]] = {"link": _remove_link, "bridge": _remove_bridge}


def may_have_hooks(text: bytes, kind: str) -> bool:
    """Whether a configuration can have hooks of a kind: its key stands there, or could be written in escapes."""
    return f'"{kind}"'.encode() in text or b"\\u" in text


def _run_poststop(directory: StateDirectory, state: State, tell: Callable[[str], None]) -> None:
    try:
        text = directory.read("config.json")
    except FileNotFoundError:
        return
    if may_have_hooks(text, "poststop"):
        from kernelproof.impl.libcontainer.hooks import run_all, stored_hooks  # measured: see above

        hooks = stored_hooks(text, "poststop")
        run_all("poststop", hooks, describe_state(state, STOPPED), tell)


def run(
    root: str,
    config: Config,
    request: Request,
    *,
    config_text: bytes = b"",
    pid_file: str = "",
    prepare: Callable[[Site], None] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Started:
    """Makes a container and lets its program begin.

    Args, Raises: as `create`; also for what fails after it, and then nothing is left.
    """
    started = create(root, config, request, config_text=config_text, pid_file=pid_file, prepare=prepare)
    try:
        begin(root, request.id, started)
    except BaseException:
        delete(root, request.id, force=True, tell=tell)
        raise
    return started


def begin(root: str, identifier: str, started: Started) -> None:
    """Ends the making of a container that does not wait for a `start`: its program begins, poststart hooks are run.

    Raises:
        StartError: the program, or what comes just before it, failed; or a poststart hook did.
    """
    from kernelproof.impl.libcontainer.controlgroups import open_cgroup  # measured: see above

    walk = started.walk
    try:
        walk.await_program()
        with open_directory(root, identifier) as directory:
            run_poststart(directory, started.state)
    finally:
        cgroup = open_cgroup(walk.site)
        if cgroup is not None:
            cgroup.close()
        if walk.child is not None:
            walk.child.channel.close()
        walk.site.close()


def run_poststart(directory: StateDirectory, state: State) -> None:
    """Runs the poststart hooks; the first that fails ends the container.

    Raises:
        StartError: one failed; the container's process is dead.
    """
    text = directory.read("config.json")
    if not may_have_hooks(text, "poststart"):
        return
    from kernelproof.impl.libcontainer.hooks import HookError, run_hook, stored_hooks  # measured: see above

    for hook in stored_hooks(text, "poststart"):
        try:
            run_hook("poststart", hook, describe_state(state, RUNNING))
        except (HookError, OSError) as error:
            end(state)
            raise failure(None, "host", error) from error
