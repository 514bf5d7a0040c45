"""A small process with one thread that makes containers for a program with many: warm, asked again and again.

The program never forks: it spawns this one (posix_spawn copies no memory and runs none of its code in the child), and
sends requests over a socket. What is made here becomes a child of the program, not of this process, which can go at any
time.

A request is a message `create` or `execute`; its first descriptor is a file with the configuration or the process, the
others are the program's standard streams. The answer is `made` with the pid, and as descriptors a pidfd and perhaps the
master of a terminal; or `failed`. Either names processes that the program is to wait for.

With `ready` a container is made for somebody who has no name for it yet (see `ready`), so many milliseconds later, or
when there is another message; `now` is one for that alone. What still has the name that it was made by when the program
ends is removed.

This is not a daemon: it ends with its socket.
"""

from __future__ import annotations

import gc
import os
import select
import sys

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer import lifecycle, running
from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.config.reading import load_process, parse_config
from kernelproof.impl.libcontainer.operations import Site, StartError
from kernelproof.impl.libcontainer.plan import Request
from kernelproof.impl.libcontainer.process.channel import Channel, Message, channel_of
from kernelproof.impl.libcontainer.process.streams import STREAMS
from kernelproof.impl.libcontainer.process.walking import FAILURES
from kernelproof.impl.libcontainer.state import ContainerError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from functools import lru_cache

    from kernelproof.impl.libcontainer.config.records import Config
else:
    from kernelproof.impl._syscalls.unwinding import lru_cache

_MOST_BYTES = 1 << 25


class _Sites:
    """The site of the request at hand, for what is to be told also when it fails."""

    __slots__ = ("descriptors", "is_taken", "site")

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self.is_taken = False  # whether the site closes the descriptors
        self.site: Site | None = None
        self.descriptors = descriptors

    def prepare(self, site: Site) -> None:
        self.site = site
        site.found["sibling"] = True
        self.is_taken = True
        for name, fd in zip(STREAMS, self.descriptors, strict=False):
            site.descriptors[name] = fd

    def to_wait_for(self, *, failed: bool) -> list[int]:
        if self.site is None:
            return []
        helpers = self.site.found.get("helpers", ())
        assert isinstance(helpers, tuple)
        pid = self.site.found.get("pid")
        return [*helpers, *([pid] if failed and isinstance(pid, int) else [])]


def main(fd: int, search: str) -> None:
    """Serves requests from a socket until it ends.

    Args:
        fd: the socket.
        search: where packages are; what was imported by now is all that is.
    """
    channel = channel_of(fd)
    gc.collect()
    gc.freeze()  # what is loaded stays; a child must not copy its pages to look at it
    channel.send(0, "ready", {"pid": os.getpid(), "search": search, "modules": len(sys.modules)})
    kept: list[tuple[str, str]] = []
    with suppress(BrokenPipeError, ConnectionResetError):
        while (request := channel.receive()) is not None:
            if request.kind != "now":
                _serve(channel, request, kept)
    _remove(kept)
    os._exit(0)


def _remove(kept: list[tuple[str, str]]) -> None:
    for root, identifier in kept:
        try:
            lifecycle.delete(root, identifier, force=True)
        except (*FAILURES, ContainerError) as error:
            print(f"container {identifier!r} is left behind: {error}", file=sys.stderr)


def _serve(channel: Channel, request: Message, kept: list[tuple[str, str]]) -> None:
    sites = _Sites(request.descriptors[1:])
    pause = request.values.get("ready")
    if isinstance(pause, int):
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.poll(pause)
    try:
        started = _create(request, sites) if request.kind == "create" else _execute(request, sites)
    except (*FAILURES, ContainerError, ConfigError) as error:
        values = {**_told(error), "wait for": sites.to_wait_for(failed=True)}
        channel.send(request.number, "failed", values)
    else:
        if pause is not None:
            kept[:] = [one for one in kept if os.path.exists("/".join(one))]  # of others the names have changed
            kept.append((str(request.values["root"]), str(request.values["id"])))
        descriptors = [fd for fd in (started.pidfd, started.master) if fd >= 0]
        assert started.walk.child is not None
        values = {"pid": started.walk.child.pid, "wait for": sites.to_wait_for(failed=False)}
        values |= {"refused": list(started.refused)} if started.refused else {}
        channel.send(request.number, "made", values, descriptors)
        for fd in descriptors:
            os.close(fd)
    finally:
        for fd in request.descriptors[:1] if sites.is_taken else request.descriptors:
            os.close(fd)


def _create(request: Message, sites: _Sites) -> lifecycle.Started:
    data = os.pread(request.descriptors[0], _MOST_BYTES, 0)
    values = request.values
    asked = Request(
        str(values["id"]),
        str(values["bundle"]),
        console_socket=str(values.get("console_socket", "")),
        streams=len(request.descriptors) > 1,
        no_pivot=bool(values.get("no_pivot")),
        no_new_keyring=bool(values.get("no_new_keyring")),
    )
    config = _parse(data)
    return lifecycle.create(str(values["root"]), config, asked, config_text=data, prepare=sites.prepare)


@lru_cache(maxsize=1)  # many containers of one configuration are usual where helpers are; a Config never changes
def _parse(data: bytes) -> Config:
    return parse_config(data, own=True)


def _execute(request: Message, sites: _Sites) -> lifecycle.Started:
    values = request.values
    return running.execute(
        str(values["root"]),
        str(values["id"]),
        load_process(f"/proc/self/fd/{request.descriptors[0]}"),
        console_socket=str(values.get("console_socket", "")),
        streams=len(request.descriptors) > 1,
        ignore_paused=bool(values.get("ignore_paused")),
        prepare=sites.prepare,
    )


def _told(error: Exception) -> dict[str, object]:
    text = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if isinstance(error, StartError):
        return {"class": "StartError", "text": text, "record": error.as_record()}
    if isinstance(error, OSError) and error.errno:
        return {"class": "OSError", "text": text, "errno": error.errno, "path": str(error.filename or "")}
    return {"class": type(error).__name__, "text": text}
