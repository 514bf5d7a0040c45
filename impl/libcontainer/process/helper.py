"""The other side of zygote: helpers are spawned when they are needed, kept warm, and asked; safe in any program.

No code of this process runs in a child of it, no handler or lock is inherited, and nothing waits with the interpreter's
lock held. Requests of several threads go to helpers of their own, as many as there are requests at one time.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from kernelproof.impl.libcontainer.operations import StartError
from kernelproof.impl.libcontainer.process import sealing
from kernelproof.impl.libcontainer.process.channel import Message, open_channel
from kernelproof.impl.libcontainer.process.walking import UNKNOWN_END, describe_end, error_of
from kernelproof.impl.libcontainer.state import (
    ContainerError,
    ContainerExistsError,
    InvalidIdError,
    NoSuchContainerError,
    StateError,
    WrongStatusError,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

_FD = 3
_CLASSES = {
    kind.__name__: kind
    for kind in (ContainerExistsError, InvalidIdError, NoSuchContainerError, StateError, WrongStatusError)
}
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from kernelproof.impl.libcontainer.process.zygote import main; main(int(sys.argv[2]), sys.argv[1])"
)


class Made:
    """A process that a helper made: a child of this program, with its pidfd and its terminal's master, or -1.

    `refused`: what was asked and is not to be had, each as a sentence.
    """

    __slots__ = ("master", "pid", "pidfd", "refused")

    def __init__(self, pid: int, pidfd: int, master: int, refused: tuple[str, ...] = ()) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.master = master
        self.refused = refused


class Helper:
    """One helper process. It ends when this is closed, or when this program does."""

    __slots__ = ("_channel", "pid")

    def __init__(self, interpreter: int | None = None) -> None:
        ours, theirs = open_channel()
        packages = str(Path(__file__).parents[4])
        try:
            # -I -S: nothing of the environment, the working directory or the user is searched for modules.
            self.pid = os.posix_spawn(
                sys.executable if interpreter is None else f"/proc/self/fd/{interpreter}",
                [sys.executable, "-I", "-S", "-c", _PROGRAM, packages, str(_FD)],
                {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_"))},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), _FD)],
                setsigmask=[],
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = ours

    def await_ready(self) -> None:
        """Waits until it has loaded what it needs.

        Raises:
            StartError: it ended instead.
        """
        if self._channel.receive() is None:
            raise self._lost()

    def ask(self, kind: str, values: dict[str, object], descriptors: Sequence[int]) -> Message:
        """Sends a request and waits for its answer; errors as `send` and `receive`."""
        self.send(kind, values, descriptors)
        return self.receive()

    def send(self, kind: str, values: dict[str, object], descriptors: Sequence[int]) -> None:
        """Sends a request; it is answered in its turn.

        Raises:
            StartError: the helper is gone.
            OSError: what sendmsg(2) gives.
        """
        try:
            self._channel.send(1, kind, values, descriptors)
        except BrokenPipeError:
            raise self._lost() from None

    def receive(self) -> Message:
        """Waits for the answer to the oldest request.

        Raises:
            StartError: the helper is gone.
        """
        answer = self._channel.receive()
        if answer is None:
            raise self._lost()
        return answer

    def _lost(self) -> StartError:
        if self.pid < 0:
            return StartError("host", "helper", 0, "", "the helper is gone")
        _, status = os.waitpid(self.pid, 0)
        self.pid = -1
        how = describe_end(status)
        return StartError("host", "helper", 0, "", f"the helper {how}; its words are on standard error")

    def close(self) -> None:
        """Ends it."""
        self._channel.close()
        if self.pid > 0:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = -1


class Helpers:
    """Helpers that wait for requests.

    Args:
        keep: how many at most are kept when nobody needs them.
        sealed: whether they run from a copy of the interpreter that no container can overwrite.
    """

    __slots__ = ("_idle", "_interpreter", "_is_closed", "_keep", "_lock")

    def __init__(self, keep: int = 2, *, sealed: bool = True) -> None:
        self._keep = keep
        self._interpreter = sealing.interpreter.take() if sealed else None
        self._idle: list[Helper] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def warm(self, count: int = 1) -> None:
        """Spawns helpers before they are needed; errors as `ask`."""
        made = [Helper(self._interpreter) for _ in range(count)]
        for helper in made:
            helper.await_ready()
            self._give_back(helper)

    def ask(self, kind: str, values: dict[str, object], descriptors: Sequence[int]) -> Made:
        """Has a helper do something.

        Raises:
            StartError: an operation failed, or the helper was lost.
            ContainerError: one of its kinds.
            OSError: what the kernel refused outside of an operation; helpers can't be spawned.
            ValueError: the configuration is wrong.
        """
        helper = self._take()
        try:
            answer = helper.ask(kind, values, descriptors)
        except BaseException:
            helper.close()
            raise
        self._give_back(helper)
        return read_answer(answer)

    def spawn(self) -> Helper:
        """A helper of the caller's own, warm; errors as `warm`."""
        helper = Helper(self._interpreter)
        helper.await_ready()
        return helper

    def _take(self) -> Helper:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the runtime is closed")
            if self._idle:
                return self._idle.pop()
        return self.spawn()

    def _give_back(self, helper: Helper) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < self._keep:
                self._idle.append(helper)
                return
        helper.close()

    def close(self) -> None:
        """Ends all that wait; one that is at work ends after it."""
        with self._lock:
            idle, self._idle, self._is_closed = self._idle, [], True
            interpreter, self._interpreter = self._interpreter, None
        for helper in idle:
            helper.close()
        if interpreter is not None:
            sealing.interpreter.give_back()


def read_answer(answer: Message) -> Made:
    """What a helper made; errors as `Helpers.ask`."""
    waited = answer.values.get("wait for")
    how = ""
    for pid in waited if isinstance(waited, list) else []:
        # Somebody else in this program may wait for any child, as some do.
        with suppress(ChildProcessError):
            how = describe_end(os.waitpid(pid, 0)[1])
    if answer.kind != "made":
        raise _error_of(answer, how)
    pidfd, master = (*answer.descriptors, -1)[:2]
    pid = answer.values["pid"]
    assert isinstance(pid, int)
    refused = answer.values.get("refused", ())
    return Made(pid, pidfd, master, tuple(map(str, refused)) if isinstance(refused, list) else ())


def _error_of(answer: Message, how: str) -> Exception:
    values = answer.values
    text = str(values.get("text", ""))
    match values:
        case {"class": "StartError", "record": dict(record)}:
            # The helper is not the parent of what it made, so it can't know how that ended.
            told = {**record, "detail": str(record.get("detail", "")).replace(UNKNOWN_END, f"process {how} in", 1)}
            return error_of(told if how else record)
        case {"class": "OSError", "errno": int(number), "path": str(path)}:
            return OSError(number, text or os.strerror(number), path or None)
        case {"class": str(name)} if name in _CLASSES:
            return _CLASSES[name](text)
        case {"class": "ConfigError" | "ValueError"}:
            return ValueError(text)
    return ContainerError(text)
