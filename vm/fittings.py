"""What one machine has of its host: streams to its monitor and its agent, maybe to a terminal, and where it writes."""

from __future__ import annotations

import socket

from kernelproof.vm.channel import Channel
from kernelproof.vm.console import Console
from kernelproof.vm.held_up import HeldUp
from kernelproof.vm.process import Child


class Fittings:
    """Connected socket pairs, a console, and a file for what QEMU itself prints. Closed unless they became a channel.

    Args:
        terminal: Whether the machine has a second port.

    Raises:
        OSError: EMFILE.
    """

    def __init__(self, *, terminal: bool) -> None:
        self.console, self.errors = Console("console"), Console("stderr")
        self._ours, self._theirs = zip(*(socket.socketpair() for _ in range(3 if terminal else 2)), strict=True)

    @property
    def ends(self) -> tuple[int, ...]:
        """QEMU's ends: the monitor's, the agent's, the terminal's."""
        return tuple(end.fileno() for end in self._theirs)

    def connect(self, child: Child) -> Channel:
        """The channel to a QEMU that has its ends."""
        control, agent, *terminal = self._ours
        return Channel(agent, control, child.pidfd, terminal[0] if terminal else None, HeldUp(child.pid))

    def leave(self) -> None:
        """Close QEMU's ends: it has its own by now."""
        for end in self._theirs:
            end.close()

    def close(self) -> None:
        """Close all of ours."""
        for closing in (*self._ours, self.console, self.errors):
            closing.close()
