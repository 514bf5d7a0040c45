"""Hooks: programs that are run at six moments of a container's life, with its state on their standard input.

    prestart, createRuntime, poststart, poststop    in the runtime's namespaces
    createContainer                                  in the container's, before its root is entered
    startContainer                                   in the container's, just before its program

A hook has a session of its own, and is killed with all of it when its time is up; what it writes to standard error is
in the error. One that does not read its input is no error.

Source: OCI runtime specification 1.3, config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle".
"""

from __future__ import annotations

import os
import select
import time

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.config.jsontext import format_value, parse
from kernelproof.impl.libcontainer.config.records import Hook
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.state import VERSION

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST_STDERR_BYTES = 4096
_SIGKILL = 9
_SIGPIPE = 13

# Kind -> the status that its state tells, and the stage of who runs it.
KINDS = {
    "prestart": ("creating", "host"),
    "createRuntime": ("creating", "host"),
    "createContainer": ("creating", "init"),
    "startContainer": ("created", "final"),
    "poststart": ("running", "host"),
    "poststop": ("stopped", "host"),
}


class HookError(RuntimeError):
    """A hook failed."""


class RunHook(Operation):
    """Runs one hook. `document` is the state without pid, as pairs; subclasses say where, and have the fields."""

    __slots__ = ()
    document: tuple[tuple[str, object], ...]
    hook: Hook
    kind: str

    def describe(self) -> str:
        """What will happen."""
        limit = f" within {self.hook.timeout} s" if self.hook.timeout else ""
        return f"run the {self.kind} hook {self.hook.path}{limit}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            HookError: it exited with another status than 0, was killed, or took too long.
            OSError: it can't be executed.
        """
        # Inside a PID namespace of its own the container's first process has pid 1, and sees itself as such.
        pid = site.found.get("pid") if self.stage == "host" else os.getpid()
        document = {**dict(self.document), "pid": pid}
        run_hook(self.kind, self.hook, document, own_environment=site.found.get("hook environment"))


class RunHostHook(RunHook):
    """Runs a hook in the runtime's namespaces."""

    __slots__ = ("document", "hook", "kind")
    stage = "host"


class RunInnerHook(RunHook):
    """Runs a createContainer hook: in the container's namespaces, by its path on the host."""

    __slots__ = ("document", "hook", "kind")
    stage = "init"


class RunFinalHook(RunHook):
    """Runs a startContainer hook: in the container, just before its program."""

    __slots__ = ("document", "hook", "kind")
    stage = "final"


def plan_hooks(kind: str, hooks: tuple[Hook, ...], document: Mapping[str, object]) -> tuple[RunHook, ...]:
    """The operations of all hooks of a kind, in order."""
    status, stage = KINDS[kind]
    make = {"host": RunHostHook, "init": RunInnerHook, "final": RunFinalHook}[stage]
    pairs = tuple({**document, "ociVersion": VERSION, "status": status}.items())
    # In the order of `__slots__`.
    return tuple(make(pairs, hook, kind) for hook in hooks)


def run_hook(kind: str, hook: Hook, document: Mapping[str, object], *, own_environment: object = None) -> None:
    """Runs a hook to its end.

    Args:
        kind: one of KINDS, for the error.
        hook: what is run. Without `env` it has the caller's environment.
        document: the state that is written to its input.
        own_environment: what to take for the caller's environment.

    Raises:
        HookError: it exited with something else than 0, was killed, or took too long.
        OSError: it could not be started.
    """
    env = dict(os.environ) if not isinstance(own_environment, dict) else own_environment
    if hook.env is not None:
        env = dict(entry.split("=", 1) for entry in hook.env if "=" in entry)
    deadline = time.monotonic() + hook.timeout if hook.timeout else None
    input_read, input_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, input_read, 0), (os.POSIX_SPAWN_DUP2, error_write, 2)]
        pid = _spawn(kind, hook, env, actions)
        os.close(input_read)
        input_read = -1
        os.close(error_write)
        error_write = -1
        feed = _Feed(input_write, format_value(document).encode())
        input_write = -1
        said, status = _attend(pid, feed, error_read, deadline)
    finally:
        for fd in (input_read, input_write, error_read, error_write):
            if fd >= 0:
                os.close(fd)
    _judge(kind, hook, status, said)


