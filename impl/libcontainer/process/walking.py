"""A plan is walked by two: the runtime does the operations of stage `host`, the process that it makes does the others.

Whoever comes to an operation of the other waits for it. Between them goes a message each time the turn changes, with
the number of the operation that is next; any other number is an error, so nothing is taken for something else. An
operation that fails is told as a StartError. When the other side ends without a word, the last number says where.
"""

from __future__ import annotations

import errno
import gc
import os
import select

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site, StartError
from kernelproof.impl.libcontainer.process.channel import Channel, ChannelError, Message

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

# What an operation may raise; whatever else it raises is told all the same, as it would be lost in a forked process.
FAILURES = (
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
    StartError,
    ChannelError,
)
_OURS = "kernelproof."  # what is raised here is a sentence
UNKNOWN_END = "process ended in"  # where another process than this one is the parent
_SIGKILL = 9
_WAIT_SECONDS = 10.0


class Turn(Operation):
    """An operation at which the process changes with whom it speaks; `take` returns the new channel."""

    __slots__ = ()

    def take(self, site: Site, channel: Channel) -> Channel:
        """Does it."""
        raise NotImplementedError


class Birth(Operation):
    """The operation that makes the process; from it on there are two."""

    __slots__ = ()
    stage = "host"

    def make(self, site: Site) -> Child | Channel:
        """Makes it: in the runtime a Child, in the child its end of the channel."""
        raise NotImplementedError


class Child:
    """The process, as the runtime sees it.

    Attributes:
        pid: in the runtime's PID namespace.
        pidfd: its descriptor, closed by `close`.
        channel: the runtime's end.
        is_ours: whether it is a child of this process, which then waits for it.
        helpers: processes that were needed on the way and have ended; whoever is their parent waits for them.
    """

    __slots__ = ("channel", "helpers", "is_ours", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, channel: Channel, *, is_ours: bool, helpers: tuple[int, ...] = ()) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel
        self.is_ours = is_ours
        self.helpers = helpers

    def kill(self) -> None:
        """Kills it and waits until it is dead."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, _SIGKILL) if self.is_ours else _send_kill(self.pidfd)
        self.end()

    def end(self) -> str:
        """Waits for its end, and says what it was: "exited with 1", "was killed by signal 9", or "ended"."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(_WAIT_SECONDS * 1000):
            return f"has not ended after {_WAIT_SECONDS:.0f} seconds"
        if not self.is_ours:
            return "ended"
        _, status = os.waitpid(self.pid, 0)
        self.is_ours = False
        return describe_end(status)


def describe_end(status: int) -> str:
    """How a process ended, as waitpid(2) tells it: "exited with 1", "was killed by signal 9"."""
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"exited with {code}"


def _send_kill(pidfd: int) -> None:
    from signal import pidfd_send_signal  # measured: its enums cost 4 ms, and few come here

    pidfd_send_signal(pidfd, _SIGKILL)


def failure(operation: Operation | None, stage: str, error: Exception) -> StartError:
    """An exception as the record that goes over the wire."""
    if isinstance(error, StartError):
        return error
    call = type(operation).__name__ if operation is not None else stage
    notes = getattr(error, "__notes__", [])
    remedy = "; ".join([note for note in notes if isinstance(note, Remedy)])
    remedy = remedy[:1].upper() + remedy[1:]
    notes = [note for note in notes if not isinstance(note, Remedy)]
    path = ""
    if isinstance(error, OSError):
        names = [error.filename, error.filename2]
        path = ", ".join(os.fsdecode(name) if isinstance(name, bytes) else str(name) for name in names if name)
        if not path and not notes and operation is not None:
            notes.append(f"this was to {operation.describe()}")
        detail = "; ".join([_strerror(error), *notes])
        return StartError(stage, call, error.errno or 0, path, detail, remedy)
    says_itself = isinstance(error, (ValueError, LookupError)) or type(error).__module__.startswith(_OURS)
    kind = "" if says_itself else f"{type(error).__name__}: "
    return StartError(stage, call, 0, path, "; ".join([f"{kind}{error}", *notes]), remedy)


