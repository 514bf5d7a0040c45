"""The directory of one cgroup in one hierarchy, held by a descriptor: its files, its children, its processes.

A descriptor is what makes it safe: a name is looked up once, below the hierarchy's root, without links and without
leaving the filesystem, and a cgroup that was removed and made anew by someone else is not taken for the old one.
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.filesystem import filesystem_type
from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.formats import parse_numbers, parse_words
from kernelproof.impl.cgroups.layout import Hierarchy
from kernelproof.impl.cgroups.remedies import remedy_of

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from functools import lru_cache
    from types import TracebackType
    from typing import Self, TypeAlias
else:
    from kernelproof.impl._syscalls.unwinding import lru_cache

Path: TypeAlias = "str | os.PathLike[str]"

CGROUP2_MAGIC = 0x63677270  # linux/magic.h
CGROUP1_MAGIC = 0x27E0EB
_READ_BYTES = 65536
_PAGE_BYTES = 4096
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_BENEATH = ResolveFlag.BENEATH | ResolveFlag.NO_SYMLINKS | ResolveFlag.NO_XDEV | ResolveFlag.NO_MAGICLINKS


class Directory:
    """A cgroup's directory. Use it in a `with`, or close it.

    Args:
        fd: its descriptor; owned from here on.
        path: for messages, and for those that only take paths.
        version: 1 or 2.
    """

    __slots__ = ("_fd", "path", "version")

    def __init__(self, fd: int, path: str, version: int) -> None:
        self._fd = fd
        self.path = path
        self.version = version

    @classmethod
    def open(cls, hierarchy: Hierarchy, name: Path = "/") -> Directory:
        """Open a cgroup of a hierarchy.

        Args:
            hierarchy: where.
            name: path from the hierarchy's mount point; a leading slash means nothing.

        Raises:
            LimitError: a name with `..`, or an empty component.
            OSError: ENOENT: there is no such cgroup; EACCES; ELOOP, EXDEV: links and mounts are not followed.
            NoControllerError: what is mounted there is not a cgroup filesystem.
        """
        top = os.open(hierarchy.mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = cls(top, hierarchy.mount_point, hierarchy.version)
        try:
            if filesystem_type(top) != (CGROUP2_MAGIC if hierarchy.version == 2 else CGROUP1_MAGIC):
                raise NoControllerError(
                    f"{hierarchy.mount_point} is no cgroup filesystem of version {hierarchy.version}"
                )
            parts = split_name(name)
            below = found.child("/".join(parts)) if parts else found
        except BaseException:
            found.close()
            raise
        if below is not found:
            found.close()
        return below

    def fileno(self) -> int:
        """The descriptor, which stays this object's.

        Raises:
            ValueError: it is closed.
        """
        if self._fd < 0:
            raise ValueError(f"the cgroup {self.path} is closed")
        return self._fd

    def duplicate(self) -> Directory:
        """Another object for the same directory, with a descriptor of its own."""
        return Directory(os.dup(self.fileno()), self.path, self.version)

    def child(self, name: Path) -> Directory:
        """Open a cgroup below; errors as `open`."""
        parts = split_name(name)
        relative = "/".join(parts)
        flags = _DIRECTORY_FLAGS
        try:
            fd = openat2(self.fileno(), relative, flags, resolve=_BENEATH)
        except OSError as error:
            # Success is not remembered: a filter that is set later may forbid what was allowed, and may say EPERM.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            fd = self._walk(parts, flags)
        return Directory(fd, os.path.join(self.path, relative), self.version)

    def _walk(self, parts: tuple[str, ...], flags: int) -> int:
        # Without openat2: a cgroup filesystem holds no links, so a step without links at a time is as good.
        fd = os.dup(self.fileno())
        for part in parts:
            try:
                below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def make(self, name: str) -> Directory:
        """Make a cgroup below, one level, and open it.

        Raises:
            LimitError: not one component.
            OSError: EEXIST; EAGAIN, EBUSY: a limit of descendants or depth; EACCES, EROFS; ENAMETOOLONG.

        Source: cgroup-v2.rst, Organizing Processes and Threads.
        """
        part = check_name(name)
        path = f"{self.path}/{part}"
        try:
            os.mkdir(part, 0o755, dir_fd=self.fileno())
            # Of one component, which was made a moment ago, there is nothing to resolve.
            fd = os.open(part, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=self.fileno())
        except OSError as error:
            named = _named(error, path, "mkdir of the cgroup")
            if remedy := remedy_of(error.errno):
                named.add_note(remedy)
            raise named from None
        return Directory(fd, path, self.version)

    def remove_child(self, name: str) -> None:
        """Remove a cgroup below, which has neither children nor processes.

        Raises:
            OSError: EBUSY: it has; ENOENT.
        """
        try:
            os.rmdir(check_name(name), dir_fd=self.fileno())
        except OSError as error:
            raise _named(error, os.path.join(self.path, name), "rmdir of the cgroup") from None

    def open_parent(self) -> Directory:
        """Open the cgroup above; not for the mounted root.

        Raises:
            OSError: EMFILE.
        """
        return Directory(
            os.open("..", _DIRECTORY_FLAGS, dir_fd=self.fileno()), os.path.dirname(self.path), self.version
        )

    def is_named(self, name: str) -> bool:
        """Whether the cgroup above has this one under a name, and no later one of that name."""
        try:
            found = os.stat(f"../{check_name(name)}", dir_fd=self.fileno(), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self.identity()

    def remove_empty(self, name: str) -> bool:
        """Remove what the cgroup above has under a name, with no descriptor of that one.

        Returns:
            Whether nothing is there any more; false: it has children or processes.

        Raises:
            OSError: EACCES, EROFS.
        """
        try:
            os.rmdir(f"../{check_name(name)}", dir_fd=self.fileno())
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise _named(error, os.path.join(os.path.dirname(self.path), name), "rmdir of the cgroup") from None
        return True

    def children(self) -> tuple[str, ...]:
        """Names of the cgroups directly below, sorted.

        Raises:
            OSError: ENODEV, ENOENT: it was removed.
        """
        with os.scandir(self.fileno()) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)))

    def descend(self) -> Iterator[tuple[str, ...]]:
        """Paths, as components, of all cgroups below; each after those that are below itself."""
        for name in self.children():
            try:
                below = self.child(name)
            except FileNotFoundError:
                continue  # removed meanwhile
            with below:
                yield from ((name, *rest) for rest in below.descend())
            yield (name,)

    def files(self) -> tuple[str, ...]:
        """Names of the interface files, sorted."""
        with os.scandir(self.fileno()) as entries:
            return tuple(sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)))

    def read(self, file: str) -> str:
        """Read an interface file.

        Raises:
            LimitError: not the name of a file.
            OSError: ENOENT: no such file; EACCES; ENODEV: the cgroup was removed; EOPNOTSUPP: of a controller that is
                switched off, or of a threaded cgroup.
        """
        try:
            return self._read(check_name(file))
        except OSError as error:
            raise _named(error, os.path.join(self.path, file), "read") from None

    def _read(self, name: str) -> str:
        fd = os.open(name, _READ_FLAGS, dir_fd=self.fileno())
        try:
            chunk = os.read(fd, _READ_BYTES)
            if len(chunk) < _PAGE_BYTES:  # kernfs gives a short file whole: a second read would only say so
                return chunk.decode("utf-8", "surrogateescape")
            chunks = [chunk]
            while chunk := os.read(fd, _READ_BYTES):
                chunks.append(chunk)
            return b"".join(chunks).decode("utf-8", "surrogateescape")
        finally:
            os.close(fd)

    def read_or_none(self, file: str) -> str | None:
        """Read an interface file; None if there is none, or if its controller says that it does not apply here."""
        try:
            return self._read(check_name(file))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return None
            raise _named(error, os.path.join(self.path, file), "read") from None

    def write(self, file: str, value: str) -> None:
        """Write an interface file, in one write(2).

        Raises:
            LimitError: not the name of a file.
            OSError: what the kernel refuses, with a note of file and value.
        """
        name = check_name(file)
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fileno())
            try:
                os.write(fd, value.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        except OSError as error:
            raise _named(error, os.path.join(self.path, name), f"write of {value!r}") from None

    def open_file(self, file: str, flags: int = os.O_RDONLY) -> int:
        """Open an interface file; the caller closes the descriptor. Errors as `read`."""
        try:
            return os.open(check_name(file), flags | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fileno())
        except OSError as error:
            raise _named(error, os.path.join(self.path, file), "open") from None

    def processes(self) -> tuple[int, ...]:
        """IDs of the processes in it, as this process's PID namespace has them; 0 is one that is not in it.

        Raises:
            OSError: EOPNOTSUPP: a threaded cgroup; ENODEV: it was removed.
        """
        return parse_numbers(self.read("cgroup.procs"), "cgroup.procs")

    def threads(self) -> tuple[int, ...]:
        """IDs of the threads in it; errors as `processes`."""
        file = "cgroup.threads" if self.version == 2 else "tasks"
        return parse_numbers(self.read(file), file)

    def controllers(self) -> tuple[str, ...]:
        """Controllers that are there, of version 2."""
        return parse_words(self.read("cgroup.controllers"))

    def exists(self) -> bool:
        """Whether it was not removed."""
        return os.fstat(self.fileno()).st_nlink > 0 and self.read_or_none("cgroup.procs") is not None

    def identity(self) -> tuple[int, int]:
        """Device and inode: of this cgroup and no later one of the same name."""
        status = os.fstat(self.fileno())
        return status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the descriptor; a second call changes nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, version {self.version}>"


def split_name(name: Path) -> tuple[str, ...]:
    """The components of a cgroup's path.

    Raises:
        LimitError: `..`, `.`, an empty component, a NUL byte or a newline.

    >>> split_name("/a/b")
    ('a', 'b')
    """
    return _split(os.fspath(name))


@lru_cache(maxsize=1024)  # every step of a cgroup's life asks for the same ones
def _split(text: str) -> tuple[str, ...]:
    parts = tuple(part for part in text.strip("/").split("/")) if text.strip("/") else ()
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or "\n" in part:
            raise LimitError("cgroup name", text, "components must not be empty, . or .., nor hold NUL or a newline")
    return parts


@lru_cache(maxsize=256)  # names of files are few, and asked for in every read
def check_name(name: str) -> str:
    """The name of one file or cgroup, as it is.

    Raises:
        LimitError: empty, `.`, `..`, or with a slash, NUL byte or newline.
    """
    if "/" in name or split_name(name) != (name,):
        raise LimitError("name", name, "one component, without slashes")
    return name


def _named(error: OSError, path: str, what: str) -> OSError:
    number = error.errno or 0
    named = OSError(number, os.strerror(number), path)
    named.add_note(what)
    return named
