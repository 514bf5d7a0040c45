"""seccomp(2): modes, filters and flags, and the descriptor that listens for what a filter hands over.

A filter is bytes: eight a instruction, as struct sock_filter has them (code u16, jt u8, jf u8, k u32).
"""

from __future__ import annotations

import errno
import fcntl
import struct

from kernelproof.impl._syscalls.libc import BUFFER, UINT, ULONG, Call, address_of

SET_MODE_STRICT = 0
SET_MODE_FILTER = 1
GET_ACTION_AVAIL = 2
GET_NOTIF_SIZES = 3

FLAG_TSYNC = 1
FLAG_LOG = 2
FLAG_SPEC_ALLOW = 4
FLAG_NEW_LISTENER = 8
FLAG_TSYNC_ESRCH = 16
FLAG_WAIT_KILLABLE_RECV = 32

RESPONSE_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
ADDFD_SETFD = 1
ADDFD_SEND = 2

# _IOC of <asm-generic/ioctl.h> with the sizes of linux/seccomp.h: 80, 24, 8 and 24 bytes.
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101
NOTIF_ID_VALID = 0x40082102
NOTIF_ADDFD = 0x40182103

_seccomp = Call("seccomp", operation=UINT, flags=UINT, arguments=BUFFER)
_seccomp_by_address = Call("seccomp", operation=UINT, flags=UINT, arguments=ULONG)


class Notification:
    """A system call that waits for an answer. Immutable by convention: made by `receive` alone.

    Attributes:
        id: the cookie to answer with.
        pid: the thread, in the PID namespace of the listener; 0 if it is not in there.
        flags: 0.
        number: of the system call.
        arch: AUDIT_ARCH value of the call's convention.
        instruction_pointer: where it was made.
        arguments: six numbers.
    """

    __slots__ = ("arch", "arguments", "flags", "id", "instruction_pointer", "number", "pid")

    def __init__(self, data: bytes) -> None:
        values = struct.unpack("=QIIiIQ6Q", data)
        self.id, self.pid, self.flags, self.number, self.arch, self.instruction_pointer = values[:6]
        self.arguments: tuple[int, ...] = values[6:]


def seccomp(operation: int, flags: int = 0, arguments: bytes | None = None) -> int:
    """Call seccomp(2) with a buffer, or with a null pointer.

    Returns:
        0; with a filter and TSYNC the thread that could not follow; with NEW_LISTENER the descriptor.

    Raises:
        OSError: EACCES (no CAP_SYS_ADMIN and no no_new_privs), EBUSY (there is a listener), EFAULT, EINVAL, ENOMEM,
            EOPNOTSUPP (an action that the kernel does not know), ESRCH.

    Source: seccomp(2), ERRORS.
    """
    return _seccomp(operation, flags, None if arguments is None else bytearray(arguments))


def set_filter(instructions: bytes, flags: int = 0, *, length: int | None = None) -> int:
    """Install a filter.

    Args:
        instructions: of the program, eight bytes each.
        flags: FLAG_ bits.
        length: how many instructions the kernel is told; default: all.

    Returns:
        As `seccomp`. The listener's descriptor is close-on-exec; the caller closes it.

    Raises:
        OSError: as `seccomp`; EINVAL also for a program that is empty, too long, or not valid.
        OverflowError: more than 65535 instructions.

    Source: seccomp(2), SECCOMP_SET_MODE_FILTER.
    """
    count = len(instructions) // 8 if length is None else length
    if not 0 <= count < 1 << 16:
        raise OverflowError(f"seccomp: {count} instructions do not fit struct sock_fprog")
    code = bytearray(instructions or b"\0" * 8)
    program = bytearray(struct.pack("=HxxxxxxQ", count, address_of(code)))
    try:
        return _seccomp_by_address(SET_MODE_FILTER, flags, address_of(program))
    except OSError as error:
        error.add_note(f"filter of {count} instructions, flags={flags:#x}")
        raise


def action_available(action: int) -> bool:
    """Return whether the kernel knows an action: a return value of filters without its data.

    Raises:
        OSError: EINVAL (a kernel before 4.14), ENOSYS.

    Source: seccomp(2), SECCOMP_GET_ACTION_AVAIL.
    """
    try:
        _seccomp(GET_ACTION_AVAIL, 0, bytearray(struct.pack("=I", action)))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise
    return True


def flags_known(flags: int) -> bool:
    """Return whether the kernel knows the flags of a filter: with a null pointer it answers EFAULT, else EINVAL.

    Raises:
        OSError: ENOSYS.

    Source: seccomp(2), ERRORS.
    """
    answer = -_seccomp_by_address.attempt(SET_MODE_FILTER, flags, 0)
    if answer in (errno.EFAULT, errno.EINVAL):
        return answer == errno.EFAULT
    raise OSError(answer, "seccomp did not answer a null filter with EFAULT or EINVAL")


def notification_sizes() -> tuple[int, int, int]:
    """Return the sizes, in bytes, of the kernel's notification, response and system call data.

    Raises:
        OSError: EINVAL (a kernel before 5.0).

    Source: seccomp(2), SECCOMP_GET_NOTIF_SIZES.
    """
    sizes = bytearray(6)
    _seccomp(GET_NOTIF_SIZES, 0, sizes)
    notification, response, data = struct.unpack("=HHH", sizes)
    return notification, response, data


def receive(listener: int, *, buffer: bytes = bytes(80)) -> Notification:
    """Wait for a system call that a filter handed over.

    Args:
        listener: descriptor of the filter.
        buffer: what the kernel is to fill; it takes zero bytes only.

    Raises:
        OSError: EINVAL (the buffer is not zero), ENOENT (the target was interrupted or killed), EINTR.

    Source: seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_RECV.
    """
    data = bytearray(buffer)
    fcntl.ioctl(listener, NOTIF_RECV, data, True)
    return Notification(bytes(data))


def respond(listener: int, identifier: int, *, value: int = 0, error: int = 0, flags: int = 0) -> None:
    """Answer a notification.

    Args:
        identifier: the notification's id.
        value: what the system call returns.
        error: or the negative errno that it fails with.
        flags: RESPONSE_CONTINUE lets the kernel do the call; value and error are 0 then.

    Raises:
        OSError: EINPROGRESS (answered already), EINVAL, ENOENT (the target is not waiting any more).

    Source: seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_SEND.
    """
    fcntl.ioctl(listener, NOTIF_SEND, struct.pack("=QqiI", identifier, value, error, flags))


def check_id(listener: int, identifier: int) -> None:
    """Make sure that the target of a notification still waits.

    Raises:
        OSError: ENOENT: it does not.

    Source: seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_ID_VALID.
    """
    fcntl.ioctl(listener, NOTIF_ID_VALID, struct.pack("=Q", identifier))


def add_descriptor(
    listener: int, identifier: int, fd: int, *, flags: int = 0, newfd: int = 0, newflags: int = 0
) -> int:
    """Install a copy of a descriptor in the target, and return its number there.

    Args:
        flags: ADDFD_SETFD takes the number `newfd`; ADDFD_SEND answers the notification with the number as well.
        newflags: O_CLOEXEC, or 0.

    Raises:
        OSError: EBADF, EBUSY, EINPROGRESS, EINVAL (newfd without SETFD, or unknown flags), EMFILE, ENOENT.

    Source: seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_ADDFD.
    """
    request = bytearray(struct.pack("=QIIII", identifier, flags, fd, newfd, newflags))
    # The number is in the result of a mutable buffer alone.
    return int(fcntl.ioctl(listener, NOTIF_ADDFD, request, True))
