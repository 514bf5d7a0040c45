"""Containers for Python programs: with threads, with asyncio, with a large heap; nothing is forked from them.

    with Runtime() as runtime, runtime.create("web", config) as container:
        container.start()
        process = container.execute(["id"], stdout=PIPE)
        print(process.read_output(), process.wait())
        container.wait(timeout_seconds=10)

A container that is made in a `with` is deleted at its end, whatever it does then. One that is to stay is made without.

This is not for more than one program's view of the same container at a time: each operation takes the container's lock,
but what a program remembers may be old; ask `status`.
"""

from __future__ import annotations

import os
import sys

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer import lifecycle, running
from kernelproof.impl.libcontainer.awaiting import finish
from kernelproof.impl.libcontainer.children import NOTHING, PIPE, Running
from kernelproof.impl.libcontainer.config.records import Config, Process
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.making import Maker
from kernelproof.impl.libcontainer.process.helper import Helpers
from kernelproof.impl.libcontainer.state import (
    NoSuchContainerError,
    WrongStatusError,
    default_root,
    list_ids,
    open_directory,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from kernelproof.impl.cgroups.stats import Stats
    from kernelproof.impl.libcontainer.attesting import Finding
    from kernelproof.impl.libcontainer.awaiting import CreateOptions, ExecuteOptions, PrepareOptions, StreamOptions
    from kernelproof.impl.libcontainer.events import Happenings

_SIGTERM, _SIGKILL = 15, 9


__all__ = ["NOTHING", "PIPE", "Container", "Running", "Runtime"]


class Container:
    """A container that this program made, or found by its name.

    Attributes:
        id: its name.
        process: its first process, if this program made it.
    """

    __slots__ = ("_further", "_owned", "_root", "_runtime", "id", "process")

    def __init__(self, runtime: Runtime, identifier: str, process: Running | None = None) -> None:
        self._runtime = runtime
        self._owned: Runtime | None = None
        self._further: list[Running] = []
        self._root = runtime.root
        self.id = identifier
        self.process = process

    @classmethod
    def create(
        cls,
        config: Config,
        identifier: str,
        *,
        root: str | os.PathLike[str] = "",
        bundle: str | os.PathLike[str] = "/",
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Container:
        """Makes a container by a runtime of its own, which ends when it is deleted; as Runtime.create."""
        runtime = Runtime(root, keep=1)
        try:
            made = runtime.create(identifier, config, bundle=bundle, stdin=stdin, stdout=stdout, stderr=stderr)
        except BaseException:
            runtime.close()
            raise
        made._owned = runtime
        return made

    @property
    def status(self) -> str:
        """What it is now: creating, created, running, paused, stopped.

        Raises:
            NoSuchContainerError: it was deleted.
        """
        return str(self.state()["status"])

    def state(self) -> dict[str, object]:
        """Its state, as the specification has it; errors as lifecycle.read_state."""
        return lifecycle.read_state(self._root, self.id)

    async def state_async(self) -> dict[str, object]:
        """As `state`, off the event loop, like all of this kind; cancelled, it first ends and undoes what was begun."""
        return await finish(self.state)

    def start(self) -> None:
        """Lets its program begin; errors as lifecycle.start."""
        refused = lifecycle.start(self._root, self.id)
        if self.process is not None:
            self.process.refused = refused

    async def start_async(self) -> None:
        """As `start`; see state_async. A container that was started when this was cancelled goes on."""
        await finish(self.start)

    def execute(
        self,
        process: Process | Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        ignore_paused: bool = False,
    ) -> Running:
        """Starts a further process in it.

        Args:
            process: in full, or arguments alone: then all else is as of the container's own process.
            stdin, stdout, stderr: a descriptor, PIPE, NOTHING; None is this program's own.
            ignore_paused: as running.execute.

        Raises:
            StartError: an operation failed.
            WrongStatusError, NoSuchContainerError, OSError: as running.execute.
        """
        if not isinstance(process, Process):
            own = running.stored_config(self._root, self.id).process or Process("/")
            process = own.replace(args=tuple(process), terminal=False, console_size=None)
        values: dict[str, object] = {"root": self._root, "id": self.id, "ignore_paused": ignore_paused}
        made = self._runtime.maker.ask("execute", values, dump(process, None), (stdin, stdout, stderr))
        self._further.append(made)
        return made

    async def execute_async(self, process: Process | Sequence[str], **options: Unpack[ExecuteOptions]) -> Running:
        """As `execute`; see state_async."""
        return await finish(lambda: self.execute(process, **options), self._withdraw)

    def _withdraw(self, process: Running) -> None:
        process.kill(_SIGKILL)
        process.wait()
        process.close()
        self._further.remove(process)

    exec = execute
    exec_async = execute_async

    def verify(self) -> tuple[Finding, ...]:
        """What of it is not as its configuration asks; errors as attesting.verify_container."""
        from kernelproof.impl.libcontainer.attesting import verify_container  # measured: only who asks pays for it

        with open_directory(self._root, self.id) as directory:
            return verify_container(directory)

    async def verify_async(self) -> tuple[Finding, ...]:
        """As `verify`; see state_async."""
        return await finish(self.verify)

    def events(self, timeout_seconds: float | None = None) -> Happenings:
        """What happens to it until it has ended, for `for` and for `async for`; errors as events.watch."""
        from kernelproof.impl.libcontainer.events import watch  # measured: only who asks pays for it

        with open_directory(self._root, self.id) as directory:
            state = directory.read_state()
        return watch(state, timeout_seconds)

    def stats(self) -> Stats:
        """What its cgroup has measured.

        Raises:
            WrongStatusError: it has no cgroup.
        """
        with open_directory(self._root, self.id) as directory:
            state = directory.read_state()
        cgroup = find_cgroup(state.cgroup) if state.cgroup else None
        if cgroup is None:
            raise WrongStatusError(f"container {self.id!r} has no cgroup, by which it could be measured")
        with cgroup:
            return cgroup.read_stats()

    async def stats_async(self) -> Stats:
        """As `stats`; see state_async."""
        return await finish(self.stats)

    def kill(self, number: int = _SIGTERM, *, everything: bool = False) -> None:
        """Sends a signal to it; errors as lifecycle.kill."""
        lifecycle.kill(self._root, self.id, number, everything=everything)

    async def kill_async(self, number: int = _SIGTERM, *, everything: bool = False) -> None:
        """As `kill`; see state_async."""
        await finish(lambda: self.kill(number, everything=everything))

    def pause(self) -> None:
        """Freezes it; errors as lifecycle.pause."""
        lifecycle.pause(self._root, self.id)

    async def pause_async(self) -> None:
        """As `pause`; see state_async."""
        await finish(self.pause)

    def resume(self) -> None:
        """Lets it go on; errors as lifecycle.resume."""
        lifecycle.resume(self._root, self.id)

    async def resume_async(self) -> None:
        """As `resume`; see state_async."""
        await finish(self.resume)

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Waits for the end of its first process; errors as Running.wait.

        Raises:
            LookupError: another program made it.
        """
        return self._first().wait(timeout_seconds)

    async def wait_async(self) -> int:
        """As `wait`, without keeping the event loop; a cancelled wait leaves nothing behind."""
        return await self._first().wait_async()

    def _first(self) -> Running:
        if self.process is None:
            raise LookupError(f"container {self.id!r} was made by another program, which waits for it")
        return self.process

    def delete(self, *, force: bool = False) -> None:
        """Removes it with all that was made for it; errors as lifecycle.delete."""
        lifecycle.delete(self._root, self.id, force=force, tell=_warn, attend=self._attend)
        for process in self._further:  # of one that had ended by itself
            if process.pidfd >= 0 and process.exit_status is None:
                with suppress(TimeoutError):  # it shares our PID namespace, and had no cgroup to be ended by
                    process.wait(0)
            process.close()
        if self.process is not None:
            if self.process.exit_status is None:
                self.process.wait()
            self.process.close()
        if self._owned is not None:
            self._owned.close()

    async def delete_async(self, *, force: bool = False) -> None:
        """As `delete`; see state_async."""
        await finish(lambda: self.delete(force=force))

    def _attend(self) -> None:
        # The first process of a PID namespace ends when all others have, and were waited for by their parent.
        for process in self._further:
            if process.pidfd >= 0 and process.exit_status is None:
                process.kill(_SIGKILL)  # it may share our PID namespace, and have no cgroup to be ended by
                process.wait()
            process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.delete(force=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.delete_async(force=True)


def _discard(container: Container) -> None:
    container.delete(force=True)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


class Runtime:
    """Makes containers, by helper processes that it keeps warm.

    Args:
        root: directory of all states; by default as the command line has it.
        keep: how many helpers are kept when nobody needs them.
        sealed: whether helpers run from a copy of the interpreter that no container can overwrite.

    Attributes:
        root: as above.
        maker: what it makes processes by.
    """

    __slots__ = ("maker", "root")

    def __init__(self, root: str | os.PathLike[str] = "", *, keep: int = 2, sealed: bool = True) -> None:
        self.root = os.fspath(root) or default_root()
        self.maker = Maker(self.root, Helpers(keep, sealed=sealed))

    def warm(self, count: int = 1) -> None:
        """Spawns helpers before they are needed.

        Raises:
            OSError: they can't be spawned.
        """
        self.maker.warm(count)

    def create(
        self,
        identifier: str,
        config: Config,
        *,
        bundle: str | os.PathLike[str] = "/",
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        console_socket: str = "",
    ) -> Container:
        """Makes a container; its program begins with `start`.

        Args:
            identifier: its name.
            config: what it is; paths in it count from the bundle.
            bundle: the directory of the bundle.
            stdin, stdout, stderr: a descriptor, PIPE, NOTHING; None is this program's own.
            console_socket: path of the socket that gets its terminal's master; else that is `process.master`.

        Raises:
            ContainerExistsError, InvalidIdError: the name is taken, or can't be one.
            StartError: an operation failed; everything is as before.
            ValueError: the configuration is wrong.
            OSError: the state can't be written; a helper can't be spawned.
        """
        streams = (stdin, stdout, stderr)
        process = self.maker.create(identifier, config, os.path.abspath(bundle), console_socket, streams)
        return Container(self, identifier, process)

    def prepare(
        self, config: Config, *, bundle: str | os.PathLike[str] = "/", count: int = 1, **streams: Unpack[StreamOptions]
    ) -> None:
        """Keeps containers ready, of which `create` takes one if it is asked for the same; another is made meanwhile.

        Until then they are called ready-…, as their cgroups and keyrings go on to be, and hold their roots and streams.

        Args:
            config, bundle, streams: as for `create`.
            count: how many; 0 to have none any more.

        Raises:
            ValueError: it can't be made before it has a name: a hook, a terminal, a network, a cgroup of its own …
            StartError, OSError: as `create`; none is ready then.
        """
        wanted = (streams.get("stdin"), streams.get("stdout"), streams.get("stderr"))
        self.maker.prepare(config, os.path.abspath(bundle), count, wanted)

    async def prepare_async(self, config: Config, **options: Unpack[PrepareOptions]) -> None:
        """As `prepare`; see Container.state_async."""
        await finish(lambda: self.prepare(config, **options))

    async def create_async(self, identifier: str, config: Config, **options: Unpack[CreateOptions]) -> Container:
        """As `create`; see Container.state_async."""
        return await finish(lambda: self.create(identifier, config, **options), _discard)

    def find(self, identifier: str) -> Container:
        """A container by its name, whoever made it.

        Raises:
            NoSuchContainerError: there is none.
        """
        lifecycle.read_state(self.root, identifier)
        return Container(self, identifier)

    def list(self) -> Iterator[dict[str, object]]:
        """The states of all containers; one that is deleted meanwhile, or whose making was cut off, is left out."""
        for identifier in list_ids(self.root):
            with suppress(NoSuchContainerError, ValueError):
                yield lifecycle.read_state(self.root, identifier)

    def close(self) -> None:
        """Ends the helpers; containers go on, but for those that were kept ready and were not taken."""
        self.maker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await finish(self.close)
