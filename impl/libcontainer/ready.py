"""Containers that are made before they are asked for, and get their names when they are.

Each was created and waits for its start, as any other does; it is called ready-… until it is taken, and then its state
directory is renamed. So only what does not depend on a name can be made so, and one is taken only if what it was made
of is still the same: the root, the sources of its mounts, the standard streams. What is read in the root, where the
program is and its user's home, is read when it is made.

A helper of its own makes them while the program goes on, and removes at the program's end, however that ends, those
that were not taken. If both are killed at once, they stay as created containers do: listed, deleted by force.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
import time
from collections import deque

from kernelproof.impl._syscalls.renaming import RenameFlag, renameat2
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.children import Running, Streams
from kernelproof.impl.libcontainer.ending import delete
from kernelproof.impl.libcontainer.lifecycle import keep_state
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.operations import StartError
from kernelproof.impl.libcontainer.plan import root_path
from kernelproof.impl.libcontainer.process.channel import ChannelError
from kernelproof.impl.libcontainer.process.helper import Helper, read_answer
from kernelproof.impl.libcontainer.state import (
    READY_PREFIX,
    ContainerError,
    ContainerExistsError,
    StateError,
    check_id,
    open_directory,
    open_root,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Config

    Wanted = tuple[int | None, int | None, int | None]

_KINDS = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "bind", "none"))
_BINDS = frozenset(("bind", "rbind"))
_DEATH_SECONDS = 10.0
# What is made beside a container's start, its end and its removal makes these 7 ms longer by 2.5, on two processors.
_PAUSE_MILLISECONDS = 30


def find_reason(config: Config) -> str:
    """Why containers of a configuration can't be made before they have a name; empty if they can."""
    linux, process = config.linux, config.process
    seccomp = linux.seccomp
    reasons = {
        "it has no process, which could wait": process is None,
        "its terminal belongs to whoever asks for it": process is not None and process.terminal,
        "hooks are told its name": config.hooks is not None,
        "linux.cgroupsPath can be that of one at a time": bool(linux.cgroups_path),
        "namespaces of a path can be others by then": any(one.path for one in linux.namespaces),
        "linux.netDevices can be in one at a time": bool(linux.net_devices),
        "ends of networks have addresses and names of their own": bool(config.networks or config.routes),
        "seccomp.listenerPath is told its name": seccomp is not None and bool(seccomp.listener_path),
        "tmpcopyup copies what is there when it is made": any("tmpcopyup" in one.options for one in config.mounts),
        "what a mount of this type is made of can be something else by then": any(
            (one.type or "none") not in _KINDS for one in config.mounts
        ),
    }
    return "; ".join([text for text, holds in reasons.items() if holds])


def find_places(config: Config, bundle: str) -> tuple[str, ...]:
    """The paths of what a container is made of: its root, the sources of its binds."""
    binds = (one.source for one in config.mounts if one.type == "bind" or not _BINDS.isdisjoint(one.options))
    return root_path(config, bundle), *(os.path.join(bundle, source) for source in binds if source)


class _Places:
    """What a container is made of, to see whether it is the same by then: files, and what is mounted below them.

    Source: proc_pid_mountinfo(5); proc_pid_mounts(5): poll(2) tells of changes.
    """

    __slots__ = ("_file", "_mounts", "_paths", "_poll")

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._mounts: tuple[str, ...] | None = None
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)

    def look(self) -> tuple[object, ...]:
        """What is there, to be compared.

        Raises:
            OSError: ENOENT: a path is gone.
        """
        if self._poll.poll(0) or self._mounts is None:
            self._mounts = self._read_mounts()
        files = [os.stat(path) for path in self._paths]
        return *((one.st_dev, one.st_ino) for one in files), self._mounts

    def _read_mounts(self) -> tuple[str, ...]:
        below = tuple(_escape(os.path.realpath(path)).rstrip("/") + "/" for path in self._paths)
        with open(os.dup(self._file), encoding="utf-8", errors="surrogateescape") as file:
            file.seek(0)
            return tuple(line for line in file if (line.split(" ", 5)[4] + "/").startswith(below))

    def close(self) -> None:
        os.close(self._file)


def _escape(path: str) -> str:
    for mark in "\\ \t\n":  # the backslash first
        path = path.replace(mark, f"\\{ord(mark):03o}")
    return path


class _Given:
    """The standard streams that a container was made with, to see whether they are the same by then."""

    __slots__ = ("_kept",)

    def __init__(self, wanted: Wanted) -> None:
        # A number can be another file's by then; our own copy keeps the file, so that no other can look like it.
        self._kept: list[tuple[int, int]] = []
        try:
            for place, fd in enumerate(wanted):
                number = place if fd is None else fd
                if number >= 0:
                    self._kept.append((number, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)))
        except OSError:
            self.close()
            raise

    def are_same(self) -> bool:
        try:
            return all(_describe(number) == _describe(copy) for number, copy in self._kept)
        except OSError:
            return False

    def close(self) -> None:
        while self._kept:
            os.close(self._kept.pop()[1])


