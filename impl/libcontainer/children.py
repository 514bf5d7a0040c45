"""A process of a container as its parent sees it: streams, exit status, an end that can be waited for.

No wait holds the interpreter's lock, and none is without a descriptor: a pidfd becomes readable when its process ends.
"""

from __future__ import annotations

import os
import select

from kernelproof.impl.libcontainer.ending import send_signal
from kernelproof.impl.libcontainer.process.helper import Made

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Self

PIPE = -1
NOTHING = -2
_SIGTERM = 15


class Running:
    """A process of a container: a child of this program.

    Attributes:
        pid: in this program's PID namespace.
        pidfd: readable when it has ended; closed by `close`.
        stdin, stdout, stderr: our ends where PIPE was asked, else -1; the caller closes them.
        master: of its terminal, or -1; the caller closes it.
        refused: what was asked of it and is not to be had here, each as a sentence; of a container's first process,
            known when it was started.
    """

    __slots__ = ("_code", "master", "pid", "pidfd", "refused", "stderr", "stdin", "stdout")

    def __init__(self, made: Made, streams: Streams) -> None:
        self.pid = made.pid
        self.pidfd = made.pidfd
        self.master = made.master
        self.refused = made.refused
        self.stdin, self.stdout, self.stderr = streams.ours
        self._code: int | None = None

    @property
    def exit_status(self) -> int | None:
        """The exit status, 128 + N if signal N killed it; None while it runs or was not waited for."""
        return self._code

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Waits for its end.

        Returns:
            The exit status, 128 + N if signal N killed it.

        Raises:
            TimeoutError: it has not ended in time.
            ChildProcessError: somebody else in this program waited for it.
        """
        if self._code is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(None if timeout_seconds is None else timeout_seconds * 1000):
                raise TimeoutError(f"process {self.pid} has not ended after {timeout_seconds} s")
            self._code = self._reap()
        return self._code

    def _reap(self) -> int:
        found = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert found is not None
        return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status

    async def wait_async(self) -> int:
        """Waits for its end, as `wait`, without keeping the event loop."""
        import asyncio  # only programs that have it loaded already come here

        loop = asyncio.get_running_loop()
        if self._code is None:
            ended: asyncio.Future[None] = loop.create_future()
            loop.add_reader(self.pidfd, _once, ended)
            try:
                await ended
            finally:
                loop.remove_reader(self.pidfd)
            if self._code is None:
                self._code = self._reap()
        return self._code

    def read_output(self, timeout_seconds: float | None = None) -> bytes:
        """All that comes from its standard output, until nobody has it open any more.

        Raises:
            TimeoutError: somebody has it open after that time.
            ValueError: it is no pipe of ours.
        """
        if self.stdout < 0:
            raise ValueError("the standard output is no pipe: ask for PIPE")
        poll = select.poll()
        poll.register(self.stdout, select.POLLIN)
        parts: list[bytes] = []
        while True:
            if not poll.poll(None if timeout_seconds is None else timeout_seconds * 1000):
                raise TimeoutError(f"process {self.pid} has said nothing for {timeout_seconds} s")
            data = os.read(self.stdout, 1 << 16)
            if not data:
                return b"".join(parts)
            parts.append(data)

    def kill(self, number: int = _SIGTERM) -> None:
        """Sends a signal to it; one that has ended is no error.

        Raises:
            OSError: EINVAL, EPERM.
        """
        send_signal(self.pidfd, number)

    def close(self) -> None:
        """Closes the descriptors; the process goes on."""
        for name in ("pidfd", "stdin", "stdout", "stderr", "master"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _once(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


class Streams:
    """Standard streams of a process that is to be made: what it gets, and our ends of pipes."""

    __slots__ = ("given", "opened", "ours")

    def __init__(self, wanted: tuple[int | None, int | None, int | None]) -> None:
        self.opened: list[int] = []
        self.ours = [-1, -1, -1]
        try:
            self.given = [self._one(place, fd) for place, fd in enumerate(wanted)]
        except OSError:
            self.close(ours=True)
            raise

    def _one(self, place: int, fd: int | None) -> int:
        if fd is None:
            return place
        if fd == NOTHING:
            given = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        elif fd == PIPE:
            read, write = os.pipe2(os.O_CLOEXEC)
            given, self.ours[place] = (read, write) if place == 0 else (write, read)
        else:
            return fd
        self.opened.append(given)
        return given

    def close(self, *, ours: bool = False) -> None:
        """Closes what the process was given, and our ends if it was not made."""
        for fd in (*self.opened, *(self.ours if ours else ())):
            if fd >= 0:
                os.close(fd)
        self.opened.clear()