def advised(told: StartError) -> StartError:
    """An error with what helps, where its number says that: for the runtime, as in a container nothing is loaded."""
    if told.remedy or not told.errno:
        return told
    from kernelproof.impl.libcontainer.process.remedies import find_remedy  # only an error asks

    remedy = find_remedy(told.call, told.errno)
    return StartError(told.stage, told.call, told.errno, told.path, told.detail, remedy) if remedy else told


def _strerror(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text  # AF_UNIX stays


class HostWalk:
    """The runtime's walk over a plan.

    Args:
        operations: the plan.
        site: the runtime's; the process has a copy of it.
    """

    __slots__ = ("_done", "_operations", "child", "reached", "site")

    def __init__(self, operations: Sequence[Operation], site: Site) -> None:
        self._operations = tuple(operations)
        self._done: list[Operation] = []
        self.site = site
        self.child: Child | None = None
        self.reached = 0

    def run(self) -> None:
        """Does what is the runtime's to do, and returns after its last operation; the process goes on.

        Raises:
            StartError: an operation failed. What was done is undone in reverse, and the process is dead.
        """
        operation: Operation | None = None
        mine = True
        try:
            for number, operation in enumerate(self._operations):
                self._trace(operation)
                was_mine, mine = mine, operation.stage == "host"
                if mine and not was_mine:
                    self._prepare(number)
                    self._wait(number)
                elif was_mine and not mine:
                    self._go(number)
                if not mine:
                    continue
                if isinstance(operation, Birth):
                    self._bear(number, operation)
                else:
                    operation.do(self.site)
                self._done.append(operation)
        except FAILURES as error:
            told = advised(failure(operation, operation.stage if operation is not None else "host", error))
            told.left = self.undo()
            raise told from error
        except BaseException:  # interrupted: nothing may stay behind either
            self.undo()
            raise

    def _trace(self, operation: Operation) -> None:
        trace = self.site.found.get("trace")
        if callable(trace):
            trace(f"{operation.stage}: {operation.describe()}")

    def _bear(self, number: int, operation: Birth) -> None:
        made = operation.make(self.site)
        if isinstance(made, Channel):
            walk_as_child(self._operations, number + 1, self.site, made)
        self.child = made
        self.site.found["pid"] = made.pid
        self.site.found["helpers"] = made.helpers
        self.site.descriptors["pidfd"] = made.pidfd

    def _born(self) -> Child:
        if self.child is None:
            raise RuntimeError("the plan has an operation of the container's process before there is one")
        return self.child

    def _go(self, number: int) -> None:
        child = self._born()
        try:
            child.channel.send(number, "go", {"pid": child.pid})
        except (BrokenPipeError, ConnectionResetError):
            self._receive()  # its last word, if there is one, says more
            raise self._lost() from None

    def _prepare(self, number: int) -> None:
        # The process is at work by now, mostly on another processor.
        for operation in self._operations[number:]:
            if operation.stage != "host":
                break
            operation.prepare(self.site)

    def _wait(self, number: int) -> None:
        message = self._receive()
        if message.kind != "reached" or message.number != number:
            raise ChannelError(f"{message.kind} {message.number} came where operation {number} was to be reached")
        self.site.found.update(message.values)
        names = message.values.get("descriptors", ())
        if isinstance(names, list):
            for name, fd in zip(names, message.descriptors, strict=False):
                self.site.descriptors[str(name)] = fd

    def _receive(self) -> Message:
        message = self._born().channel.receive()
        if message is None:
            raise self._lost()
        self.reached = message.number
        if message.kind == "error":
            raise error_of(message.values)
        return message

    def _lost(self) -> StartError:
        child = self._born()
        last = next((number for number in range(self.reached, len(self._operations)) if self._is_theirs(number)), 0)
        stage = self._operations[last].stage
        detail = f"the container's process {child.end()} in stage {stage} without a report"
        return StartError(stage, "process", errno.ECHILD, f"pid {child.pid}", detail, "look at the kernel's log")

    def _is_theirs(self, number: int) -> bool:
        return self._operations[number].stage != "host"

    def await_program(self) -> None:
        """Waits until the process has become its program.

        Raises:
            StartError: it has not. What was done is undone in reverse.
        """
        try:
            for text in wait_for_program(self._receive, self._born().channel):
                self.site.refuse(text)
        except FAILURES as error:
            told = failure(None, "final", error)
            told.left = self.undo()
            raise told from error

    def undo(self) -> tuple[str, ...]:
        """Kills the process and takes back, in reverse, all that was done, whatever fails meanwhile.

        Returns:
            What could not be taken back.
        """
        left = []
        if self.child is not None:
            try:
                self.child.kill()
                self.child.channel.close()
            except OSError as error:
                left.append(f"process {self.child.pid}: {error}")
        while self._done:
            operation = self._done.pop()
            try:
                operation.undo(self.site)
            except FAILURES as error:  # the first error is the one that is told
                left.append(f"not taken back: {operation.describe()}: {error}")
        return tuple(left)


def wait_for_program(receive: Callable[[], Message], channel: Channel) -> tuple[str, ...]:
    """Reads messages until the one that the program is next, and then the end of the channel, which its exec closes.

    Returns:
        What was asked and is not to be had, each as a sentence.

    Raises:
        StartError: what failed instead.
    """
    message = receive()
    if message.kind != "program":
        raise ChannelError(f"{message.kind} came where the program was to begin")
    last = channel.receive()
    if last is not None:
        raise error_of(last.values)
    refused = message.values.get("refused", ())
    return tuple(str(text) for text in refused) if isinstance(refused, list) else ()


def error_of(values: dict[str, object]) -> StartError:
    """The error that a message tells."""

    def text(name: str) -> str:
        return str(values.get(name, ""))

    number = values.get("errno")
    code = number if isinstance(number, int) else 0
    return advised(StartError(text("stage"), text("call"), code, text("path"), text("detail"), text("remedy")))


def walk_as_child(operations: Sequence[Operation], start: int, site: Site, channel: Channel) -> NoReturn:
    """The process's walk, from its birth to its program; it never returns."""
    number = start
    operation: Operation | None = None
    mine = False
    try:
        gc.disable()  # nothing of the runtime's may be finalised here
        site.found["channel"] = channel
        for number in range(start, len(operations)):
            operation = operations[number]
            was_mine, mine = mine, operation.stage != "host"
            if was_mine and not mine:
                _reached(channel, number, site)
            elif mine and not was_mine:
                _await_go(channel, number, site)
            if isinstance(operation, Turn):
                channel = operation.take(site, channel)
                site.found["channel"] = channel
            elif mine:
                operation.do(site)
    except FAILURES as error:
        told = failure(operation, operation.stage if operation is not None else "init", error)
        with suppress(OSError):  # perhaps nobody listens any more
            channel.send(number, "error", told.as_record())
    finally:
        os._exit(1)


def _reached(channel: Channel, number: int, site: Site) -> None:
    handed = tuple(name for name in site.handed if name in site.descriptors)
    values = {**site.report, "descriptors": list(handed)}
    channel.send(number, "reached", values, [site.descriptors[name] for name in handed])
    for name in handed:
        os.close(site.descriptors.pop(name))


def _await_go(channel: Channel, number: int, site: Site) -> None:
    message = channel.receive()
    if message is None:
        os._exit(1)  # the runtime is gone; what it made is found by its state
    if message.kind != "go" or message.number != number:
        raise ChannelError(f"{message.kind} {message.number} came where operation {number} was to be allowed")
    site.found["outer pid"] = message.values["pid"]  # as the runtime sees it
