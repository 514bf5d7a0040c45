"""Reads the compressed image inside a bzImage, and looks at the ELF image that comes out. Pure.

Sources: Linux, Documentation/arch/x86/boot.rst (setup header, `kernel_version`, `payload_offset`, `payload_length`);
Xen, `xen/include/public/elfnote.h` (`XEN_ELFNOTE_PHYS32_ENTRY`, which QEMU takes as the PVH entry);
Linux, init/version-timestamp.c (`linux_banner`), kernel/configs.c (what CONFIG_IKCONFIG lays into an image).
"""

from __future__ import annotations

import re
import struct
import zlib
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
_BOOT_FLAG, _HEADER, _VERSION, _KERNEL_VERSION = 0x1FE, 0x202, 0x206, 0x20E
_BANNER = re.compile(rb"Linux version ([!-~]{1,64}) \([^\n\0]*\) [^\n\0]*?(#[^\n\0]{1,200})\n")
_RELEASE = re.compile(r"[0-9]+\.[0-9]+[A-Za-z0-9._+~-]{0,60}")  # it is a folder's and a file's name
_CONFIG_BEGINS, _CONFIG_ENDS = b"IKCFG_ST", b"IKCFG_ED"
_CONFIG_LIMIT = 8 << 20
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


@dataclass(frozen=True, slots=True)
class Banner:
    """What an image says it is.

    Args:
        release: What `uname -r` will say.
        build: What `uname -v` will say: `#1 SMP PREEMPT_DYNAMIC ...`.
    """

    release: str
    build: str


def read_banner(image: bytes) -> Banner:
    """What a bzImage or an uncompressed image says it is.

    Raises:
        ValueError: it is neither, or says nothing that can be a release.
    """
    if is_elf(image):
        found = _BANNER.search(image)
        if found is None:
            raise ValueError("an ELF file without the banner of a kernel")
        release, build = (part.decode("ascii", "replace") for part in found.groups())
    else:
        _check_header(image)
        (offset,) = struct.unpack_from("<H", image, _KERNEL_VERSION)
        text = image[0x200 + offset :].split(b"\0", 1)[0][:400].decode("ascii", "replace") if offset else ""
        release, build = text.partition(" ")[0], "".join(text.partition("#")[1:])
    if not _RELEASE.fullmatch(release):
        raise ValueError(f"its header names no release that can be: {release!r}")
    return Banner(release, build.strip())


def is_elf(image: bytes) -> bool:
    """Whether it is an uncompressed ELF image for x86-64."""
    return image[:6] == b"\x7fELF\x02\x01" and struct.unpack_from("<H", image, 18) == (62,)


def has_pvh_entry(image: bytes) -> bool:
    """Whether an ELF image can be booted by PVH.

    Raises:
        ValueError: it is torn.
    """
    return any(name == b"Xen" and kind == _PHYS32_ENTRY for name, kind in _read_notes(image))


def find_config(image: bytes) -> bytes | None:
    """The configuration that CONFIG_IKCONFIG has laid into an uncompressed image; None if there is none."""
    begin = image.find(_CONFIG_BEGINS + b"\x1f\x8b")
    end = image.find(_CONFIG_ENDS, begin)
    if begin < 0 or end < 0:
        return None
    try:
        text = zlib.decompressobj(31).decompress(image[begin + len(_CONFIG_BEGINS) : end], _CONFIG_LIMIT)
    except zlib.error:
        return None
    return text if b"CONFIG_" in text else None


def _check_header(image: bytes) -> None:
    if len(image) < _PAYLOAD + 8 or image[_BOOT_FLAG : _BOOT_FLAG + 2] != b"\x55\xaa":
        raise ValueError("no boot sector")
    if image[_HEADER : _HEADER + 4] != b"HdrS":
        raise ValueError("no setup header")


def find_payload(image: bytes) -> Payload:
    """The compressed image of a bzImage.

    Raises:
        ValueError: no boot header, one older than 2.08 (Linux 2.6.26), a payload that lies outside, or one
            compressed in an unknown way.
    """
    _check_header(image)
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
    if not is_elf(image):
        raise ValueError("not an ELF image for x86-64")
    if not has_pvh_entry(image):
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
