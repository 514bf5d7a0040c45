"""Many files as one run of bytes, unpacked with as little code as can be. Runs on both sides.

A tar archive costs a guest under TCG a millisecond for each file, most of it Python's own code around the header. Here
a file is a fixed header, its path and its content; a project has no more than regular files and symbolic links.

    MAGIC, then for each file:  mode, time of change, length of path, length of content, kind; path; content
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct

MAGIC = b"kernelproof bundle 1\n"
FILE, LINK = 0, 1
_HEADER = Struct("!HIHIB")


def pack_member(path: bytes, content: bytes, mode: int, changed: int, kind: int = FILE) -> bytes:
    """One file.

    Args:
        path: Relative to where it is unpacked.
        content: Of the file, or the target of the link.
        mode: Its permissions.
        changed: Seconds since the epoch; the lowest 32 bits are kept, as Python's bytecode files do.
        kind: `FILE` or `LINK`.

    Raises:
        struct.error: a path or a content that is too long.
    """
    return _HEADER.pack(mode, changed & 0xFFFFFFFF, len(path), len(content), kind) + path + content


def read_members(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Path and content of each file of a bundle.

    Raises:
        ValueError: not a bundle, or not a whole one.
    """
    at = len(MAGIC)
    if data[:at] != MAGIC:
        raise ValueError("not a bundle")
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise ValueError("a bundle that was cut")
        _, _, path_length, length, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size + path_length + length
        if at > len(data):
            raise ValueError("a bundle that was cut")
        yield data[at - length - path_length : at - length], data[at - length : at]


def unpack(data: bytes, folder: str) -> None:
    """Lay all files of a bundle below `folder`; folders are made, files that exist are written over.

    Raises:
        OSError: as mkdir(2), open(2), write(2), symlink(2) refuse.
        struct.error: not a whole bundle.
    """
    at, end, size = len(MAGIC), len(data), _HEADER.size
    base = os.fsencode(folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    made = set()
    while at < end:
        mode, changed, path_length, length, kind = _HEADER.unpack_from(data, at)
        at += size + path_length
        path = os.path.join(base, data[at - path_length : at])
        parent = path.rpartition(b"/")[0]
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        content = data[at : at + length]
        at += length
        if kind == LINK:
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(content, path)
            continue
        descriptor = os.open(path, flags, mode)
        written = os.write(descriptor, content) if length else 0
        while written < length:
            written += os.write(descriptor, content[written:])
        os.utime(descriptor, (changed, changed))
        os.close(descriptor)
