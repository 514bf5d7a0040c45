"""What create and run share: options, the bundle's configuration, the request."""

from __future__ import annotations

import os
import sys

from kernelproof.impl.libcontainer.config.reading import Loaded, load_config
from kernelproof.impl.libcontainer.config.records import ConsoleSize
from kernelproof.impl.libcontainer.nsinit.options import FLAG, NUMBER, TEXT, Given, Option, UsageError
from kernelproof.impl.libcontainer.plan import Request
from kernelproof.impl.libcontainer.state import ContainerError, check_id, default_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.libcontainer.config.records import Process
    from kernelproof.impl.libcontainer.nsinit.main import Context
    from kernelproof.impl.libcontainer.operations import Site

BUNDLE = Option("--bundle -b", TEXT, "directory with config.json; by default the current one", "DIR")
OPTIONS = (
    BUNDLE,
    Option("--console-socket", TEXT, "unix socket that gets the master of the terminal", "PATH"),
    Option("--pidfd-socket", TEXT, "unix socket that gets a pidfd of the process", "PATH"),
    Option("--pid-file", TEXT, "file for the pid of the process", "PATH"),
    Option("--no-pivot", FLAG, "move the root instead of pivot_root(2), for roots on a ramdisk"),
    Option("--no-new-keyring", FLAG, "keep the session keyring of the caller"),
    Option("--preserve-fds", NUMBER, "pass so many more descriptors, from 3 on", "N"),
)


def load(context: Context, given: Given) -> Loaded:
    """Reads the bundle's configuration; what is odd in it is recorded."""
    loaded = load_config(given.text("bundle", "."))
    for warning in loaded.warnings:
        context.log.warning(f"config.json: {warning}")
    if count_sockets():
        from kernelproof.impl.libcontainer.activation import with_listening  # measured: as below

        loaded.config = with_listening(loaded.config, count_sockets(), os.environ)
    if host_socket():
        from kernelproof.impl.libcontainer.notifying import with_socket  # measured: as above

        loaded.config = with_socket(loaded.config)
    return loaded


def host_socket() -> str:
    """Where READY=1 is to be told, if this call is a service that does; an empty text for nowhere."""
    return os.getenv("NOTIFY_SOCKET", "")


def make_request(context: Context, given: Given, loaded: Loaded, *, waits: bool, foreground: bool = False) -> Request:
    """How the container is to be started.

    Raises:
        InvalidIdError: see state.check_id.
        UsageError: the options can't go together with the configuration.
        ContainerError: the option is for something that is not here.
    """
    identifier = check_id(given.operands[0])
    process = loaded.config.process
    check_terminal(given, bool(process and process.terminal), foreground=foreground)
    preserved = count_preserved(given, count_sockets())
    return Request(
        identifier,
        loaded.bundle,
        waits=waits,
        console_socket=os.path.abspath(given.text("console-socket")) if given.text("console-socket") else "",
        no_pivot=given.flag("no-pivot"),
        no_new_keyring=given.flag("no-new-keyring"),
        preserved=preserved,
        cgroup_manager=context.cgroup_manager,
        notifies=bool(host_socket()),
    )


def count_sockets() -> int:
    """How many sockets systemd or its like gave to this call, which are the program's."""
    if os.getenv("LISTEN_FDS") is None:
        return 0
    from kernelproof.impl.libcontainer.activation import count_listening  # measured: few are called with sockets

    return count_listening(os.environ, os.getpid())


def count_preserved(given: Given, sockets: int = 0) -> int:
    """How many descriptors, from 3 on, the program is to get: sockets first.

    Raises:
        UsageError: a number below 0.
        ValueError: they did not come with the call.
    """
    preserved = given.number("preserve-fds")
    if preserved < 0:
        raise UsageError(f"--preserve-fds {preserved}: at least 0")
    if preserved or sockets:
        from kernelproof.impl.libcontainer.activation import check_given  # measured: few are called with descriptors

        check_given(preserved + sockets)
    return preserved + sockets


def check_terminal(given: Given, terminal: bool, *, foreground: bool) -> None:
    """Refuses a terminal that nobody gets, and a socket that gets none.

    Raises:
        ContainerError: see the text.

    Source: docs/terminals.md of opencontainers/runc.
    """
    socket = given.text("console-socket")
    if terminal and not foreground and not socket:
        raise ContainerError("the process has a terminal: --console-socket has to say who gets it")
    if socket and foreground:
        raise ContainerError("--console-socket is for detached processes: in the foreground the terminal is this one")
    if socket and not terminal:
        raise ContainerError("--console-socket: the process has no terminal")


def with_size(process: Process) -> Process:
    """A process in the foreground whose terminal has the size of this one from its first instruction on."""
    if not process.terminal or process.console_size is not None or not os.isatty(0):
        return process
    size = os.get_terminal_size(0)
    return process.replace(console_size=ConsoleSize(size.lines, size.columns))


def tracer(context: Context) -> Callable[[Site], None] | None:
    """What has each operation recorded as its turn comes, if steps are asked for."""
    if not context.log.debugging:
        return None
    return lambda site: site.found.update(trace=context.log.debug)


def send_pidfd(path: str, pidfd: int) -> None:
    """Sends a pidfd to a unix socket, and closes it here.

    Raises:
        OSError: nobody listens there.
    """
    try:
        if path:
            import socket  # measured: 3 ms, and few ask for it

            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(path)
                socket.send_fds(connection, [b"pidfd"], [pidfd])
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(pidfd)


def root_of(context: Context) -> str:
    """The directory of the containers' states."""
    return context.root or default_root()


def copy_of(loaded: Loaded) -> bytes:
    """The configuration as it is kept with the state."""
    return loaded.data


def flush() -> None:
    """Writes out what is buffered, before a process is cloned that has the same buffers."""
    sys.stdout.flush()
    sys.stderr.flush()
