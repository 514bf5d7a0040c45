"""Kernel images that are all header: enough to be found and looked at, not to be booted."""

from __future__ import annotations

import gzip
import struct
from typing import Any

BANNER = b"9.1.7-own (me@here) #3 SMP Tue Nov 24"


def make_bzimage(
    payload: bytes,
    *,
    size: int = 99,
    version: int = 0x20F,
    sectors: int = 3,
    length: int | None = None,
    banner: bytes = BANNER,
) -> bytes:
    """A bzImage that is all boot header, with its banner behind it, and payload."""
    header = bytearray((sectors + 1) * 512)
    header[0x1F1] = sectors
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<H", header, 0x20E, 0x100)
    header[0x300 : 0x300 + len(banner) + 1] = banner + b"\0"
    data = payload + struct.pack("<I", size)
    struct.pack_into("<II", header, 0x248, 16, len(data) if length is None else length)
    return bytes(header) + bytes(16) + data + b"rest"


def make_vmlinux(*, note: bytes = b"Xen\0", kind: int = 18, machine: int = 62, behind: bytes = b"") -> bytes:
    """An ELF image of one segment of notes: a GNU build id, then the one of `note`; `behind` follows."""
    notes = struct.pack("<III", 4, 3, 3) + b"GNU\0" + b"id1\0" + struct.pack("<III", len(note), 8, kind)
    notes += note + bytes(-len(note) % 4) + struct.pack("<Q", 0x1000000)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + behind


def make_kernel(**vmlinux: Any) -> bytes:
    """A bzImage with a gzip payload that passes every check, unless the image in it is told not to."""
    image = make_vmlinux(**vmlinux)
    return make_bzimage(gzip.compress(image, mtime=0), size=len(image))


def make_ikconfig(text: bytes) -> bytes:
    """What CONFIG_IKCONFIG lays into an image."""
    return b"\0IKCFG_ST" + gzip.compress(text, mtime=0) + b"IKCFG_ED\0"
