"""Landlock: landlock_create_ruleset(2), landlock_add_rule(2) and landlock_restrict_self(2)."""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, UINT, ULONG, Call

CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
RULE_NET_PORT = 2

_create_ruleset = Call("landlock_create_ruleset", attributes=BUFFER, size=ULONG, flags=UINT)
_add_rule = Call("landlock_add_rule", ruleset_fd=INT, rule_type=INT, attributes=BUFFER, flags=UINT)
_restrict_self = Call("landlock_restrict_self", ruleset_fd=INT, flags=UINT)


def abi_version() -> int:
    """Return the highest Landlock ABI that the kernel has: 1 or more.

    Raises:
        OSError: ENOSYS (not built in), EOPNOTSUPP (built in, but not enabled at boot).

    Source: landlock_create_ruleset(2), DESCRIPTION and ERRORS.
    """
    return _create_ruleset(None, 0, CREATE_RULESET_VERSION)


def create_ruleset(fs: int, net: int = 0, scoped: int = 0, *, attributes: bytes | None = None) -> int:
    """Make a ruleset that denies what it handles and no rule allows; return its descriptor, which is close-on-exec.

    Args:
        fs: LANDLOCK_ACCESS_FS_ bits that it handles.
        net: LANDLOCK_ACCESS_NET_ bits; ABI 4.
        scoped: LANDLOCK_SCOPE_ bits; ABI 6.
        attributes: the structure in bytes, instead of the three.

    Raises:
        OSError: EINVAL (a bit that the kernel does not know, or a size below 8), E2BIG (bytes beyond what it knows
            that are not zero), ENOMSG (nothing handled), ENOSYS, EOPNOTSUPP.

    Source: landlock_create_ruleset(2), ERRORS.
    """
    if attributes is None:
        # The shortest structure that says it: an older kernel knows no longer one.
        attributes = struct.pack("=3Q", fs, net, scoped)[: 24 if scoped else 16 if net else 8]
    return _create_ruleset(bytearray(attributes), len(attributes), 0)


def add_path(ruleset: int, parent_fd: int, allowed: int) -> None:
    """Allow accesses to a file, or to all below a directory.

    Args:
        ruleset: descriptor of `create_ruleset`.
        parent_fd: of the file or directory; O_PATH is enough.
        allowed: LANDLOCK_ACCESS_FS_ bits among the handled ones.

    Raises:
        OSError: EINVAL (not handled, or rights of directories for a file), ENOMSG (nothing allowed), EBADF, EBADFD (a
            descriptor of another kind).

    Source: landlock_add_rule(2), ERRORS.
    """
    _add_rule(ruleset, RULE_PATH_BENEATH, bytearray(struct.pack("=Qi", allowed, parent_fd)), 0)


def add_port(ruleset: int, port: int, allowed: int) -> None:
    """Allow accesses to a TCP port.

    Args:
        allowed: LANDLOCK_ACCESS_NET_ bits among the handled ones.

    Raises:
        OSError: EINVAL (not handled, or a port above 65535), ENOMSG, EBADF, EBADFD, EAFNOSUPPORT (no TCP here).

    Source: landlock_add_rule(2), ERRORS.
    """
    _add_rule(ruleset, RULE_NET_PORT, bytearray(struct.pack("=QQ", allowed, port)), 0)


def restrict_self(ruleset: int, flags: int = 0) -> None:
    """Put the calling thread, and what it will start, under a ruleset, for good.

    Raises:
        OSError: EPERM (neither no_new_privs nor CAP_SYS_ADMIN), E2BIG (16 layers are the most), EBADF, EBADFD,
            EINVAL (flags), ENOSYS, EOPNOTSUPP.

    Source: landlock_restrict_self(2), ERRORS.
    """
    _restrict_self(ruleset, flags)
