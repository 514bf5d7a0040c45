"""Kernel images that are all header: enough to be found and looked at, not to be booted."""

from __future__ import annotations

import gzip
import struct


def make_bzimage(
    payload: bytes, *, size: int = 99, version: int = 0x20F, sectors: int = 3, length: int | None = None
) -> bytes:
    """A bzImage that is all boot header and payload."""
    header = bytearray((sectors + 1) * 512)
    header[0x1F1] = sectors
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    data = payload + struct.pack("<I", size)
    struct.pack_into("<II", header, 0x248, 16, len(data) if length is None else length)
    return bytes(header) + bytes(16) + data + b"rest"


def make_vmlinux(*, note: bytes = b"Xen\0", kind: int = 18, machine: int = 62) -> bytes:
    """An ELF image of one segment of notes: a GNU build id, then the one of `note`."""
    notes = struct.pack("<III", 4, 3, 3) + b"GNU\0" + b"id1\0" + struct.pack("<III", len(note), 8, kind)
    notes += note + bytes(-len(note) % 4) + struct.pack("<Q", 0x1000000)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes


def make_kernel() -> bytes:
    """A bzImage with a gzip payload that passes every check."""
    image = make_vmlinux()
    return make_bzimage(gzip.compress(image, mtime=0), size=len(image))
