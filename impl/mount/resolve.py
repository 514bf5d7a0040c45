"""Paths that stay inside a root: opened, made and mounted on, whatever somebody renames meanwhile.

    with Root("/var/lib/rootfs") as root:
        mount_in_root(root, "proc", "/proc", "proc", "nosuid,noexec,nodev")

A check of a path followed by the use of that path is two look-ups, and between them a symbolic link or a rename can
lead the second one out. Here each step is done on a descriptor from a walk that the kernel keeps inside: openat2 with
RESOLVE_IN_ROOT, or a walk in steps over O_PATH descriptors where it is missing. Absolute links and `..` lead to the
root, as after chroot(2); links of procfs that jump anywhere are never followed.

What this is not for: a root that may be moved below another one by somebody else; open it, and keep it open.
"""

from __future__ import annotations

import os
import stat
import time
from errno import EAGAIN, EEXIST, EINVAL, ELOOP, ENOENT, ENOSYS, EPERM

from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.walk import MOST_LINKS, check_in_root, path_in_root, walk_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import contextmanager
    from types import TracebackType
    from typing import Self

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.unwinding import contextmanager

IN_ROOT = ResolveFlag.IN_ROOT | ResolveFlag.NO_MAGICLINKS
_TRIES = 128  # of a look-up with ".." that a rename raced with: 32 were measured to fail in 3 of 100 under attack
_ABSENT = (ENOSYS, EPERM)  # EPERM: a seccomp filter that knows no better


class Root:
    """A directory that nothing leads out of; a context manager.

    Attributes:
        fd: the directory, open with O_PATH.
        emulate: never use openat2.
    """

    __slots__ = ("_owned", "emulate", "fd")

    def __init__(self, root: Path | int, *, emulate: bool = False) -> None:
        """Open the root.

        Args:
            root: a path, links in it followed, or an open directory, which stays the caller's.
            emulate: walk in steps even where the kernel has openat2.

        Raises:
            OSError: ENOENT, ENOTDIR, EACCES.
        """
        self._owned = not isinstance(root, int)
        self.emulate = emulate
        self.fd = root if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(
        self,
        path: Path,
        flags: int = os.O_PATH,
        *,
        mode: int = 0,
        follow: bool = True,
        cross_mounts: bool = True,
        deadline: float | None = None,
    ) -> int:
        """Open a path inside the root and return the descriptor, which the caller closes.

        Args:
            path: absolute or relative; both begin at the root.
            flags: as for os.open; O_CLOEXEC is added.
            mode: of a file that is created.
            follow: the last component if it is a link.
            cross_mounts: False refuses a path that crosses a mount point.
            deadline: of time.monotonic(), until which a look-up that somebody races with is repeated beyond 128 times.

        Raises:
            OSError: EAGAIN somebody raced all the time; ELOOP too many links, or a magic one; EXDEV crossed a mount
                under cross_mounts=False; ENOENT, ENOTDIR, EACCES.

        Source: openat2(2), RESOLVE_IN_ROOT and ERRORS EAGAIN.
        """
        flags |= 0 if follow else os.O_NOFOLLOW
        resolve = IN_ROOT | (ResolveFlag(0) if cross_mounts else ResolveFlag.NO_XDEV)
        if not self.emulate:
            try:
                return _openat2_again(self.fd, path, flags, mode, resolve, deadline)
            except OSError as error:
                # Success is not remembered: a filter that is set later may forbid what was allowed.
                if error.errno not in _ABSENT or _is_openat2_there(self.fd):
                    raise
        return walk_in_root(self.fd, os.fspath(path), flags, mode, cross_mounts=cross_mounts)

    def resolve(self, path: Path) -> str:
        """Return what a path leads to, absolute inside the root; it may lead elsewhere a moment later.

        Raises:
            OSError: as open; UnsafePathError: what it led to is outside by now.
        """
        fd = self.open(path)
        try:
            return path_in_root(self.fd, fd)
        finally:
            os.close(fd)

    def readlink(self, path: Path) -> str:
        """Return the text of a symbolic link.

        Raises:
            OSError: EINVAL no link; as open.
        """
        fd = self.open(path, follow=False)
        try:
            return os.readlink("", dir_fd=fd)
        except FileNotFoundError:  # the kernel's answer for an empty path and a descriptor that is no link
            raise OSError(EINVAL, os.strerror(EINVAL), os.fspath(path)) from None
        finally:
            os.close(fd)

    def make_directories(self, path: Path, mode: int = 0o755) -> int:
        """Make a directory and those above it, as far as they are missing, and return its descriptor.

        Raises:
            OSError: as mkdir_in_root.
        """
        return mkdir_in_root(self, path, mode)

    def create(self, path: Path, mode: int = 0o644) -> int:
        """Create a regular file, in a directory that exists, and return its descriptor, open for writing.

        Raises:
            OSError: EEXIST something is there, be it a link; as open.
        """
        parent, name = _split(path)
        directory = self.open(parent, os.O_PATH | os.O_DIRECTORY)
        try:
            return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Close the root, unless it is the caller's."""
        if self._owned:
            os.close(self.fd)
            self._owned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _openat2_again(root: int, path: Path, flags: int, mode: int, resolve: ResolveFlag, deadline: float | None) -> int:
    creating = flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY)
    tries = 0
    while True:
        tries += 1
        try:
            return openat2(root, os.fspath(path) or ".", flags, mode=mode if creating else 0, resolve=resolve)
        except OSError as error:
            if error.errno != EAGAIN:
                raise
            if tries >= _TRIES and (deadline is None or time.monotonic() >= deadline):
                error.add_note(f"a rename or mount raced with each of {tries} look-ups")
                raise


