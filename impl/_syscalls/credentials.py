"""User and group ids of the whole process, as libc sets them in every thread, and what libc makes of the group file.

os has most of these; here they are without its checks, so that what refuses is the kernel or libc. An id of 4294967295
leaves that id as it is.
"""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, STRING, UINT, Call

_setuid = Call("setuid", uid=UINT)
_setgid = Call("setgid", gid=UINT)
_setreuid = Call("setreuid", ruid=UINT, euid=UINT)
_setresuid = Call("setresuid", ruid=UINT, euid=UINT, suid=UINT)
_setresgid = Call("setresgid", rgid=UINT, egid=UINT, sgid=UINT)
_initgroups = Call("initgroups", user=STRING, group=UINT)
_getgrouplist = Call("getgrouplist", user=STRING, group=UINT, groups=BUFFER, count=BUFFER)


def setuid(uid: int) -> None:
    """Set the effective uid, and with CAP_SETUID the real and saved ones too.

    Raises:
        OSError: EPERM without CAP_SETUID for another uid than the real and the saved one; EINVAL not mapped in the
            user namespace; EAGAIN.

    Source: setuid(2), ERRORS.
    """
    _setuid(uid)


def setgid(gid: int) -> None:
    """Set the effective gid, and with CAP_SETGID the real and saved ones too; raises as setuid.

    Source: setgid(2), ERRORS.
    """
    _setgid(gid)


def setreuid(ruid: int, euid: int) -> None:
    """Set the real and the effective uid, and the saved one to the new effective one if the real one is set.

    Raises:
        OSError: EPERM, EINVAL and EAGAIN as for setuid.

    Source: setreuid(2), DESCRIPTION and ERRORS.
    """
    _setreuid(ruid, euid)


def setresuid(ruid: int, euid: int, suid: int) -> None:
    """Set the real, effective and saved uid.

    Raises:
        OSError: EPERM without CAP_SETUID for another uid than the present three; EINVAL and EAGAIN as for setuid.

    Source: setresuid(2), ERRORS.
    """
    _setresuid(ruid, euid, suid)


def setresgid(rgid: int, egid: int, sgid: int) -> None:
    """Set the real, effective and saved gid; raises as setresuid. Source: setresgid(2), ERRORS."""
    _setresgid(rgid, egid, sgid)


def initgroups(user: str, gid: int) -> None:
    """Set the groups of a user, by NSS, and one more as the supplementary groups of the process.

    Raises:
        OSError: EPERM without CAP_SETGID; ENOMEM.

    Source: initgroups(3), ERRORS.
    """
    _initgroups(user, gid)


def getgrouplist(user: str, gid: int, room: int) -> tuple[bool, int, tuple[int, ...]]:
    """Ask NSS for the groups of a user, and return whether there was room for them, how many they are, and those.

    Args:
        user: login name, which need not exist.
        gid: one more, which is always among them.
        room: for how many.

    Source: getgrouplist(3), RETURN VALUE.
    """
    groups, count = bytearray(4 * room), bytearray(struct.pack("=i", room))
    try:
        _getgrouplist(user, gid, groups, count)
        had_room = True
    except OSError:  # -1 is no error here: it says that there was too little room
        had_room = False
    (needed,) = struct.unpack("=i", count)
    return had_room, needed, struct.unpack_from(f"={min(needed, room)}I", groups)
