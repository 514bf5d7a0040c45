"""Read the files of users and groups: bounded, regular files only, inside a root where one is given.

A file from an image is hostile: it may be a device that never ends, a FIFO that never answers, or a link to a file of
the host. So it is opened without blocking, looked at before it is read, and read up to a limit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import TypeVar

from kernelproof.impl.user import tables
from kernelproof.impl.user.errors import NotRegularFileError, TooLargeError
from kernelproof.impl.user.records import Group, GroupShadow, Parsed, Shadow, SubordinateRange, User
from kernelproof.impl.user.root import Root, StrPath, open_in_root, root_descriptor
from kernelproof.impl.user.tables import FILE_LIMIT

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}

Record = TypeVar("Record")


def open_regular(path: StrPath, *, root: Root = None) -> int:
    """Open a regular file for reading and return the descriptor, which the caller closes.

    Args:
        path: the file; with a root it starts there, and so does every absolute link on the way.
        root: a directory, as a path or a descriptor; None is the process's own.

    Raises:
        OSError: ENOENT, EACCES, ELOOP and what else open(2) gives.
        NotRegularFileError: it is something else than a file.
    """
    with root_descriptor(root) as root_fd:
        # Without blocking, so that a FIFO cannot hold us; without taking a terminal.
        fd = open_in_root(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, root_fd)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    raise NotRegularFileError(f"{os.fspath(path)} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file")


def read_text(path: StrPath, *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> str:
    """Return the text of a file; what is no UTF-8 in it as surrogates.

    Args:
        path: the file.
        root: as for open_regular.
        limit_bytes: the longest file to take.

    Raises:
        OSError: what open(2) and read(2) give.
        NotRegularFileError: it is no regular file.
        TooLargeError: it is longer than the limit.
    """
    fd = open_regular(path, root=root)
    with open(fd, "rb") as file:
        # One byte more than allowed shows a file that grew, or one that does not say its size.
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise TooLargeError(f"{os.fspath(path)} is longer than the limit of {limit_bytes} bytes")
    return data.decode("utf-8", "surrogateescape")


def read_blocks(path: StrPath, *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> Iterator[str]:
    """Yield the text of a file in blocks of whole lines, the file being open until the last one is taken.

    A line over the limit for lines comes cut, but still over it.

    Args:
        path: the file.
        root: as for open_regular.
        limit_bytes: the longest file to take.

    Raises:
        OSError, NotRegularFileError, TooLargeError: as read_text.
    """
    with open(open_regular(path, root=root), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > limit_bytes:
            raise TooLargeError(f"{os.fspath(path)} is longer than the limit of {limit_bytes} bytes")
        yield from tables.whole_lines(file, os.fspath(path), limit_bytes)


def _read(table: tables.Table[Record], path: StrPath, root: Root, limit_bytes: int, strict: bool) -> Parsed[Record]:
    return tables.parse(table, read_text(path, root=root, limit_bytes=limit_bytes), os.fspath(path), strict=strict)


def read_passwd(
    path: StrPath = "/etc/passwd", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[User]:
    """Read a passwd file.

    Args:
        path: the file.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own.
        limit_bytes: the longest file to take.
        strict: raise what is wrong with lines instead of returning it.

    Raises:
        OSError: what open(2) and read(2) give.
        NotRegularFileError: it is no regular file.
        TooLargeError: it is longer than the limit.
        ExceptionGroup: with strict, one ParseError for each diagnostic.

    Source: passwd(5).
    """
    return _read(tables.PASSWD, path, root, limit_bytes, strict)


def read_group(
    path: StrPath = "/etc/group", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[Group]:
    """Read a group file; as read_passwd. Source: group(5)."""
    return _read(tables.GROUP, path, root, limit_bytes, strict)


def read_shadow(
    path: StrPath = "/etc/shadow", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[Shadow]:
    """Read a shadow file; as read_passwd. Source: shadow(5)."""
    return _read(tables.SHADOW, path, root, limit_bytes, strict)


def read_gshadow(
    path: StrPath = "/etc/gshadow", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[GroupShadow]:
    """Read a gshadow file; as read_passwd. Source: gshadow(5)."""
    return _read(tables.GSHADOW, path, root, limit_bytes, strict)


def read_subuid(
    path: StrPath = "/etc/subuid", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[SubordinateRange]:
    """Read a subuid file; as read_passwd. Source: subuid(5)."""
    return _read(tables.SUBID, path, root, limit_bytes, strict)


def read_subgid(
    path: StrPath = "/etc/subgid", *, root: Root = None, limit_bytes: int = FILE_LIMIT, strict: bool = False
) -> Parsed[SubordinateRange]:
    """Read a subgid file; as read_passwd. Source: subgid(5)."""
    return _read(tables.SUBID, path, root, limit_bytes, strict)


def parse_passwd_file(path: StrPath) -> tuple[User, ...]:
    """Return the entries of a passwd file. Raises as read_passwd."""
    return read_passwd(path).entries


def parse_passwd_file_filter(path: StrPath, wanted: Callable[[User], bool] | None = None) -> tuple[User, ...]:
    """Return the entries of a passwd file that a function wants; None wants all. Raises as read_passwd."""
    return tuple(filter(wanted, read_passwd(path)) if wanted else read_passwd(path))


def parse_group_file(path: StrPath) -> tuple[Group, ...]:
    """Return the entries of a group file. Raises as read_passwd."""
    return read_group(path).entries


def parse_group_file_filter(path: StrPath, wanted: Callable[[Group], bool] | None = None) -> tuple[Group, ...]:
    """Return the entries of a group file that a function wants; None wants all. Raises as read_passwd."""
    return tuple(filter(wanted, read_group(path)) if wanted else read_group(path))
