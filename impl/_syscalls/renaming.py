"""What rename(2) has no words for: renameat2(2) with flags."""

from __future__ import annotations

import os
from enum import IntFlag

from kernelproof.impl._syscalls.libc import INT, STRING, UINT, Call, Path

AT_FDCWD = -100


class RenameFlag(IntFlag):
    """RENAME_ flags of renameat2(2)."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


_renameat2 = Call("renameat2", olddirfd=INT, oldpath=STRING, newdirfd=INT, newpath=STRING, flags=UINT.of(RenameFlag))


def renameat2(old: Path, new: Path, flags: int, *, old_dir: int = AT_FDCWD, new_dir: int = AT_FDCWD) -> None:
    """Rename `old` to `new`; with EXCHANGE both exist before and after, and no moment lies in between.

    Args:
        old, new: paths, relative ones below the directories `old_dir` and `new_dir`.
        flags: RenameFlag.
        old_dir, new_dir: descriptors; the working directory if not said.

    Raises:
        OSError: EEXIST `new` is there, with NOREPLACE; EINVAL the file system does not know the flag, or flags that
            exclude each other; ENOENT; and as rename(2) refuses.

    Source: renameat2(2), ERRORS.
    """
    _renameat2(old_dir, os.fsencode(old), new_dir, os.fsencode(new), flags, path=old, path2=new)
