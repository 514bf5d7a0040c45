"""start: let a created container's program begin."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.lifecycle import start
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.process.identity import open_process
from kernelproof.impl.libcontainer.state import default_root, open_directory

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context


def run(context: Context, given: Given) -> int:
    """Starts the program."""
    root, identifier = context.root or default_root(), given.operands[0]
    host = os.getenv("NOTIFY_SOCKET", "")
    heard = listen_to(root, identifier) if host else None
    for text in start(root, identifier):
        context.log.warning(f"not to be had here: {text}")
    if heard is not None:
        await_ready(context, identifier, heard, host)
    return 0


def listen_to(root: str, identifier: str) -> int | None:
    """A socket at which the program is heard; None if it was made without one."""
    from kernelproof.impl.libcontainer.notifying import listen  # measured: few are services of systemd

    with open_directory(root, identifier) as directory:
        try:
            return listen(directory.fd)
        except FileNotFoundError:
            return None


def await_ready(context: Context, identifier: str, heard: int, host: str) -> None:
    """Waits until the program says that it is ready, and tells it."""
    from kernelproof.impl.libcontainer.notifying import relay  # measured: as above

    with open_directory(context.root or default_root(), identifier) as directory:
        process = directory.read_state().process
    pidfd = open_process(process)
    if pidfd is None:
        os.close(heard)
        return
    try:
        relay(heard, host, process.pid, pidfd)
    except OSError as error:  # the container runs all the same
        context.log.warning(f"READY=1 could not be told: {host}: {error}")
    finally:
        os.close(pidfd)


COMMAND = Command("let the program of a created container begin", (), ("ID",), run=run, examples=("nsinit start web",))
