"""run: create, start, wait and delete in one."""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.lifecycle import run as run_container
from kernelproof.impl.libcontainer.nsinit.options import FLAG, TEXT, Command, Given, Option
from kernelproof.impl.libcontainer.nsinit.verbs.bundles import (
    OPTIONS,
    copy_of,
    flush,
    host_socket,
    load,
    make_request,
    root_of,
    send_pidfd,
    tracer,
    with_size,
)
from kernelproof.impl.libcontainer.state import NoSuchContainerError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

DETACH_KEYS = Option("--detach-keys", TEXT, "what is typed to leave it running, such as ctrl-p,ctrl-q", "KEYS")


def run(context: Context, given: Given) -> int:
    """Runs the container; its exit status if it is in the foreground."""
    detached = given.flag("detach")
    loaded = load(context, given)
    request = make_request(context, given, loaded, waits=False, foreground=not detached)
    root = root_of(context)
    process = loaded.config.process
    if process is not None and not detached:
        loaded.config = loaded.config.replace(process=with_size(process))
    flush()
    if not detached and not given.flag("no-subreaper"):
        _become_subreaper()
    started = run_container(
        root,
        loaded.config,
        request,
        config_text=copy_of(loaded),
        pid_file=given.text("pid-file"),
        prepare=tracer(context),
        tell=context.log.warning,
    )
    for text in started.refused:
        context.log.warning(f"not to be had here: {text}")
    if host_socket():
        tell_ready(context, started, detached=detached)
    if detached:
        send_pidfd(given.text("pidfd-socket"), started.pidfd)
        return 0
    status = attend(started, given)
    if status is None:
        return 0
    if not given.flag("keep"):
        from kernelproof.impl.libcontainer.ending import delete  # measured: loaded while the container is made

        with suppress(NoSuchContainerError):  # somebody else has deleted it, perhaps by force
            delete(root, request.id, tell=context.log.warning)
    return status


def tell_ready(context: Context, started: Started, *, detached: bool) -> None:
    """Waits until the program says that it is ready, and tells who started this call."""
    from kernelproof.impl.libcontainer.notifying import relay  # measured: few are services of systemd

    if not detached:
        from kernelproof.impl.libcontainer.foreground import forward_signals  # measured: not for what is detached

        forward_signals(started.pidfd)
    fd = started.walk.site.found["notify socket"]
    assert isinstance(fd, int)
    assert started.walk.child is not None
    try:
        relay(fd, host_socket(), started.walk.child.pid, started.pidfd)
    except OSError as error:  # the container runs all the same
        context.log.warning(f"READY=1 could not be told: {host_socket()}: {error}")


def _become_subreaper() -> None:
    from kernelproof.impl.libcontainer.foreground import become_subreaper  # measured: not for what is detached

    become_subreaper()


def attend(started: Started, given: Given) -> int | None:
    """Stays with a process; its exit status, or None if its user left it running."""
    from kernelproof.impl.libcontainer.foreground import DETACHED  # measured: not for what is detached
    from kernelproof.impl.libcontainer.foreground import attend as stay

    assert started.walk.child is not None
    status = stay(started.walk.child.pid, started.pidfd, started.master, detach_keys(given))
    os.close(started.pidfd)
    return None if status == DETACHED else status


def detach_keys(given: Given) -> bytes:
    """The keys that detach, as bytes."""
    if not given.has("detach-keys"):
        return b""
    from kernelproof.impl.term.keys import parse_keys  # measured: few have a terminal

    return parse_keys(given.text("detach-keys"))


COMMAND = Command(
    "create, start, wait for and delete a container",
    (
        *OPTIONS,
        Option("--detach -d", FLAG, "leave it running, and end"),
        DETACH_KEYS,
        Option("--keep", FLAG, "do not delete it when it has ended"),
        Option("--no-subreaper", FLAG, "do not take over processes whose parent has ended"),
    ),
    ("ID",),
    run=run,
    details="In the foreground, signals go on to the container's process, and the exit status is its own: 128 + N if "
    "signal N killed it.",
    examples=("nsinit run --bundle /srv/web web", "nsinit run -d -b /srv/web --console-socket /run/tty.sock web"),
)

if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.lifecycle import Started
