"""A container without a program: it is made, can be looked at and entered, and each start of it is refused.

Source: OCI runtime specification 1.3, config.md, "Process": it is required when the container is started; runtime.md,
"Errors": what fails leaves all as it was.
"""

from __future__ import annotations

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.operations import NOTHING_TO_START, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, ChannelError
from kernelproof.impl.libcontainer.process.rendezvous import accept, listen
from kernelproof.impl.libcontainer.process.walking import Turn


class RefuseStart(Turn):
    """Refuses each start, until it is killed."""

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "wait, and refuse each start: the configuration has no process"

    def take(self, site: Site, channel: Channel) -> Channel:
        """Does it; never returns.

        Raises:
            OSError: what accept(2) gives.
        """
        listener = listen(site)
        channel.close()
        detail = "the configuration has no process: there is nothing to start"
        remedy = "create one with a process"
        told = StartError("final", NOTHING_TO_START, 0, "", detail, remedy).as_record()
        while True:
            connection = accept(listener)
            with suppress(OSError, ChannelError):  # who asked may be gone
                if connection.receive() is not None:
                    connection.send(0, "error", told)
            connection.close()
