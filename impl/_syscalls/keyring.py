"""keyctl(2): the session keyring."""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import BUFFER, INT, STRING, UINT, ULONG, Call, Path

JOIN_SESSION_KEYRING = 1
SETPERM = 5
DESCRIBE = 6

SESSION_KEYRING = -3  # KEY_SPEC_SESSION_KEYRING
POSSESSOR_ALL = 0x3F000000
USER_SEARCH = 0x00080000

_join = Call("keyctl", operation=INT, name=STRING)
_setperm = Call("keyctl", operation=INT, key=INT, permissions=UINT)
_describe = Call("keyctl", operation=INT, key=INT, buffer=BUFFER, size=ULONG)


def join_session_keyring(name: Path | None) -> int:
    """Join the session keyring of a name, made if there is none, or with None a new one without name.

    Returns:
        The keyring's serial number.

    Raises:
        OSError: EACCES (the keyring grants no search), EDQUOT, ENOMEM, ENOSYS (a kernel without keys).

    Source: keyctl(2), KEYCTL_JOIN_SESSION_KEYRING.
    """
    return _join(JOIN_SESSION_KEYRING, name)


def set_permissions(key: int, permissions: int) -> None:
    """Set the permission bits of a key.

    Raises:
        OSError: EACCES (neither owner nor CAP_SYS_ADMIN), ENOKEY, EKEYEXPIRED, EKEYREVOKED, EINVAL.

    Source: keyctl(2), KEYCTL_SETPERM.
    """
    _setperm(SETPERM, key, permissions)


def describe(key: int) -> str:
    """Return `type;uid;gid;permissions;description` of a key.

    Raises:
        OSError: EACCES, ENOKEY, EKEYEXPIRED, EKEYREVOKED.

    Source: keyctl(2), KEYCTL_DESCRIBE.
    """
    text = bytearray(256)
    length = _describe(DESCRIBE, key, text, len(text))
    while length > len(text):  # nothing was copied: another key's description may be longer meanwhile
        text = bytearray(length)
        length = _describe(DESCRIBE, key, text, len(text))
    return bytes(text[: max(length - 1, 0)]).decode("utf-8", "backslashreplace")
