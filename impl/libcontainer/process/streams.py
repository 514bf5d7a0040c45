"""Session, standard streams and controlling terminal of the container's process."""

from __future__ import annotations

import fcntl
import os

from kernelproof.impl.libcontainer.operations import Operation, Site

_TIOCSCTTY = 0x540E  # of all machines here; termios is a file of its own to load, and most have no terminal
STREAMS = ("stdin", "stdout", "stderr")


class MakeSession(Operation):
    """Makes the process the leader of a new session: signals of the caller's terminal don't reach it."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "make a session"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: it leads a group already.
        """
        os.setsid()


class TakeStreams(Operation):
    """Makes descriptors that came with the request the standard streams."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "take the standard streams of who asked"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: what dup3(2) gives.
        """
        for fd, name in enumerate(STREAMS):
            given = site.descriptors.pop(name, None)
            if given is not None:
                os.dup2(given, fd)
                if given > 2:
                    os.close(given)


class UseTerminal(Operation):
    """Makes the container's terminal its controlling terminal and its standard streams."""

    __slots__ = ()
    stage = "root"

    def describe(self) -> str:
        """What will happen."""
        return "use the terminal: controlling, and for the standard streams"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: it is another session's.
            LookupError: there is no terminal.
        """
        terminal = site.descriptors.pop("terminal")
        fcntl.ioctl(terminal, _TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(terminal, fd)
        if terminal > 2:
            os.close(terminal)


class SendConsole(Operation):
    """Sends the terminal's master to who listens at a socket of the host.

    Source: docs/terminals.md of opencontainers/runc, "Detached".
    """

    __slots__ = ("path",)
    stage = "host"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"send the terminal's master to {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, ECONNREFUSED: nobody listens at the socket.
        """
        import socket  # measured: 5 ms, and most containers have no terminal

        from kernelproof.impl.term.console import send_master  # likewise

        master = site.descriptors.pop("master")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(self.path)
                send_master(connection, master, str(site.found.get("terminal") or "/dev/pts/0"))
        except OSError as error:
            error.add_note(f"console socket {self.path}")
            raise
        finally:
            os.close(master)