def _describe(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    place = os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(found.st_mode) else 0
    return found.st_dev, found.st_ino, found.st_rdev, fcntl.fcntl(fd, fcntl.F_GETFL), place


class _Ready:
    """One container: ordered at first, then made, with the process that waits in it."""

    __slots__ = ("given", "name", "process", "seen", "streams")

    def __init__(self, name: str, seen: tuple[object, ...], given: _Given, streams: Streams) -> None:
        self.name = name
        self.seen = seen
        self.given = given
        self.streams = streams
        self.process: Running | None = None

    def close(self) -> None:
        """Gives back what is not the process's."""
        self.given.close()
        self.streams.close(ours=self.process is None)


class Pool:
    """Ready containers of one configuration.

    Args:
        root: directory of all states.
        helper: makes them, and is this pool's from here on.
        config: what they are, and `text`, the same as JSON.
        bundle: absolute path.
        wanted: the standard streams, as Runtime.create takes them.
    """

    __slots__ = (
        "_file",
        "_helper",
        "_lock",
        "_ordered",
        "_places",
        "_ready",
        "_root",
        "bundle",
        "config",
        "count",
        "wanted",
    )

    def __init__(self, root: str, helper: Helper, config: Config, text: str, bundle: str, wanted: Wanted) -> None:
        self.config = config
        self.bundle = bundle
        self.wanted = wanted
        self.count = 0
        self._root = root
        self._helper = helper
        self._places = _Places(find_places(config, bundle))
        self._ordered: deque[_Ready] = deque()
        self._ready: deque[_Ready] = deque()
        self._lock = threading.Lock()
        self._file = os.memfd_create("configuration", os.MFD_CLOEXEC)
        os.write(self._file, text.encode())

    def is_for(self, config: Config, bundle: str, wanted: Wanted) -> bool:
        """Whether what it has is what is asked for, but for the name."""
        is_same = config is self.config or config == self.config
        return is_same and bundle == self.bundle and wanted == self.wanted

    def keep(self, count: int) -> None:
        """Has so many ready, and waits until they are.

        Raises:
            StartError, ContainerError, OSError: one could not be made; none is ready then.
        """
        with self._lock:
            self.count = count
            try:
                self._order()
                while self._ordered:
                    self._collect()
                while len(self._ready) > count:
                    self._discard(self._ready.pop())
            except BaseException:
                self.count = 0
                self._discard_all()
                raise

    def _order(self) -> None:
        while len(self._ready) + len(self._ordered) < self.count:
            name = f"{READY_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
            seen = self._places.look()  # before it is made: what changes meanwhile is noticed
            given = _Given(self.wanted)
            try:
                streams = Streams(self.wanted)
            except OSError:
                given.close()
                raise
            one = _Ready(name, seen, given, streams)
            try:
                self._send(one)
            except BaseException:
                one.close()
                raise
            self._ordered.append(one)

    def _send(self, one: _Ready) -> None:
        values: dict[str, object] = {
            "root": self._root,
            "id": one.name,
            "bundle": self.bundle,
            "ready": _PAUSE_MILLISECONDS,
        }
        self._helper.send("create", values, [self._file, *one.streams.given])

    def _collect(self) -> None:
        one = self._ordered.popleft()
        try:
            self._helper.send("now", {}, ())
            one.process = Running(read_answer(self._helper.receive()), one.streams)
        finally:
            one.streams.close(ours=one.process is None)
            if one.process is None:
                one.given.close()
        self._ready.append(one)

    def take(self, identifier: str) -> Running | None:
        """Gives one its name, and orders another; None: there is none that could be taken.

        Raises:
            ContainerExistsError, InvalidIdError: see state.
        """
        check_id(identifier)
        if not self._lock.acquire(blocking=False):
            return None  # another thread waits for the next one
        try:
            return self._take(identifier)
        finally:
            # What fails here fails again where a container is made in the usual way, and is told there.
            with suppress(OSError, StartError):
                self._order()
            self._lock.release()

    def _take(self, identifier: str) -> Running | None:
        while self._ready or self._ordered:
            if not self._ready:
                try:
                    self._collect()
                except (OSError, ValueError, ContainerError, ChannelError, StartError):  # as for orders
                    return None
            one = self._ready[0]
            if self._is_as_it_was(one):
                try:
                    self._rename(one, identifier)
                except (StateError, LookupError, OSError):
                    pass  # somebody has deleted it
                else:
                    self._ready.popleft()
                    one.given.close()
                    return one.process
            self._discard(self._ready.popleft())
        return None

    def _is_as_it_was(self, one: _Ready) -> bool:
        assert one.process is not None
        try:
            return not _has_ended(one.process) and one.given.are_same() and one.seen == self._places.look()
        except OSError:
            return False

    def _rename(self, one: _Ready, identifier: str) -> None:
        with open_directory(self._root, one.name) as directory, StateLock(directory.fd) as lock:
            state = directory.read_state()
            self._rename_directory(one.name, identifier)
            state.id, state.created = identifier, time.time()
            try:
                keep_state(directory, lock, state)
            except OSError:
                self._rename_directory(identifier, one.name)  # and there it is discarded
                raise

    def _rename_directory(self, old: str, new: str) -> None:
        parent = open_root(self._root)
        try:
            renameat2(old, new, RenameFlag.NOREPLACE, old_dir=parent, new_dir=parent)
        except FileExistsError:
            raise ContainerExistsError(f"container {new!r} exists already in {self._root}") from None
        finally:
            os.close(parent)

    def _discard(self, one: _Ready) -> None:
        assert one.process is not None
        delete(self._root, one.name, force=True)
        with suppress(ChildProcessError):  # somebody else in this program has waited for it
            one.process.wait(_DEATH_SECONDS)
        one.process.close()
        one.close()

    def _discard_all(self) -> None:
        while self._ordered:
            with suppress(
                OSError, ValueError, ContainerError, ChannelError, StartError
            ):  # what was ordered and could not be made is not there either
                self._collect()
        while self._ready:
            self._discard(self._ready.popleft())

    def close(self) -> None:
        """Removes all that were not taken, and ends the helper."""
        with self._lock:
            self.count = 0
            try:
                self._discard_all()
            finally:
                os.close(self._file)
                self._places.close()
                self._helper.close()


def _has_ended(process: Running) -> bool:
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    return bool(poll.poll(0))
