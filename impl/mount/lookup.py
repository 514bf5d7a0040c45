"""One mount of many: what a path or a descriptor is on, by the kernel's answer."""

from __future__ import annotations

import os
from errno import EINVAL, ENOSYS, EPERM

from kernelproof.impl._syscalls.mount import AT_FDCWD as _AT_FDCWD
from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl._syscalls.statmount import StatmountMask
from kernelproof.impl.mount.errors import NoSuchMountError
from kernelproof.impl.mount.mountinfo import parse_lines
from kernelproof.impl.mount.point import mount_id
from kernelproof.impl.mount.records import Mount
from kernelproof.impl.mount.statmounts import StatmountReader
from kernelproof.impl.mount.table import clean_path, find_in_text, open_mountinfo, read_mountinfo

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.mount.table import Path

_NOT_HERE = (ENOSYS, EPERM, EINVAL)  # EPERM: a filter, or no right to ask; mountinfo needs none


def mount_of(path: Path | int, *, dir_fd: int | None = None) -> Mount:
    """Return the mount that a path, links followed, or an open file is on.

    One call of statmount(2) where the kernel tells all of it (Linux 6.13), else a search of mountinfo.

    Args:
        path: or a descriptor.
        dir_fd: where a relative path starts.

    Raises:
        OSError: ENOENT, ENOTDIR, EACCES, ELOOP of the path; EBADF.
        NoSuchMountError: the mount is attached nowhere in this mount namespace.
    """
    mount, known = _ask(path, dir_fd, StatmountReader())
    if mount is not None and known & StatmountMask.SB_SOURCE and mount.mount_point:
        return mount
    return mount_by_id(mount_id(path, unique=False, dir_fd=dir_fd))


def find_mount(path: Path, pid: int | str = "thread-self", *, proc: Path = "/proc") -> Mount:
    """Return the mount that an absolute path leads to, as MountTable.find does, without making records of the others.

    For a path of the caller's that exists and has no links the kernel is asked: for the mount, which takes microseconds
    (Linux 6.13), or for its ID, and the table is read as far as its line. Else the text of the table is searched, which
    takes as long as the kernel takes to write it: a third of what records of all of it take.

    Raises:
        NoSuchMountError: as MountTable.find.
        OSError: as MountTable.read.
    """
    if pid in ("self", "thread-self") and proc == "/proc":
        try:
            fd = openat2(_AT_FDCWD, clean_path(path), os.O_PATH, resolve=ResolveFlag.NO_SYMLINKS)
        except OSError:
            pass  # no such path, a link, no such call: then the text decides
        else:
            try:
                return mount_of(fd)
            except NoSuchMountError:
                pass  # out of reach: the text may know what is above it
            finally:
                os.close(fd)
    content, _ = read_mountinfo(pid, proc=proc)
    return find_in_text(content, path)


def attributes_of(path: Path | int, *, dir_fd: int | None = None) -> MountAttribute:
    """Return the per-mount attributes of the mount that a path or a descriptor is on; detached ones too.

    Raises:
        OSError: as mount_of.
        NoSuchMountError: the mount is attached nowhere, and the kernel is older than 6.8.
    """
    mount, _ = _ask(path, dir_fd, StatmountReader(StatmountMask.MNT_BASIC))
    return (mount or mount_by_id(mount_id(path, unique=False, dir_fd=dir_fd))).attributes


def _ask(path: Path | int, dir_fd: int | None, reader: StatmountReader) -> tuple[Mount | None, StatmountMask]:
    try:
        return reader.read(mount_id(path, dir_fd=dir_fd))
    except NotImplementedError:
        return None, StatmountMask(0)
    except OSError as error:
        # ENOENT of statmount is a mount out of reach, of the path it is the path: the second road tells them apart.
        if error.errno in _NOT_HERE or isinstance(error, FileNotFoundError):
            return None, StatmountMask(0)
        raise


def mount_by_id(wanted: int, *, pid: int | str = "thread-self", proc: Path = "/proc") -> Mount:
    """Return the mount with an ID of mountinfo, without making records of the others.

    Raises:
        NoSuchMountError: the table has none.
        OSError: as MountTable.read.
    """
    line = _read_line(wanted, pid, proc)
    if line is None:
        raise NoSuchMountError(f"no mount has the ID {wanted} in this mount namespace and below this root")
    found = next(parse_lines([os.fsdecode(line)]))
    if isinstance(found, Mount):
        return found
    raise found


def _read_line(wanted: int, pid: int | str, proc: Path) -> bytes | None:
    # Only as far as the line: most of the time of reading is the kernel's, which writes each line when it is asked.
    needle = b"\n%d " % wanted
    with open_mountinfo(pid, proc=proc) as readings:
        for pieces in readings:
            rest = b"\n"
            for piece in pieces:
                rest += piece
                start = rest.find(needle)
                end = rest.find(b"\n", start + 1) if start >= 0 else -1
                if end >= 0:
                    return rest[start + 1 : end]
                rest = rest[start if start >= 0 else rest.rfind(b"\n") :]
            if rest.startswith(needle):  # the last line of a table that does not end with a newline
                return rest[1:]
    return None
