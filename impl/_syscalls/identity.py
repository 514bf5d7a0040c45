"""Who a process is: host and domain name, user and group ids.

os has setuid, setresuid, setgroups and so on; what is here goes past their checks, changes one thread only, or is
missing there. The kernel's ids are 32 bits wide, and 4294967295 means "leave it".
"""

from __future__ import annotations

import os
import struct

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, INT, UINT, ULONG, Call, Path

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Sequence

_sethostname = Call("sethostname", name=BYTES, length=ULONG)
_setdomainname = Call("setdomainname", name=BYTES, length=ULONG)


def sethostname(name: Path) -> None:
    """Set the host name of the caller's UTS namespace.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN in the user namespace that owns the UTS namespace; EINVAL for more
            than 64 bytes.

    Source: sethostname(2), ERRORS.
    """
    data = os.fsencode(name)
    _sethostname(data, len(data))


def setdomainname(name: Path) -> None:
    """Set the NIS domain name of the caller's UTS namespace.

    Raises:
        OSError: EPERM and EINVAL as for sethostname.

    Source: setdomainname(2), ERRORS.
    """
    data = os.fsencode(name)
    _setdomainname(data, len(data))


_setgroups = Call("setgroups", size=ULONG, groups=BYTES)


def setgroups(groups: Sequence[int], *, size: int | None = None) -> None:
    """Set the supplementary groups of the process, without the standard library's limit on their number.

    Args:
        groups: the group ids.
        size: how many the kernel is to read, at most as many as there are; default all.

    Raises:
        OSError: EPERM without CAP_SETGID, or denied in the user namespace; EINVAL more than NGROUPS_MAX groups, or
            one without mapping in the user namespace.
        OverflowError: a group id does not fit 32 bits.
        ValueError: size is more than there are.

    Source: setgroups(2), ERRORS.
    """
    if size is not None and size > len(groups):
        raise ValueError(f"setgroups: size {size} is more than the {len(groups)} groups given")
    _setgroups(len(groups) if size is None else size, _ids("setgroups", groups))


def _ids(call: str, ids: Sequence[int]) -> bytes:
    try:
        return struct.pack(f"={len(ids)}I", *ids)
    except struct.error:
        wrong = next(number for number in ids if not 0 <= number < 2**32)
        raise OverflowError(f"{call}: id {wrong} does not fit 32 bits") from None


_getgroups = Call("getgroups", size=INT, groups=BUFFER)


def getgroups(size: int) -> tuple[int, tuple[int, ...]]:
    """Return how many supplementary groups there are, and as many of them as the kernel stored: none for size 0.

    Raises:
        OSError: EINVAL size is negative, or not 0 and too small.

    Source: getgroups(2), ERRORS.
    """
    buffer = bytearray(4 * max(size, 0))
    count = _getgroups(size, buffer)
    return count, struct.unpack_from(f"={min(count, size)}I", buffer)


_setfsuid = Call("setfsuid", fsuid=UINT)
_setfsgid = Call("setfsgid", fsgid=UINT)


def setfsuid(uid: int) -> int:
    """Set the file system uid of the calling thread, and return the one before.

    The kernel reports no failure: call again with 4294967295, which changes nothing, to see what it is.

    Source: setfsuid(2), RETURN VALUE.
    """
    return _setfsuid(uid) % 2**32


def setfsgid(gid: int) -> int:
    """Set the file system gid of the calling thread, and return the one before; as setfsuid.

    Source: setfsgid(2), RETURN VALUE.
    """
    return _setfsgid(gid) % 2**32


_setresuid_thread = Call("setresuid", raw=True, ruid=UINT, euid=UINT, suid=UINT)
_setresgid_thread = Call("setresgid", raw=True, rgid=UINT, egid=UINT, sgid=UINT)
_setgroups_thread = Call("setgroups", raw=True, size=ULONG, groups=BYTES)


def setresuid_of_thread(ruid: int, euid: int, suid: int) -> None:
    """Set the real, effective and saved uid of the calling thread only; 4294967295 leaves one as it is.

    Raises:
        OSError: EPERM without CAP_SETUID for another uid than the present three; EINVAL without mapping; EAGAIN.

    Source: setresuid(2), ERRORS and VERSIONS.
    """
    _setresuid_thread(ruid, euid, suid)


def setresgid_of_thread(rgid: int, egid: int, sgid: int) -> None:
    """Set the real, effective and saved gid of the calling thread only; 4294967295 leaves one as it is.

    Raises:
        OSError: EPERM without CAP_SETGID for another gid than the present three; EINVAL without mapping.

    Source: setresgid(2), ERRORS and VERSIONS.
    """
    _setresgid_thread(rgid, egid, sgid)


def setgroups_of_thread(groups: Sequence[int]) -> None:
    """Set the supplementary groups of the calling thread only.

    Raises:
        OSError: as setgroups.
        OverflowError: a group id does not fit 32 bits.

    Source: setgroups(2), ERRORS and VERSIONS.
    """
    _setgroups_thread(len(groups), _ids("setgroups", groups))
