"""The filter put in force: the last thing before the program, and its listener handed to who asked for it.

A filter may forbid nearly everything, so what happens after it is what a program cannot do without: one message with
the listener, closing two descriptors, giving up a capability, execve. What must be known is found out before.

Source: seccomp(2), seccomp_unotify(2); OCI runtime specification 1.3, config-linux.md, "The Container Process State".
"""

from __future__ import annotations

import _socket  # socket makes enums of its constants when it is imported: 5 ms
import os

from kernelproof.impl._syscalls.seccomp import FLAG_SPEC_ALLOW, flags_known, set_filter
from kernelproof.impl.libcontainer.config.jsontext import format_value
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.libcontainer.security.capabilities import finish
from kernelproof.impl.libcontainer.security.seccomp import NEW_LISTENER

_AGENT = "seccomp agent"
_SECONDS = 10.0


class ConnectListener(Operation):
    """Connects to who will answer for the filter, while the host's paths can be seen."""

    __slots__ = ("path",)
    stage = "host"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"connect to the seccomp agent at {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, ECONNREFUSED: nobody listens there.
        """
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            agent.settimeout(_SECONDS)
            agent.connect(self.path)
            agent.settimeout(None)
        except OSError as error:
            agent.close()
            named = OSError(error.errno, error.strerror or str(error), self.path)
            named.add_note(Remedy("SCMP_ACT_NOTIFY needs a process that listens at linux.seccomp.listenerPath"))
            raise named from None
        site.descriptors[_AGENT] = agent.detach()

    def undo(self, site: Site) -> None:
        """Closes the connection."""
        fd = site.descriptors.pop(_AGENT, None)
        if fd is not None:
            os.close(fd)


class FilterCalls(Operation):
    """Has a filter of system calls in force as the program starts.

    `finish` in `site.found["filter"]` loads it: whoever executes the program calls that right before, after the last
    message of the runtime's own.

    Attributes:
        flags: of seccomp(2).
        kept: whether CAP_SYS_ADMIN was kept for it, which is given up after it.
        metadata: what the agent gets with the listener.
        state: the container's state as the agent gets it, but for the pid.
        words: the program.
    """

    __slots__ = ("flags", "kept", "metadata", "state", "words")
    stage = "final"
    flags: int
    kept: bool
    metadata: str
    state: tuple[tuple[str, object], ...]
    words: bytes

    def describe(self) -> str:
        """What will happen."""
        to_agent = ", its listener sent to the agent" if self.flags & NEW_LISTENER else ""
        return f"filter system calls by {len(self.words) // 8} instructions, flags {self.flags:#x}{to_agent}"

    def do(self, site: Site) -> None:
        """Prepares it.

        Raises:
            LookupError: nobody connected to the agent.
            OSError: ENOSYS: a kernel without seccomp.
        """
        flags = self.flags
        if flags & FLAG_SPEC_ALLOW and not flags_known(flags):
            flags &= ~FLAG_SPEC_ALLOW
        message = self._message(site) if flags & NEW_LISTENER else b""
        agent = site.descriptors.get(_AGENT, -1)
        if message and agent < 0:
            raise LookupError("no agent is connected: ConnectListener comes first")

        def load() -> None:
            listener = set_filter(self.words, flags)
            if message:
                _send(agent, listener, message)
            if self.kept:
                finish(site)

        site.found["filter"] = load

    def _message(self, site: Site) -> bytes:
        pid = site.found.get("outer pid", os.getpid())
        state = {**{key: _plain(value) for key, value in self.state}, "pid": pid}
        document: dict[str, object] = {
            "ociVersion": state.get("ociVersion", ""),
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": state,
        }
        return format_value(document).encode()


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, tuple) else value


def _send(agent: int, listener: int, message: bytes) -> None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, agent)
    try:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, "little"))]
        connection.sendmsg([message], rights, _socket.MSG_NOSIGNAL)
    finally:
        connection.detach()
        os.close(agent)
        os.close(listener)
