"""What a path is: a mount point or not, and which mount it is on. The kernel is asked, not the table.

A comparison of st_dev does not see bind mounts, and stat() waits for a server that is gone; neither is used.
"""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, ENOENT, ENOSYS, ENOTDIR, EPERM, EXDEV

from kernelproof.impl._syscalls.resolve import crosses_mount
from kernelproof.impl._syscalls.statx import StatxMask, statx_of, statx_path

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from typing import NamedTuple

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_NO_ANSWER = (ENOSYS, EPERM, EACCES, EINVAL)  # EPERM: a seccomp filter; the next method may be allowed


class MountPointProbe(NamedTuple):
    """Whether a path is a mount point, and how that is known.

    Attributes:
        answer: None is: cannot be told.
        method: "openat2", "statx", "mount IDs", "table" or "none".
        mount_id: of the mount that the path leads to, where the method tells it.
    """

    answer: bool | None
    method: str
    mount_id: int | None


def is_mount_point(path: Path, *, dir_fd: int | None = None) -> bool | None:
    """Return whether a path is a mount point; None if that cannot be told.

    A symbolic link is none, wherever it leads.

    Raises:
        OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG: there is no such path.
    """
    return probe_mount_point(path, dir_fd=dir_fd).answer


def probe_mount_point(path: Path, *, dir_fd: int | None = None, proc: Path = "/proc") -> MountPointProbe:
    """Find out whether a path is a mount point, by the first method that answers.

    1. openat2(2) from its directory may not cross a mount, and says so with EXDEV (Linux 5.6).
    2. statx(2) says whether a path is the root of a mount (5.8).
    3. The mount IDs of the path and of its directory, from /proc/self/fdinfo.
    4. The mount table, where the path has no links.

    Raises:
        OSError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG: there is no such path.

    Source: openat2(2), RESOLVE_NO_XDEV; statx(2), STATX_ATTR_MOUNT_ROOT; proc_pid_fdinfo(5).
    """
    text = os.fspath(path)
    if not text:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), text)
    for method, ask in _METHODS:
        try:
            answer, mount_id = ask(text, dir_fd, proc)
        except OSError as error:
            if error.errno in _NO_ANSWER:
                continue
            # /proc may be what is missing; the path is what the others looked at.
            if method in ("mount IDs", "table") and str(error.filename).startswith(os.fspath(proc)):
                continue
            raise
        if answer is not None:
            return MountPointProbe(answer, method, mount_id)
    return MountPointProbe(None, "none", None)


_Answer = tuple["bool | None", "int | None"]
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def _by_openat2(path: str, dir_fd: int | None, proc: Path) -> _Answer:
    parent, slash, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return None, None  # no name below a directory: there is nothing to cross
    directory = os.open(parent or slash or ".", _DIRECTORY, dir_fd=dir_fd)
    try:
        fd = crosses_mount(directory, name)
    finally:
        os.close(directory)
    if fd >= 0:
        os.close(fd)
        return False, None
    if fd == -EXDEV:
        return True, None
    raise OSError(-fd, os.strerror(-fd), path)


def _by_statx(path: str, dir_fd: int | None, proc: Path) -> _Answer:
    found = statx_path(path, dir_fd=dir_fd)
    return found.is_mount_root, found.mount_id


def _by_mount_ids(path: str, dir_fd: int | None, proc: Path) -> _Answer:
    if os.path.basename(path.rstrip("/")) in ("", ".", ".."):
        return None, None
    parent = os.path.dirname(path.rstrip("/")) or "."
    ids = []
    for each in (parent, path):
        fd = os.open(each, os.O_PATH | (os.O_NOFOLLOW if each is path else os.O_DIRECTORY), dir_fd=dir_fd)
        try:
            ids.append(mount_id_of_fd(fd, proc=proc))
        finally:
            os.close(fd)
    return ids[0] != ids[1], ids[1]


def _by_table(path: str, dir_fd: int | None, proc: Path) -> _Answer:
    if dir_fd is not None or not path.startswith("/"):
        return None, None
    if os.path.realpath(path) != os.path.normpath(path):
        return None, None
    os.lstat(path)
    from kernelproof.impl.mount.table import MountTable  # the last method: seldom, and 2 ms at import

    at = MountTable.read(proc=proc).at(path)
    return bool(at), at[-1].id if at else None


_METHODS = (
    ("openat2", _by_openat2),
    ("statx", _by_statx),
    ("mount IDs", _by_mount_ids),
    ("table", _by_table),
)


def mount_id_of_fd(fd: int, *, proc: Path = "/proc") -> int:
    """Return the mount ID of an open file, which may be open with O_PATH.

    Raises:
        OSError: EBADF; ENOENT no procfs.

    Source: proc_pid_fdinfo(5), mnt_id.
    """
    with open(os.path.join(proc, "thread-self", "fdinfo", str(fd)), "rb", buffering=0) as file:
        lines = file.read(4096).split(b"\n")
    return next(int(line.split()[1]) for line in lines if line.startswith(b"mnt_id:"))


def mount_id(path: Path | int, *, unique: bool = True, dir_fd: int | None = None) -> int:
    """Return the ID of the mount that a path, links followed, or an open file is on.

    Args:
        path: or a descriptor.
        unique: the 64-bit ID that is never used again (Linux 6.8), else that of mountinfo.
        dir_fd: where a relative path starts.

    Raises:
        OSError: ENOENT, ENOTDIR, EACCES, ELOOP of the path; EBADF.
        NotImplementedError: the kernel has no unique IDs.

    Source: statx(2), stx_mnt_id.
    """
    mask = StatxMask.MNT_ID_UNIQUE if unique else StatxMask.MNT_ID
    found = statx_of(path, mask) if isinstance(path, int) else statx_path(path, mask, dir_fd=dir_fd, follow=True)
    answer = found.unique_mount_id if unique else found.mount_id
    if answer is not None:
        return answer
    if unique:
        raise NotImplementedError("statx: this kernel has no unique mount IDs (Linux 6.8 has)")
    fd = path if isinstance(path, int) else os.open(path, os.O_PATH, dir_fd=dir_fd)
    try:
        return mount_id_of_fd(fd)
    finally:
        if fd is not path:
            os.close(fd)


MISSING = (ENOENT, ENOTDIR)
