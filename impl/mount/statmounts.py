"""listmount(2) and statmount(2): the mount table from the kernel's own records, without text (Linux 6.8).

Which road is the faster one was measured (benchmarks/mount_figures.py): a whole table by mountinfo, one mount of many
by statmount, and a whole table by statmount where the mounts are slaves of a large peer group, as every line of
mountinfo then walks that group; statmount does so only if it is asked for `PROPAGATE_FROM`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag
from kernelproof.impl._syscalls.statmount import LSMT_ROOT, StatmountMask, listmount, statmount
from kernelproof.impl.mount.mountinfo import decode_octal
from kernelproof.impl.mount.records import Mount, Propagation

ALL_FIELDS = (
    StatmountMask.SB_BASIC
    | StatmountMask.MNT_BASIC
    | StatmountMask.PROPAGATE_FROM
    | StatmountMask.MNT_ROOT
    | StatmountMask.MNT_POINT
    | StatmountMask.FS_TYPE
    | StatmountMask.MNT_NS_ID
    | StatmountMask.MNT_OPTS
    | StatmountMask.FS_SUBTYPE
    | StatmountMask.SB_SOURCE
)
FAST_FIELDS = ALL_FIELDS & ~StatmountMask.PROPAGATE_FROM  # for which alone the kernel walks a peer group
_FIXED = struct.Struct("=IIQIIQIIQQIIQQQQQIIQIIIIIIQ")  # struct statmount up to supported_mask
_STRINGS = 512  # where they begin
_FIRST_BUFFER_BYTES = 4096
_LIST_COUNT = 1024
_PROPAGATION = Propagation.SHARED | Propagation.SLAVE | Propagation.PRIVATE | Propagation.UNBINDABLE
# Options of the superblock that have words of their own in mountinfo, in its order (show_sb_opts).
_SUPER_FLAGS = (
    (MountFlag.SYNCHRONOUS, "sync"),
    (MountFlag.DIRSYNC, "dirsync"),
    (MountFlag.MANDLOCK, "mand"),
    (MountFlag.LAZYTIME, "lazytime"),
)


class StatmountReader:
    """Asks for mounts by their unique ID, with one buffer that grows as strings demand."""

    __slots__ = ("_buffer", "fields", "namespace_id")

    def __init__(self, fields: StatmountMask = ALL_FIELDS, *, namespace_id: int = 0) -> None:
        self.fields = fields | StatmountMask.SUPPORTED_MASK
        self.namespace_id = namespace_id
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)

    def read(self, unique_id: int) -> tuple[Mount, StatmountMask]:
        """Return a mount, and which of its fields the kernel filled.

        Raises:
            OSError: ENOENT no such mount; EPERM; ENOSYS before Linux 6.8.
        """
        while True:
            try:
                statmount(unique_id, self.fields, self._buffer, namespace_id=self.namespace_id)
            except OSError as error:
                if error.errno != errno.EOVERFLOW:
                    raise
                self._buffer = bytearray(2 * len(self._buffer))
            else:
                return parse_statmount(self._buffer)


def parse_statmount(buffer: bytes | bytearray) -> tuple[Mount, StatmountMask]:
    """Take a struct statmount apart; a field that the kernel did not fill is as if it were empty."""
    (
        _, mnt_opts, filled, major, minor, _, sb_flags, fs_type, unique_id, _, mount_id, parent_id, attributes,
        propagation, peer_group, master, propagate_from, root, mount_point, namespace_id, subtype, source, *_,
        supported,
    ) = _FIXED.unpack_from(buffer)  # fmt: skip
    mask = StatmountMask(filled)

    def text(bit: StatmountMask, offset: int) -> str:
        if not mask & bit:
            return ""
        start = _STRINGS + offset
        return os.fsdecode(bytes(buffer[start : buffer.index(0, start)]))

    fstype, kind = text(StatmountMask.FS_TYPE, fs_type), text(StatmountMask.FS_SUBTYPE, subtype)
    options = text(StatmountMask.MNT_OPTS, mnt_opts)
    supers = ["ro" if sb_flags & MountFlag.RDONLY else "rw"]
    supers += [word for bit, word in _SUPER_FLAGS if sb_flags & bit]
    supers += [decode_octal(word) for word in options.split(",")] if options else []
    # A field that could be filled and has nothing in it is not marked as filled: an empty source.
    known = mask | StatmountMask(supported & ALL_FIELDS if mask & StatmountMask.SUPPORTED_MASK else 0)
    mount = Mount(
        mount_id,
        parent_id,
        major,
        minor,
        text(StatmountMask.MNT_ROOT, root),
        text(StatmountMask.MNT_POINT, mount_point),
        MountAttribute(attributes),
        Propagation(propagation & _PROPAGATION),
        peer_group or None,
        master or None,
        (propagate_from or None) if mask & StatmountMask.PROPAGATE_FROM and propagate_from != master else None,
        f"{fstype}.{kind}" if kind else fstype,
        text(StatmountMask.SB_SOURCE, source),
        tuple(supers),
        unique_id=unique_id,
        namespace_id=namespace_id if mask & StatmountMask.MNT_NS_ID else None,
    )
    return mount, known


def list_mount_ids(*, namespace_id: int = 0) -> Iterator[int]:
    """Yield the unique IDs of the mounts that this process can reach, or of those of another mount namespace.

    Raises:
        OSError: ENOSYS before Linux 6.8; EPERM; ENOENT no such namespace.
    """
    after = 0
    while True:
        part = listmount(LSMT_ROOT, _LIST_COUNT, after=after, namespace_id=namespace_id)
        yield from part
        if len(part) < _LIST_COUNT:
            return
        after = part[-1]


def read_by_statmount(fields: StatmountMask = ALL_FIELDS, *, namespace_id: int = 0) -> tuple[Mount, ...]:
    """Return the mounts that this process can reach, or those of another mount namespace.

    Args:
        fields: what is asked for; the rest of each record is as if it were empty.
        namespace_id: of the mount namespace; 0 is that of the caller.

    Raises:
        OSError: ENOSYS before Linux 6.8; EPERM.
        NotImplementedError: the kernel does not tell all of these fields (the source came with 6.13).
    """
    reader = StatmountReader(fields, namespace_id=namespace_id)
    mounts = []
    for unique_id in list_mount_ids(namespace_id=namespace_id):
        try:
            mount, known = reader.read(unique_id)
        except FileNotFoundError:
            continue  # it went away meanwhile
        missing = fields & ~known & (StatmountMask.SB_SOURCE | StatmountMask.MNT_OPTS | StatmountMask.FS_SUBTYPE)
        if missing & StatmountMask.SB_SOURCE or (missing and not known & StatmountMask.SB_SOURCE):
            raise NotImplementedError(f"statmount: this kernel does not tell {missing!r}; ask mountinfo")
        if mount.mount_point or not fields & StatmountMask.MNT_POINT:
            mounts.append(mount)
    return tuple(mounts)