def _spawn(kind: str, hook: Hook, env: dict[str, str], actions: list[tuple[int, int, int]]) -> int:
    args = list(hook.args) if hook.args else [hook.path]
    try:
        return os.posix_spawn(
            hook.path, args, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=[_SIGPIPE]
        )
    except OSError as error:
        named = OSError(error.errno, error.strerror, hook.path)
        named.add_note(f"posix_spawn of the {kind} hook")
        raise named from None


class _Feed:
    """What a hook has still to read; closes its end when all is written, or nobody reads."""

    __slots__ = ("_rest", "fd")

    def __init__(self, fd: int, data: bytes) -> None:
        self.fd = fd
        self._rest = memoryview(data)
        os.set_blocking(fd, False)

    def step(self, poll: select.poll) -> None:
        try:
            self._rest = self._rest[os.write(self.fd, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._rest = self._rest[:0]
        if not self._rest:
            poll.unregister(self.fd)
            self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _attend(pid: int, feed: _Feed, errors: int, deadline: float | None) -> tuple[bytes, int | None]:
    """Feeds a hook, keeps what it says, waits for its end. No status: its time was up, and it was killed."""
    pidfd = os.pidfd_open(pid)
    said = b""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(errors, select.POLLIN)
    poll.register(feed.fd, select.POLLOUT)
    try:
        while True:
            left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000))
            ready = dict(poll.poll(left))
            if feed.fd in ready:
                feed.step(poll)
            if errors in ready:
                said = (said + _listen(errors, poll))[-_MOST_STDERR_BYTES:]
            elif pidfd in ready or not ready:
                break
    finally:
        feed.close()
        os.close(pidfd)
    if not ready:
        _kill_session(pid)
    _, status = os.waitpid(pid, 0)
    return said, status if ready else None


def _listen(errors: int, poll: select.poll) -> bytes:
    data = os.read(errors, _MOST_STDERR_BYTES)
    if not data:
        poll.unregister(errors)
    return data


def _kill_session(pid: int) -> None:
    # A grandchild that holds the pipe is in the hook's process group too, as it made a session of its own.
    with suppress(ProcessLookupError):
        os.killpg(pid, _SIGKILL)


def _judge(kind: str, hook: Hook, status: int | None, said: bytes) -> None:
    if status is None:
        error = HookError(f"the {kind} hook {hook.path} was killed after its {hook.timeout} s")
    elif status:
        code = os.waitstatus_to_exitcode(status)
        how = f"exited with {code}" if code >= 0 else f"was killed by signal {-code}"
        error = HookError(f"the {kind} hook {hook.path} {how}")
    else:
        return
    words = said.decode("utf-8", "replace").strip()
    if words:
        error.add_note(f"it said: {words}")
    raise error


def run_all(kind: str, hooks: tuple[Hook, ...], document: Mapping[str, object], tell: Callable[[str], None]) -> None:
    """Runs hooks whose failure stops nothing; `tell` gets a warning for each that failed."""
    for hook in hooks:
        try:
            run_hook(kind, hook, document)
        except (HookError, OSError) as error:
            tell("; ".join([str(error), *getattr(error, "__notes__", ())]))


def stored_hooks(text: bytes, kind: str) -> tuple[Hook, ...]:
    """The hooks of a kind in a configuration that was checked when its container was made."""
    if f'"{kind}"'.encode() not in text:
        return ()
    match parse(text):
        case {"hooks": dict(hooks)}:
            return tuple(_hook_of(value) for value in hooks.get(kind) or () if isinstance(value, dict))
    return ()


def _hook_of(value: dict[str, object]) -> Hook:
    args, env, timeout = value.get("args"), value.get("env"), value.get("timeout")
    return Hook(
        str(value.get("path")),
        tuple(map(str, args)) if isinstance(args, list) else None,
        tuple(map(str, env)) if isinstance(env, list) else None,
        timeout if isinstance(timeout, int) else None,
    )
