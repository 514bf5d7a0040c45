"""Writes and reads cpio archives in the `newc` format, the one an initramfs is made of.

Not for archives of more than 4 GiB a member: the format has no place for that.
Several archives one after the other are one initramfs; later members replace earlier ones of the same path.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

ALIGNMENT = 512  # of a whole archive: the kernel wants 4, other tools read blocks of 512
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    Args:
        path: Relative, with `/` between the parts, without `.` or `..` parts; or `.` alone, the root itself.
        mode: File type and permissions, as in `st_mode`.
        data: Content of a regular file, target of a symbolic link, else empty.
        uid: Owner, in the initial user namespace of the machine.
        gid: Group, likewise.
        device: Major and minor number of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def make_directory(path: str, mode: int = 0o755) -> Member:
    """A directory of root's."""
    return Member(path, stat.S_IFDIR | mode)


def make_file(path: str, data: bytes, mode: int = 0o644) -> Member:
    """A regular file of root's."""
    return Member(path, stat.S_IFREG | mode, data)


def make_link(path: str, target: str) -> Member:
    """A symbolic link of root's."""
    return Member(path, stat.S_IFLNK | 0o777, target.encode())


def make_character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Member:
    """A character device node of root's."""
    return Member(path, stat.S_IFCHR | mode, device=(major, minor))


def check_path(path: str) -> None:
    """Refuse a path that does not stay below the root of the archive.

    Raises:
        ValueError: empty, absolute, with an empty, `.` or `..` part, or with a NUL byte.
    """
    if path == ".":
        return
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"not a path of an archive member: {path!r}")


def write_newc(file: BinaryIO, members: Iterable[Member]) -> int:
    """Write one whole archive, padded with zeros to `ALIGNMENT`, and return its size in bytes.

    A hard link is written as a copy: each member has an inode number of its own. Times are zero, so equal
    members make equal bytes. Parents are not made up: list directories before what is in them.

    Raises:
        ValueError: a member's path leaves the root or is named like the trailer, or its data is 4 GiB or more.
        OSError: as for `file.write`: ENOSPC, EDQUOT, EIO.
    """
    size = 0
    for inode, member in enumerate(members, start=1):
        check_path(member.path)
        if member.path == _TRAILER:
            raise ValueError("a member can't have the name of the trailer")
        header = _format_header(member, inode)
        file.write(header)
        file.write(member.data)
        padding = -len(member.data) % 4
        file.write(bytes(padding))
        size += len(header) + len(member.data) + padding
    trailer = _format_header(Member(_TRAILER, 0), 0)
    file.write(trailer)
    size += len(trailer)
    end = -size % ALIGNMENT
    file.write(bytes(end))
    return size + end


def _format_header(member: Member, inode: int) -> bytes:
    name = member.path.encode("utf-8", "surrogateescape") + b"\0"
    if len(member.data) > 0xFFFFFFFF:
        raise ValueError(f"{member.path}: {len(member.data)} bytes don't fit in newc")
    links = 2 if stat.S_ISDIR(member.mode) else 1
    fields = (
        inode,
        member.mode,
        member.uid,
        member.gid,
        links,
        0,
        len(member.data),
        0,
        0,
        *member.device,
        len(name),
        0,
    )
    head = b"070701" + "".join(f"{field:08X}" for field in fields).encode("ascii") + name
    return head + bytes(-len(head) % 4)


_HEADER_SIZE = 110
_FIELDS = 13


def read_newc(data: bytes) -> Iterator[Member]:
    """The members of all archives in `data`, one behind the other, as the kernel would take them.

    Of hard links the last bears the content, and all get it.

    Raises:
        ValueError: it is no such archive, is torn, or a path leaves the root.
    """
    links: dict[tuple[int, int, int], list[Member]] = {}
    at = 0
    while at < len(data):
        if not data[at]:
            at += 4 - at % 4
            continue
        fields, name, content, at = _read_member(data, at)
        if name == _TRAILER:
            yield from _share_content(links)
            links = {}
            continue
        path = name.removeprefix("./").strip("/") or "."
        check_path(path)
        member = Member(path, fields[1], content, fields[2], fields[3], (fields[9], fields[10]))
        if fields[4] > 1 and stat.S_ISREG(member.mode):
            links.setdefault((fields[0], fields[7], fields[8]), []).append(member)
        else:
            yield member
    yield from _share_content(links)


def _read_member(data: bytes, at: int) -> tuple[list[int], str, bytes, int]:
    head = data[at : at + _HEADER_SIZE]
    if head[:6] not in (b"070701", b"070702"):
        raise ValueError(f"no cpio archive of the format newc at byte {at}")
    try:
        fields = [int(head[6 + 8 * number : 14 + 8 * number], 16) for number in range(_FIELDS)]
    except ValueError as error:
        raise ValueError(f"a torn cpio archive: no header at byte {at}") from error
    size, length = fields[6], fields[11]
    start = at + _HEADER_SIZE + length
    start += -start % 4
    if start + size > len(data):
        raise ValueError(f"a torn cpio archive: it ends at byte {len(data)}, within a member")
    name = data[at + _HEADER_SIZE : at + _HEADER_SIZE + length - 1].decode("utf-8", "surrogateescape")
    end = start + size
    return fields, name, data[start:end], end + -end % 4


def _share_content(links: dict[tuple[int, int, int], list[Member]]) -> Iterator[Member]:
    for members in links.values():
        content = next((member.data for member in reversed(members) if member.data), b"")
        yield from (replace(member, data=content) for member in members)
