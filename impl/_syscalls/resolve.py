"""openat2(2): open a path under rules about how it is resolved."""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.libc import BYTES, INT, STRING, ULONG, Call, Path, flag_names, pack_unsigned64

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
else:
    from kernelproof.impl._syscalls.numbered import IntFlag


class ResolveFlag(IntFlag):
    """RESOLVE_ flags of openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


_openat2 = Call("openat2", dir_fd=INT, path=STRING, how=BYTES, size=ULONG)


def openat2(dir_fd: int, path: Path, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open a path and return the descriptor, which the caller closes.

    O_CLOEXEC is added to the flags, as the standard library does; else they go to the kernel as they are.

    Raises:
        OSError: EXDEV (left the tree, or crossed a mount under NO_XDEV), ELOOP (a link that the rules forbid),
            EAGAIN (a rename or mount raced with "..", or CACHED could not answer), EINVAL (unknown flags or a mode
            without O_CREAT), E2BIG, ENOSYS before Linux 5.6, and what openat(2) gives.
        OverflowError: a number does not fit 64 bits.

    Source: openat2(2), ERRORS.
    """
    how = pack_unsigned64("openat2", flags | os.O_CLOEXEC, mode, resolve)
    try:
        return _openat2(dir_fd, path, how, len(how), path=path)
    except OSError as error:
        error.add_note(f"how: flags={flags:#o}, mode={mode:#o}, resolve={flag_names(ResolveFlag, resolve)}")
        raise


def crosses_mount(dir_fd: int, name: Path) -> int:
    """Open a name in a directory, without following it and without crossing a mount; return the descriptor or -errno.

    -EXDEV says that something is mounted there. No error is made: this is a probe.

    Source: openat2(2), RESOLVE_NO_XDEV.
    """
    return _openat2.attempt(dir_fd, name, _PROBE, len(_PROBE))


_PROBE = pack_unsigned64("openat2", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, ResolveFlag.NO_XDEV)
