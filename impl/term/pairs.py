"""Pseudoterminal pairs: a master for who plays the terminal, a peer for the program that uses it.

    with PseudoterminalPair.open(WindowSize(24, 80)) as pair, pair.spawn(["sh"]) as process:
        os.write(pair.master, b"echo $COLUMNS; exit\\n")
        process.wait()

The peer is opened by the master's descriptor, not by a path: a path in /dev/pts may belong to another mount namespace,
or be put there by somebody else.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from kernelproof.impl.term import linux
from kernelproof.impl.term.calls import IS_LINUX
from kernelproof.impl.term.process import Process, above_standard, spawn_on
from kernelproof.impl.term.window import WindowSize, read_window_size, set_window_size

if TYPE_CHECKING:
    from typing import Self

_PIN = getattr(os, "O_PATH", os.O_RDONLY)
_GONE = (errno.EIO, errno.EBADF, errno.ENXIO)


class PseudoterminalPair:
    """A pair. Its methods may be called from several threads, and after `close`.

    Args:
        master: descriptor of a master whose peer can be opened; it is the pair's from now on.
        peer: a descriptor of the peer, where the system cannot open it from the master; likewise.
    """

    def __init__(self, master: int, peer: int | None = None) -> None:
        self._lock = threading.Lock()
        self._master: int | None = master
        self._peer = peer

    @classmethod
    def open(cls, size: WindowSize | None = None, *, devpts: int | str | os.PathLike[str] | None = None) -> Self:
        """Make a pair.

        Args:
            size: its window size from the beginning; None leaves 0 by 0, which is unknown.
            devpts: on Linux, a directory (as a path or a descriptor) with a devpts mounted on it, say of a container;
                None is the system's.

        Raises:
            OSError: ENOSPC no pseudoterminal is left; ENOENT no multiplexer; EACCES.
            NotPseudoterminalError: the multiplexer there is something else.
            ValueError: a size over 65535.
            NotImplementedError: devpts on another system than Linux, or a machine with other numbers of ioctls.

        Source: ptmx(4); TIOCGPTPEER(2const).
        """
        pair = cls(*_open(devpts))
        try:
            if size is not None:
                set_window_size(pair.master, size)
        except BaseException:
            pair.close()
            raise
        return pair

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def master(self) -> int:
        """The master's descriptor, which the pair closes.

        Raises:
            ValueError: the pair is closed.
        """
        if self._master is None:
            raise ValueError("the pair is closed")
        return self._master

    def peer(self, flags: int = os.O_RDWR | os.O_NOCTTY) -> int:
        """Open the peer and return the descriptor, close-on-exec, which the caller closes.

        Args:
            flags: for open(2). Without O_NOCTTY it may become the controlling terminal of a caller that has none.

        Raises:
            OSError: EIO the peer is locked.
            NotPseudoterminalError: what was opened is not this pair's peer.
            ValueError: the pair is closed.
        """
        if IS_LINUX:
            return linux.open_peer(self.master, flags)
        return os.dup(self._own_peer())

    @property
    def name(self) -> str:
        """The peer's path in its own devpts, as a program on it sees it: /dev/pts/N."""
        if IS_LINUX:
            return f"/dev/pts/{linux.pseudoterminal_number(self.master)}"
        return os.ttyname(self._own_peer())

    def _own_peer(self) -> int:
        if self._peer is None:
            raise ValueError("the pair is closed")
        return self._peer

    @property
    def size(self) -> WindowSize:
        """The window size. Raises as read_window_size."""
        return read_window_size(self.master)

    def resize(self, size: WindowSize) -> bool:
        """Set the window size, and return whether there was still a terminal to take it.

        A pair that is closed, or hung up, takes none, and that is no error: a resize and the end may cross.

        Raises:
            ValueError: a size over 65535.
        """
        with self._lock:
            if self._master is None:
                return False
            try:
                set_window_size(self._master, size)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return False
            return True

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start a program with the peer as its controlling terminal, input and output; as spawn_on.

        It leads a session and the foreground group, and has no other descriptors than it is given.

        Raises:
            OSError, NotPseudoterminalError, ValueError, NotImplementedError: as peer and spawn_on.
        """
        if not IS_LINUX:
            return spawn_on(self.name, argv, env=env, cwd=cwd, stderr=stderr, pass_fds=pass_fds)
        opened = self.peer()
        try:
            with above_standard(opened) as peer:
                # The child's own copy of the descriptor: not a path that somebody could have put something else at.
                path = f"/proc/self/fd/{peer}"
                path = path if os.path.exists(path) else self.name
                return spawn_on(path, argv, env=env, cwd=cwd, stderr=stderr, pass_fds=pass_fds)
        finally:
            os.close(opened)

    def close(self) -> None:
        """Close the master: the peer's session is hung up. A second time does nothing."""
        with self._lock:
            for fd in (self._master, self._peer):
                if fd is not None:
                    os.close(fd)
            self._master = self._peer = None


open_pair = PseudoterminalPair.open


def _open(devpts: int | str | os.PathLike[str] | None) -> tuple[int, int | None]:
    if IS_LINUX:
        linux.check_machine()
        master = _open_multiplexer(devpts)
        try:
            linux.check_multiplexer(master)
            if devpts is not None:
                linux.check_on_devpts(master)
            linux.unlock(master)
        except BaseException:
            os.close(master)
            raise
        return master, None
    if devpts is not None:
        raise NotImplementedError("only Linux has instances of devpts")
    return os.openpty()


def _open_multiplexer(devpts: int | str | os.PathLike[str] | None) -> int:
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    if devpts is None:
        return os.open("/dev/ptmx", flags)
    directory = devpts if isinstance(devpts, int) else os.open(devpts, _PIN | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Looked at before it is opened: opening a device of somebody else may do anything.
        looked_at = os.open("ptmx", _PIN | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            linux.check_multiplexer(looked_at)
            linux.check_on_devpts(looked_at)
        finally:
            os.close(looked_at)
        return os.open("ptmx", flags | os.O_NOFOLLOW, dir_fd=directory)
    finally:
        if not isinstance(devpts, int):
            os.close(directory)


def give_console(fd: int, uid: int, gid: int | None = None) -> None:
    """Give a terminal to a user, as its console; the group stays, unless one is given.

    A group that the user namespace does not map makes the kernel refuse the whole change, so it is left alone then.

    Raises:
        OSError: EPERM without CAP_CHOWN; EINVAL the uid is not mapped; EROFS.
        ValueError: the descriptor is no terminal.
    """
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode):
        raise ValueError(f"descriptor {fd} is no terminal")
    if found.st_uid != uid or gid not in (None, found.st_gid):
        os.fchown(fd, uid, -1 if gid is None or gid == found.st_gid else gid)
