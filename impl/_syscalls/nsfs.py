"""What a descriptor of a namespace tells of it: ioctl_nsfs(2)."""

from __future__ import annotations

import fcntl
import struct

from kernelproof.impl._syscalls.namespaces import CloneFlag

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntEnum
else:
    from kernelproof.impl._syscalls.numbered import IntEnum


class NsRequest(IntEnum):
    """NS_GET_ requests of ioctl_nsfs(2)."""

    USERNS = 0xB701
    PARENT = 0xB702
    NSTYPE = 0xB703  # Linux 4.11
    OWNER_UID = 0xB704  # Linux 4.11


def _ask(fd: int, request: NsRequest) -> int:
    try:
        return fcntl.ioctl(fd, request)
    except OSError as error:
        error.add_note(f"ioctl(fd={fd}, request=NS_GET_{request.name})")
        raise


def owning_user_namespace(fd: int) -> int:
    """Return a descriptor of the user namespace that owns a namespace, close-on-exec; the caller closes it.

    Raises:
        OSError: ENOTTY no descriptor of a namespace; EPERM the owner is outside the caller's user namespace.

    Source: NS_GET_USERNS(2const), ERRORS.
    """
    return _ask(fd, NsRequest.USERNS)


def parent_namespace(fd: int) -> int:
    """Return a descriptor of the parent of a user or PID namespace, close-on-exec; the caller closes it.

    Raises:
        OSError: ENOTTY no descriptor of a namespace; EINVAL one of another kind; EPERM the parent is outside the
            caller's namespace, or there is none.

    Source: NS_GET_PARENT(2const), ERRORS.
    """
    return _ask(fd, NsRequest.PARENT)


def namespace_kind(fd: int) -> CloneFlag:
    """Return of which kind a namespace is.

    Raises:
        OSError: ENOTTY no descriptor of a namespace.

    Source: NS_GET_NSTYPE(2const).
    """
    return CloneFlag(_ask(fd, NsRequest.NSTYPE))


def owner_uid(fd: int) -> int:
    """Return the uid of who made a user namespace, in the caller's user namespace.

    Raises:
        OSError: ENOTTY no descriptor of a namespace; EINVAL one of another kind.

    Source: NS_GET_OWNER_UID(2const), ERRORS.
    """
    buffer = bytearray(4)
    try:
        fcntl.ioctl(fd, NsRequest.OWNER_UID, buffer)
    except OSError as error:
        error.add_note(f"ioctl(fd={fd}, request=NS_GET_OWNER_UID)")
        raise
    (uid,) = struct.unpack("=I", buffer)
    return int(uid)