def _is_openat2_there(root: int) -> bool:
    """Whether EPERM came from the path and not from a kernel, or a filter, without openat2."""
    try:
        os.close(openat2(root, ".", os.O_PATH))
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def mkdir_in_root(root: Root | int, path: Path, mode: int = 0o755) -> int:
    """Make a directory inside a root, and those above it as far as they are missing; return its descriptor.

    Somebody who makes the same directory at the same moment is no error; something else in its place is.

    Args:
        root: or an open directory.
        path: absolute or relative; both begin at the root. A link in it is followed inside the root, also one at its
            end; where a link leads nowhere, what it names is made inside the root.
        mode: of what is made; the umask applies.

    Raises:
        OSError: ENOTDIR something that is no directory; ENOENT a `..` after what does not exist; EACCES; EROFS;
            ELOOP; EAGAIN.
    """
    with borrow_root(root) as inside:
        fd, missing = _open_what_is_there(inside, path, os.O_PATH | os.O_DIRECTORY)
        return check_in_root(inside.fd, _make_below(fd, missing, mode))


def create_mount_point_in_root(root: Root | int, path: Path, *, is_directory: bool = True, mode: int = 0o755) -> int:
    """Make what is to be mounted on, if it is missing: a directory or an empty file; return its descriptor (O_PATH).

    Args:
        root, path: as for mkdir_in_root.
        is_directory: False makes a regular file.
        mode: of a directory that is made; a file gets it without its execute bits.

    Raises:
        OSError: EISDIR or ENOTDIR something of the other kind is there; as mkdir_in_root.
    """
    if is_directory:
        return mkdir_in_root(root, path, mode)
    with borrow_root(root) as inside:
        found, missing = _open_what_is_there(inside, path, os.O_PATH)
        if missing:
            directory = _make_below(found, missing[1:], mode)
            try:
                with suppress(FileExistsError):
                    created = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                    os.close(os.open(missing[0], created, mode & 0o666, dir_fd=directory))
                found = os.open(missing[0], os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            finally:
                os.close(directory)
        return check_in_root(inside.fd, _of_kind(found, path))


def _open_what_is_there(inside: Root, path: Path, flags: int) -> tuple[int, list[str]]:
    """Return a descriptor of the deepest part of a path that exists, and the names that are missing, the last first.

    The text of a link that leads nowhere is put in its place, and the look-up begins again at the root.
    """
    parts = _names(os.fspath(path))
    missing: list[str] = []
    links = 0
    while True:
        try:
            fd = inside.open("/".join(parts), flags)
        except FileNotFoundError:
            missing.append(parts.pop())
            continue
        try:
            text = _read_link(fd, missing[-1]) if missing else None
            links += text is not None
            if links > MOST_LINKS:
                raise OSError(ELOOP, os.strerror(ELOOP), os.fspath(path))
            if text is None and ".." in missing:
                raise FileNotFoundError(ENOENT, "`..` after a directory that does not exist", os.fspath(path))
        except BaseException:
            os.close(fd)
            raise
        if text is None:
            return fd, missing
        os.close(fd)
        missing.pop()
        parts = [*([] if text.startswith("/") else parts), *_names(text), *reversed(missing)]
        missing.clear()


def _names(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _read_link(directory: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (EINVAL, ENOENT):
            raise
        return None  # no link, or nothing


def _make_below(fd: int, missing: list[str], mode: int) -> int:
    """Make directories in one that is open, the last of the list first, and return the innermost; `fd` is closed."""
    for name in reversed(missing):
        try:
            with suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=fd)
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _of_kind(fd: int, path: Path) -> int:
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind) or stat.S_ISLNK(kind):
        os.close(fd)
        what = "a directory" if stat.S_ISDIR(kind) else "a link"
        raise UnsafePathError(EEXIST, f"{what} is in the place of the file to mount on", os.fspath(path))
    return fd


def _split(path: Path) -> tuple[str, str]:
    parent, _, name = os.fspath(path).rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(EINVAL, "the last component is no name", os.fspath(path))
    return parent or "/", name


@contextmanager
def borrow_root(root: Root | int) -> Iterator[Root]:
    """A Root as it is, or one around the caller's descriptor."""
    yield root if isinstance(root, Root) else Root(root)
