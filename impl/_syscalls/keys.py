"""Keys in keyrings: add_key(2) and two operations of keyctl(2). The session keyring itself is in `keyring`."""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.libc import BYTES, INT, LONG, STRING, ULONG, Call

GET_KEYRING_ID = 0
REVOKE = 3

_keyctl = Call("keyctl", operation=INT, key=LONG, arg3=ULONG, arg4=ULONG, arg5=ULONG)
_add_key = Call("add_key", type=STRING, description=STRING, payload=BYTES, size=ULONG, keyring=INT)


def keyring_id(keyring: int, *, create: bool = False) -> int:
    """Return the serial number of a keyring.

    Args:
        keyring: a KEY_SPEC_ number, or a serial number.
        create: make one that is not there.

    Raises:
        OSError: ENOKEY there is none; EACCES; EKEYEXPIRED; EKEYREVOKED.

    Source: KEYCTL_GET_KEYRING_ID(2const), ERRORS.
    """
    return _keyctl(GET_KEYRING_ID, keyring, int(create), 0, 0)


def revoke_key(serial: int) -> None:
    """Make a key useless.

    Raises:
        OSError: ENOKEY no such key; EACCES; EKEYREVOKED.

    Source: KEYCTL_REVOKE(2const); keyctl(2), ERRORS.
    """
    _keyctl(REVOKE, serial, 0, 0, 0)


def add_key(description: str, payload: bytes, keyring: int) -> int:
    """Add a key of the type user to a keyring, and return its serial number.

    Raises:
        OSError: EACCES; EDQUOT; EINVAL; ENOKEY no such keyring; ENOMEM and others.

    Source: add_key(2), ERRORS.
    """
    return _add_key("user", os.fsencode(description), payload, len(payload), keyring)
