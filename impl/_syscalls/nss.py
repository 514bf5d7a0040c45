"""Look-ups of libc's name service switch that os and pwd do not have: with the size of the buffer, and with the error.

NSS loads what the host's /etc/nsswitch.conf names: do not call this after chroot or setns.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from kernelproof.impl._syscalls.libc import BUFFER, STRING, ULONG, Call, address_of

_PASSWD = "@PPIIPPP"  # struct passwd
_getpwnam_r = Call("getpwnam_r", name=STRING, passwd=BUFFER, buffer=BUFFER, size=ULONG, result=BUFFER)


class PasswdEntry(NamedTuple):
    """An entry of passwd as libc has it; texts as os.fsdecode makes them."""

    name: str
    password: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str


def getpwnam(name: str, *, size: int = 16384) -> PasswdEntry | None:
    """Return the entry of a user by name; None if no service has it, which is no error.

    Args:
        name: login name.
        size: of the buffer that libc gets for the texts, in bytes.

    Raises:
        OSError: ERANGE the buffer is too small; EIO, EMFILE, ENOMEM a service could not be asked.

    Source: getpwnam(3), RETURN VALUE and ERRORS, getpwnam_r.
    """
    passwd, buffer, result = bytearray(struct.calcsize(_PASSWD)), bytearray(size), bytearray(struct.calcsize("P"))
    number = _getpwnam_r(name, passwd, buffer, size, result)
    if number:  # it returns the error
        error = OSError(number, os.strerror(number))
        error.add_note(_getpwnam_r.describe(name, passwd, buffer, size, result))
        raise error
    if not any(result):
        return None
    pointers = struct.unpack(_PASSWD, passwd)
    texts = [_text(buffer, pointers[place]) for place in (0, 1, 4, 5, 6)]
    return PasswdEntry(texts[0], texts[1], pointers[2], pointers[3], *texts[2:])


def _text(buffer: bytearray, pointer: int) -> str:
    start = pointer - address_of(buffer)
    return os.fsdecode(bytes(buffer[start : buffer.index(0, start)]))
