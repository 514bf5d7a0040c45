"""Reads the compressed image inside a bzImage, and looks at the ELF image that comes out. Pure.

Sources: Linux, Documentation/arch/x86/boot.rst (setup header, `payload_offset`, `payload_length`);
Xen, `xen/include/public/elfnote.h` (`XEN_ELFNOTE_PHYS32_ENTRY`, which QEMU takes as the PVH entry).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x02\x21\x4c\x18", "lz4"),  # the legacy frame: no sizes, no checksum
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
)
_BOOT_FLAG, _HEADER, _VERSION = 0x1FE, 0x202, 0x206
_PAYLOAD = 0x248
_NOTE = 4  # PT_NOTE
_PHYS32_ENTRY = 18


@dataclass(frozen=True, slots=True)
class Payload:
    """What a bzImage carries.

    Args:
        compression: `gzip`, `xz`, `lz4` (legacy frame), `zstd`, `bzip2` or `lzma`.
        data: The compressed image, without the size that stands behind it.
        size: Bytes of the image when uncompressed.
    """

    compression: str
    data: bytes
    size: int


def find_payload(image: bytes) -> Payload:
    """The compressed image of a bzImage.

    Raises:
        ValueError: no boot header, one older than 2.08 (Linux 2.6.26), a payload that lies outside, or one
            compressed in an unknown way.
    """
    if len(image) < _PAYLOAD + 8 or image[_BOOT_FLAG : _BOOT_FLAG + 2] != b"\x55\xaa":
        raise ValueError("no boot sector")
    if image[_HEADER : _HEADER + 4] != b"HdrS":
        raise ValueError("no setup header")
    (version,) = struct.unpack_from("<H", image, _VERSION)
    if version < 0x208:
        raise ValueError(f"boot protocol {version >> 8}.{version & 0xFF:02} has no payload field")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * 512 + offset
    if length <= 10 or start + length > len(image):
        raise ValueError(f"the payload ({start} + {length}) lies outside the image of {len(image)} bytes")
    payload = image[start : start + length]
    for magic, name in _MAGICS:
        if payload.startswith(magic):
            (size,) = struct.unpack("<I", payload[-4:])
            return Payload(name, payload[:-4], size)
    raise ValueError(f"unknown compression: {payload[:6].hex()}")


def check_vmlinux(image: bytes, size: int) -> None:
    """Look whether an uncompressed image is whole and can be booted by PVH.

    Raises:
        ValueError: another size than `size`, no 64-bit ELF executable for x86-64, or no PVH entry note.
    """
    if len(image) != size:
        raise ValueError(f"{len(image)} bytes came out, {size} were promised")
    if image[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", image, 18) != (62,):
        raise ValueError("not an ELF image for x86-64")
    if not any(name == b"Xen" and kind == _PHYS32_ENTRY for name, kind in _read_notes(image)):
        raise ValueError("no PVH entry note (CONFIG_PVH)")


def _read_notes(image: bytes) -> Iterator[tuple[bytes, int]]:
    (table,) = struct.unpack_from("<Q", image, 32)
    entry_size, count = struct.unpack_from("<HH", image, 54)
    for index in range(count):
        at = table + index * entry_size
        if at + 56 > len(image):
            raise ValueError("program headers lie outside the image")
        (kind,) = struct.unpack_from("<I", image, at)
        offset, _, _, length = struct.unpack_from("<QQQQ", image, at + 8)
        if kind == _NOTE:
            yield from _read_segment(image[offset : offset + length])


def _read_segment(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + 12 <= len(data):
        name_size, value_size, kind = struct.unpack_from("<III", data, at)
        yield data[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind
        at += 12 + -(-name_size // 4) * 4 + -(-value_size // 4) * 4
