"""Further processes in a container: started, and waited for. As lifecycle.create, for programs with one thread."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.conditions import status
from kernelproof.impl.libcontainer.config.reading import parse_config
from kernelproof.impl.libcontainer.config.records import Config, Process
from kernelproof.impl.libcontainer.controlgroups import open_cgroup
from kernelproof.impl.libcontainer.executing import differing_kinds, plan_exec
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.lifecycle import Started, write_pid
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.process.walking import HostWalk
from kernelproof.impl.libcontainer.state import (
    CONFIG_FILE,
    CREATED,
    PAUSED,
    RUNNING,
    State,
    StateDirectory,
    StateError,
    WrongStatusError,
    open_directory,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable


def read_config(directory: StateDirectory) -> Config:
    """The configuration that a container was made with.

    Raises:
        StateError: it is missing.
        ConfigError: it is damaged.
    """
    try:
        data = directory.read(CONFIG_FILE)
    except FileNotFoundError:
        raise StateError(f"container {directory.id!r} has no configuration: its making was cut off") from None
    return parse_config(data, f"{directory.id}/{CONFIG_FILE}", own=True)


def stored_config(root: str, identifier: str) -> Config:
    """As `read_config`, by name.

    Raises:
        NoSuchContainerError, StateError, ConfigError, OSError: see state.
    """
    with open_directory(root, identifier) as directory:
        return read_config(directory)


def execute(
    root: str,
    identifier: str,
    process: Process,
    *,
    console_socket: str = "",
    streams: bool = False,
    pid_file: str = "",
    sub_cgroup: str = "",
    ignore_paused: bool = False,
    preserved: int = 0,
    prepare: Callable[[Site], None] | None = None,
) -> Started:
    """Starts a process in a container, and waits until its program has begun.

    Args:
        root: directory of all states.
        identifier: the container's name.
        process: what is started, in full: nothing of the container's own process is added.
        console_socket: path of the socket that gets the terminal's master.
        streams: whether `prepare` gives standard streams.
        pid_file: where the pid is written, before this returns.
        sub_cgroup: name of a cgroup below the container's, which is there.
        ignore_paused: start it in a paused container too, where it begins when that is resumed.
        preserved: how many descriptors, from 3 on, the program gets.
        prepare: called with the site before anything is done.

    Raises:
        WrongStatusError: the container is not running, or is paused.
        StartError: an operation failed; the process is gone.
        NoSuchContainerError, StateError, ConfigError, OSError: see state.
    """
    with open_directory(root, identifier) as directory:
        state = directory.read_state()
        found = status(directory, state)
        if found not in (CREATED, RUNNING, *((PAUSED,) if ignore_paused else ())):
            raise WrongStatusError(f"container {identifier!r} is {found}: nothing can be started in it")
        config = read_config(directory)
        cgroup = "/".join(part for part in (state.cgroup, sub_cgroup.strip("/")) if part) if state.cgroup else ""
        operations = plan_exec(
            config,
            process,
            read_host(),
            state.process,
            _kinds(state),
            cgroup=cgroup,
            console_socket=console_socket,
            streams=streams,
            identifier=identifier,
            bundle=state.bundle,
            preserved=preserved,
        )
        site = Site()
        site.found["preserved"] = preserved
        site.found["record"] = lambda: write_pid(pid_file, _pid(site)) if pid_file else None
        if prepare is not None:
            prepare(site)
        return _walk(state, HostWalk(operations, site))


def _kinds(state: State) -> tuple[str, ...]:
    try:
        return differing_kinds(state.process.pid)
    except (FileNotFoundError, ProcessLookupError):
        raise WrongStatusError(f"container {state.id!r} is not running any more") from None


def _walk(state: State, walk: HostWalk) -> Started:
    site = walk.site
    try:
        walk.run()
        walk.await_program()
        return Started(state, site.descriptors.pop("pidfd"), site.descriptors.pop("master", -1), walk)
    finally:
        opened = open_cgroup(site)
        if opened is not None:
            opened.close()
        if walk.child is not None:
            walk.child.channel.close()
        site.close()


def _pid(site: Site) -> int:
    pid = site.found["pid"]
    assert isinstance(pid, int)
    return pid


def await_end(started: Started) -> int:
    """Waits for the end of a process that is a child of this one; the exit status, 128 + N if signal N killed it."""
    _, status_word = os.waitpid(_pid_of(started), 0)
    code = os.waitstatus_to_exitcode(status_word)
    return 128 - code if code < 0 else code


def _pid_of(started: Started) -> int:
    assert started.walk.child is not None
    return started.walk.child.pid
