"""What is done to a container from its making to its end. Each function opens its state, takes its lock, and is done.

    create    its process waits, all is set up; start lets its program begin; run does both
    pause, resume; kill and delete are in `ending`, read_state in `conditions`, and have their names here too

A process is made here by cloning this one. So `create` is for programs with one thread, such as the command line or the
helper of `container`; the others are for any.

Source: OCI runtime specification 1.3, runtime.md, "Operations".
"""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.late import Late, load
from kernelproof.impl.libcontainer.config.jsontext import format_value
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.operations import NOTHING_TO_START, Operation, Site, StartError
from kernelproof.impl.libcontainer.process.identity import read_identity
from kernelproof.impl.libcontainer.process.walking import HostWalk, failure
from kernelproof.impl.libcontainer.state import (
    CREATED,
    PAUSED,
    RUNNING,
    STATE_FILE,
    STOPPED,
    State,
    StateDirectory,
    describe_state,
    make_directory,
    open_directory,
    write_whole,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.libcontainer import conditions, ending
    from kernelproof.impl.libcontainer.conditions import read_state as read_state
    from kernelproof.impl.libcontainer.config.records import Config
    from kernelproof.impl.libcontainer.ending import delete as delete
    from kernelproof.impl.libcontainer.ending import kill as kill
    from kernelproof.impl.libcontainer.plan import Request
    from kernelproof.impl.libcontainer.process import rendezvous
else:
    conditions = Late("kernelproof.impl.libcontainer.conditions")
    ending = Late("kernelproof.impl.libcontainer.ending")
    rendezvous = Late("kernelproof.impl.libcontainer.process.rendezvous")

# What makes a container is 90 modules, what its cgroup and its hooks need 30 more: 25 ms, measured. So `state`,
# `start`, `kill` and `delete` load what they need when they need it.


_ELSEWHERE = {"read_state": conditions, "delete": ending, "kill": ending}


def __getattr__(name: str) -> object:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_ELSEWHERE[name], name)


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

    @property
    def refused(self) -> tuple[str, ...]:
        """What was asked and is not to be had, each as a sentence; known when its program has begun."""
        refused = self.walk.site.found.get("refused", ())
        return tuple(refused) if isinstance(refused, list) else ()


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
    from kernelproof.impl.libcontainer.controlgroups import is_there  # measured: see above
    from kernelproof.impl.libcontainer.facts import read_host
    from kernelproof.impl.libcontainer.plan import plan_container, root_path

    host = read_host()

    def prepared(site: Site) -> None:
        site.found["layout"] = host.known_layout  # what the plan had to read need not be read again
        if prepare is not None:
            prepare(site)

    directory = make_directory(root, request.id)
    with directory, StateLock(directory.fd) as lock:
        state = State(request.id, request.bundle, root_path(config, request.bundle), dict(config.annotations))
        try:
            operations = plan_container(config, host, request)
            cgroup = next((one for one in operations if type(one).__name__ in ("MakeCgroup", "EnterScope")), None)
            state.cgroup = str(getattr(cgroup, "name", ""))
            state.keep_cgroup = type(cgroup).__name__ == "MakeCgroup" and is_there(state.cgroup, host.layout)
            directory.write("config.json", config_text)
            keep_state(directory, lock, state)
            return _make(directory, lock, state, operations, request, pid_file, prepared)
        except StartError as error:
            if config.hooks is not None:
                from kernelproof.impl.libcontainer.hooks import run_all  # measured: see above

                run_all("poststop", config.hooks.poststop, describe_state(state, STOPPED), error.add_note)
            _forget(directory, lock, state, error)
            raise
        except BaseException:
            directory.remove()
            raise


def keep_state(directory: StateDirectory, lock: StateLock, state: State) -> None:
    """Writes a state; errors as StateDirectory.write."""
    # Twice: whoever damages one of the files leaves the other, by which `delete --force` finds the process.
    text = format_value(state.to_json()).encode()
    lock.note(text)
    directory.write(STATE_FILE, text)


def _forget(directory: StateDirectory, lock: StateLock, state: State, error: StartError) -> None:
    # What could not be taken back must be found by `delete --force`.
    if error.left:
        keep_state(directory, lock, state)
        error.add_note(f"{'; '.join(error.left)}: delete the container by force when the reason is gone")
    else:
        directory.remove()


def _make(
    directory: StateDirectory,
    lock: StateLock,
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
        state.status = CREATED
        cgroup = open_cgroup(site)
        state.cgroup = str(site.found.get("cgroup name", state.cgroup)) if cgroup is not None else ""
        state.keep_cgroup = bool(site.found.get("cgroup was there"))
        undo = site.found.get("undo", [])
        assert isinstance(undo, list)
        state.undo = undo
        keep_state(directory, lock, state)
        if pid_file:
            write_pid(pid_file, state.process.pid)

    site.found.update(identify=lambda: _identify(site, state, request), record=record)
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


def _identify(site: Site, state: State, request: Request) -> None:
    pid = site.found["pid"]
    assert isinstance(pid, int)
    state.process = read_identity(pid, site.descriptors["pidfd"])
    if not request.waits:
        load(ending)  # what comes after the program's beginning needs it


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


def start(root: str, identifier: str) -> tuple[str, ...]:
    """Lets a created container's program begin, and waits until it has.

    Returns:
        What the configuration asks and is not to be had here, each as a sentence; mostly nothing.

    Raises:
        WrongStatusError: it is not created.
        StartError: the program, or what comes just before it, failed; or the configuration has no process, and then
            the container stays as it is.
        NoSuchContainerError, StateError, OSError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        conditions.require(directory, state, (CREATED,), "started")
        refused = start_locked(directory)
        run_poststart(directory, state)
        return refused


def start_locked(directory: StateDirectory) -> tuple[str, ...]:
    """Starts it; the caller holds the lock. Returns and errors as `start`."""
    waits = False
    try:
        return rendezvous.start(directory.fd)
    except StartError as error:
        waits = error.call == NOTHING_TO_START
        raise
    finally:
        if not waits:
            rendezvous.remove(directory.fd)


def pause(root: str, identifier: str) -> None:
    """Freezes all processes of a container, and waits until they are.

    Raises:
        WrongStatusError: it is neither created nor running.
        OSError, NoSuchContainerError, StateError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        conditions.require(directory, state, (CREATED, RUNNING), "paused")
        ending.freeze(state, frozen=True)


def resume(root: str, identifier: str) -> None:
    """Lets a paused container go on.

    Raises:
        WrongStatusError: it is not paused.
        OSError, NoSuchContainerError, StateError: see state.
    """
    with open_directory(root, identifier) as directory, StateLock(directory.fd):
        state = directory.read_state()
        conditions.require(directory, state, (PAUSED,), "resumed")
        ending.freeze(state, frozen=False)


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
        for fd in (started.pidfd, started.master):
            if fd >= 0:
                os.close(fd)
        ending.delete(root, request.id, force=True, tell=tell)
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
    if not ending.may_have_hooks(text, "poststart"):
        return
    from kernelproof.impl.libcontainer.hooks import HookError, run_hook, stored_hooks  # measured: see above

    for hook in stored_hooks(text, "poststart"):
        try:
            run_hook("poststart", hook, describe_state(state, RUNNING))
        except (HookError, OSError) as error:
            ending.end(state)
            raise failure(None, "host", error) from error
