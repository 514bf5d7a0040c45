"""What can go wrong over netlink.

    WireError (ValueError)          bytes that are no netlink message, or a value that fits none
    ClosedError (ValueError)        the socket was closed, perhaps by another thread meanwhile
    NetlinkError (OSError)          the kernel refused; also the subclass that Python has for the errno
    └── DumpInterruptedError        a dump was inconsistent each time; `records` holds the last one

    The classes below are chosen by errno, so that `except FileExistsError` works as everywhere in Python:
    AlreadyThereError (FileExistsError), NotThereError (FileNotFoundError), NotPermittedError (PermissionError),
    NoSuchProcessError (ProcessLookupError), TimedOutError (TimeoutError)

A name that no link has is a NetlinkError with ENODEV, as the kernel says it.
"""

import os
from errno import EACCES, EEXIST, ENOENT, EPERM, ESRCH, ETIMEDOUT
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Self


class WireError(ValueError):
    """Bytes that break the rules of the format; `offset` is where, from the start of what was read."""

    def __init__(self, text: str, offset: int | None = None) -> None:
        super().__init__(text if offset is None else f"{text} (at byte {offset})")
        self.offset = offset


class ClosedError(ValueError):
    """The socket is closed."""


class Policy(NamedTuple):
    """What the kernel takes for an attribute, as far as it tells."""

    type: str
    minimum: int | None = None
    maximum: int | None = None
    minimum_length: int | None = None
    maximum_length: int | None = None
    mask: int | None = None

    def __str__(self) -> str:
        bounds = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in zip(self._fields[1:], self[1:], strict=True)
            if value is not None
        ]
        return ", ".join([self.type, *bounds])


class NetlinkError(OSError):
    """The kernel refused a request.

    Attributes:
        errno: the kernel's number, positive.
        message: the kernel's sentence (extended ack), or "".
        attribute_path: the attribute it complains of, `IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_BR_AGEING_TIME`, or None.
        offset: where that attribute begins in the request, header included, or None.
        missing: path of an attribute that should have been there, or None.
        policy: what the kernel would have taken, if it told.
        request: the request in words.
    """

    message: str
    attribute_path: str | None
    offset: int | None
    missing: str | None
    policy: Policy | None
    request: str

    def __new__(cls, errno: int, *_: object, **__: object) -> "Self":
        chosen = _CLASSES.get(errno, cls) if cls is NetlinkError else cls
        made: Self = super().__new__(chosen, errno, os.strerror(errno))  # type: ignore[assignment]
        return made

    def __init__(
        self,
        errno: int,
        message: str = "",
        *,
        attribute_path: str | None = None,
        offset: int | None = None,
        missing: str | None = None,
        policy: Policy | None = None,
        request: str = "",
    ) -> None:
        super().__init__(errno, os.strerror(errno))
        self.message = message
        self.attribute_path = attribute_path
        self.offset = offset
        self.missing = missing
        self.policy = policy
        self.request = request

    def __str__(self) -> str:
        parts = [f"[Errno {self.errno}] {self.strerror}"]
        parts += [f"{self.attribute_path}: {self.message}" if self.attribute_path else self.message]
        parts += [f"missing {self.missing}" if self.missing else ""]
        parts += [f"takes {self.policy}" if self.policy else ""]
        text = "; ".join(part for part in parts if part)
        return f"{text} ({self.request})" if self.request else text


class AlreadyThereError(NetlinkError, FileExistsError):
    """EEXIST."""


class NotThereError(NetlinkError, FileNotFoundError):
    """ENOENT."""


class NotPermittedError(NetlinkError, PermissionError):
    """EPERM or EACCES: mostly CAP_NET_ADMIN in the user namespace that owns the network namespace."""


class NoSuchProcessError(NetlinkError, ProcessLookupError):
    """ESRCH: also a route, rule or process that is not there."""


class TimedOutError(NetlinkError, TimeoutError):
    """ETIMEDOUT: the deadline of the caller passed."""


class DumpInterruptedError(NetlinkError):
    """Something changed during a dump, each time that it was repeated; `records` are those of the last time.

    Its errno is EAGAIN, never EINTR: that is a signal's.
    """

    records: tuple[object, ...] = ()


_CLASSES: dict[int, type[NetlinkError]] = {
    EEXIST: AlreadyThereError,
    ENOENT: NotThereError,
    EPERM: NotPermittedError,
    EACCES: NotPermittedError,
    ESRCH: NoSuchProcessError,
    ETIMEDOUT: TimedOutError,
}
