"""A mount namespace of the calling thread's own, for a while.

    with Namespace():
        mount("x", "/mnt", "tmpfs", "")
        ...
    # here nothing of it is left

Only the calling thread moves: others see none of its mounts. Its working directory and umask are its own from then on,
for good: threads share them until one of them enters a mount namespace.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import PROPAGATION_WORDS
from kernelproof.impl.mount.table import Path

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Namespace:
    """A mount namespace that is entered by `with` and left at its end.

    Attributes:
        fd: of the namespace, while inside; -1 else.
    """

    def __init__(self, existing: Path | int | None = None, *, propagation: str = "rprivate") -> None:
        """Say which namespace.

        Args:
            existing: a path such as /proc/PID/ns/mnt, or a descriptor; None makes a copy of the present one.
            propagation: of all mounts in a copy: "rprivate", "rslave" (the outside's mounts come in), or "" to leave
                them as they are (mounts in it can then reach the outside).

        Raises:
            OptionError: an unknown type of propagation.
        """
        if propagation and propagation not in PROPAGATION_WORDS:
            raise OptionError(f"no type of propagation: {propagation!r}")
        self._existing = existing
        self._propagation = propagation
        self._back: ExitStack | None = None
        self.fd = -1

    def __enter__(self) -> Self:
        """Enter it.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN; ENOENT no such namespace; ENOSPC the limit on namespaces; EINVAL the
                descriptor is of no mount namespace.
            RuntimeError: it is entered already.

        Source: unshare(2); setns(2); mount_namespaces(7).
        """
        if self._back is not None:
            raise RuntimeError("this Namespace is entered already")
        with ExitStack() as back:
            # Undone in the reverse order: the namespace first, then its root, then the directory in it.
            kept = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (".", "/")]
            home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            for fd in (*kept, home):
                back.callback(os.close, fd)
            if self._existing is None:
                unshare(CloneFlag.FS | CloneFlag.NEWNS)
            else:
                unshare(CloneFlag.FS)
                self._join(self._existing)
            back.callback(_return, home, *kept)
            if self._existing is None and self._propagation:
                mount(None, "/", None, PROPAGATION_WORDS[self._propagation])
            self.fd = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            back.callback(self._close)
            self._back = back.pop_all()
        return self

    @staticmethod
    def _join(existing: Path | int) -> None:
        fd = existing if isinstance(existing, int) else os.open(existing, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CloneFlag.NEWNS)
        finally:
            if fd is not existing:
                os.close(fd)

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """Go back to the namespace, root and working directory of before.

        Raises:
            OSError: EPERM the right to do so was given up inside.
        """
        back, self._back = self._back, None
        if back is not None:
            back.close()


def _return(home: int, directory: int, root: int) -> None:
    setns(home, CloneFlag.NEWNS)
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(directory)
