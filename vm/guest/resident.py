"""Has all memory of this process in place before the template is made, so that no clone takes page faults for it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, madvise(2); since Linux 5.14, before that EINVAL
_TOP_PAD = -2  # M_TOP_PAD, mallopt(3)
_SPARE_BYTES = 4 << 20  # what a test may take from malloc(3) before its heap grows
_LARGEST_BYTES = 64 << 20

# Prototypes of its own: the agent stands alone, without the project's packages.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.malloc.argtypes, _libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
_libc.free.argtypes = (ctypes.c_void_p,)


def make_resident(maps: str = "/proc/self/maps") -> bool:
    """Write-fault every private writable page of this process, and a spare part of its heap.

    It was forked, and what it shares with its parent is copied at the first write: not in every clone.

    Returns:
        Whether this kernel can do that.
    """
    _libc.mallopt(_TOP_PAD, _SPARE_BYTES)
    blocks = [_libc.malloc(4096) for _ in range(256)]
    for block in blocks:
        _libc.free(block)
    with open(maps, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    return all(not _libc.madvise(start, length, _POPULATE_WRITE) for start, length in list_writable(text))


def list_writable(text: str) -> Iterator[tuple[int, int]]:
    """Start and length of each private writable mapping in the text of proc_pid_maps(5), but for enormous ones."""
    for line in text.splitlines():
        span, permissions, *_ = line.split()
        start, _, end = span.partition("-")
        length = int(end, 16) - int(start, 16)
        if permissions == "rw-p" and length <= _LARGEST_BYTES:
            yield int(start, 16), length
