"""Owners of files by descriptor: fchownat(2) with an empty path, which the standard library does not offer."""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import INT, STRING, UINT, Call, Path

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
else:
    from kernelproof.impl._syscalls.numbered import IntFlag


class ChownFlag(IntFlag):
    """AT_ flags of fchownat(2)."""

    SYMLINK_NOFOLLOW = 0x100
    EMPTY_PATH = 0x1000


_fchownat = Call("fchownat", dir_fd=INT, path=STRING, owner=UINT, group=UINT, flags=INT.of(ChownFlag))


def fchownat(dir_fd: int, path: Path, uid: int, gid: int, flags: int = 0) -> None:
    """Change owner and group of a file; 4294967295 leaves one as it is.

    Args:
        dir_fd: where a relative path starts; with EMPTY_PATH and an empty path the file itself, also one that was
            opened with O_PATH, so that nothing can be exchanged between a look at it and the change.
        path: the file.
        uid: new owner, in the caller's user namespace.
        gid: new group, likewise.
        flags: members of ChownFlag.

    Raises:
        OSError: EPERM without CAP_CHOWN; EINVAL an id without mapping; EROFS; ENOENT; EBADF.

    Source: chown(2), ERRORS.
    """
    _fchownat(dir_fd, path, uid, gid, flags, path=path)
