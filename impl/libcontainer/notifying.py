"""READY=1 of a container's program, told to whoever started this call as a service of type notify.

The program gets a socket of its own, in a directory that is bound on /run/notify, and NOTIFY_SOCKET leads there. What
it says is read outside, and only READY=1 goes on, with the process's pid as the host sees it: the program can't name
another process, and can't reach the host's socket.

Source: sd_notify(3); systemd.service(5), "Type=notify"; docs of opencontainers/runc.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.binding import attach_bind
from kernelproof.impl.libcontainer.rootfs.sources import detach_from_host
from kernelproof.impl.libcontainer.rootfs.words import parse_words
from kernelproof.impl.libcontainer.state import NOTIFY_DIRECTORY
from kernelproof.impl.mount.detached import DetachedMount

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Config

VARIABLE = "NOTIFY_SOCKET"
INSIDE = "/run/notify"
_FILE = "notify.sock"
_PATIENCE_SECONDS = 5.0
_WORDS = ("bind", "ro", "nosuid", "nodev", "noexec")
_MOST_BYTES = 4096


def with_socket(config: Config) -> Config:
    """The configuration with the variable that leads its program to its socket."""
    process = config.process
    if process is None:
        return config
    kept = (entry for entry in process.env if entry.partition("=")[0] != VARIABLE)
    return config.replace(process=process.replace(env=(*kept, f"{VARIABLE}={INSIDE}/{_FILE}")))


class MakeNotify(Operation):
    """Makes the directory of the socket in the container's state, and copies its mount for BindNotify.

    `listens`: whether the socket is made too, because the program begins in this same call.
    """

    __slots__ = ("listens",)
    stage = "host"
    listens: bool

    def describe(self) -> str:
        """What will happen."""
        return "make the directory of the socket for READY=1" + (", and listen" if self.listens else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOSPC, EROFS; EPERM: a caller without rights can't copy mounts.
        """
        state = site.found["state"]
        assert isinstance(state, int)
        os.mkdir(NOTIFY_DIRECTORY, 0o755, dir_fd=state)
        directory = _open(state)
        try:
            os.fchmod(directory, 0o755)
            if self.listens:
                site.found["notify socket"] = listen(state)
            with contextlib.ExitStack() as undo:
                made = DetachedMount.copy(directory)
                undo.callback(made.close)
                detach_from_host(made)
                undo.pop_all()
            site.descriptors["notify"] = made.detach_fd()
        finally:
            os.close(directory)

    def undo(self, site: Site) -> None:
        """Closes the socket; the directory goes with the state."""
        fd = site.found.pop("notify socket", None)
        if isinstance(fd, int):
            os.close(fd)


class BindNotify(Operation):
    """Binds the directory of the socket into the container."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return f"bind the directory of the socket for READY=1 on {INSIDE} ({','.join(_WORDS)})"

    def do(self, site: Site) -> None:
        """Does it; errors as rootfs.Bind."""
        with DetachedMount(site.descriptors.pop("notify"), road="open_tree") as made:
            attach_bind(site, made, INSIDE, parse_words(_WORDS).options)


def _open(state: int) -> int:
    return os.open(NOTIFY_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=state)


def listen(state: int) -> int:
    """A socket at which the container's program is heard; the caller closes it.

    Args:
        state: descriptor of the container's state directory.

    Raises:
        OSError: ENOENT: it was made without one.
    """
    directory = _open(state)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_FILE, dir_fd=directory)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.bind(f"/proc/self/fd/{directory}/{_FILE}")
            os.chmod(_FILE, 0o777, dir_fd=directory)
            return made.detach()
    finally:
        os.close(directory)


def relay(fd: int, host: str, pid: int, pidfd: int, *, patience_seconds: float = _PATIENCE_SECONDS) -> bool:
    """Waits until the program is ready, and tells it; False if the program has ended instead.

    It returns when the manager has taken what was told: whose a message is, it finds out by a sender that still lives.

    Args:
        fd: of `listen`, closed here.
        host: where it is told: a path, or a name behind `@`.
        pid: the container's process, as the host sees it.
        pidfd: its descriptor.
        patience_seconds: how long a manager that takes nothing is waited for.

    Raises:
        OSError: ENOENT, ECONNREFUSED: nobody listens there.

    Source: sd_notify(3), "DESCRIPTION" and BARRIER=1.
    """
    with socket.socket(fileno=fd) as heard:
        poll = select.poll()
        for one in (heard.fileno(), pidfd):
            poll.register(one, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if heard.fileno() in ready and _is_ready(heard):
                break
            if pidfd in ready and heard.fileno() not in ready:
                return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect("\0" + host[1:] if host.startswith("@") else host)
        told.send(f"READY=1\nMAINPID={pid}".encode())
        _await_taken(told, patience_seconds)
    return True


def _await_taken(told: socket.socket, patience_seconds: float) -> None:
    reader, writer = os.pipe()
    try:
        try:
            socket.send_fds(told, [b"BARRIER=1"], [writer])
        finally:
            os.close(writer)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.poll(int(patience_seconds * 1000))  # it has ended when the manager has closed its descriptor
    finally:
        os.close(reader)


def _is_ready(heard: socket.socket) -> bool:
    # Descriptors come with BARRIER=1: who sent them waits until they are closed.
    data, descriptors, _, _ = socket.recv_fds(heard, _MOST_BYTES, 16)
    for fd in descriptors:
        os.close(fd)
    return b"READY=1" in data.split(b"\n")
