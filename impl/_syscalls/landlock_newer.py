"""What Landlock learnt after its first ABI: flags of its calls, rights of UDP and of sockets with names, errata.

The calls in their first form are in `landlock`. A kernel that does not know a flag or right refuses it with EINVAL;
which ABI brought it stands beside it.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from kernelproof.impl._syscalls.landlock import RULE_PATH_BENEATH
from kernelproof.impl._syscalls.libc import BUFFER, INT, UINT, ULONG, Call

CREATE_RULESET_ERRATA = 2
ADD_RULE_QUIET = 1  # ABI 10
ACCESS_FS_RESOLVE_UNIX = 1 << 16  # ABI 9


class NetAccess(IntFlag):
    """LANDLOCK_ACCESS_NET_ bits."""

    BIND_TCP = 1  # ABI 4
    CONNECT_TCP = 2  # ABI 4
    BIND_UDP = 4  # ABI 10
    CONNECT_SEND_UDP = 8  # ABI 10


class RestrictFlag(IntFlag):
    """LANDLOCK_RESTRICT_SELF_ flags of `landlock.restrict_self`."""

    LOG_SAME_EXEC_OFF = 1  # ABI 7
    LOG_NEW_EXEC_ON = 2  # ABI 7
    LOG_SUBDOMAINS_OFF = 4  # ABI 7
    TSYNC = 8  # ABI 8
    NO_NEW_PRIVS = 16  # ABI 11


_create_ruleset = Call("landlock_create_ruleset", attributes=BUFFER, size=ULONG, flags=UINT)
_add_rule = Call("landlock_add_rule", ruleset_fd=INT, rule_type=INT, attributes=BUFFER, flags=UINT)


def read_errata(*, size: int = 0) -> int:
    """Return which errata of Landlock the kernel has fixed: bit N - 1 for erratum N.

    Args:
        size: of the structure, which must be 0.

    Raises:
        OSError: EINVAL (size is not 0, or the kernel is older than the errata), ENOSYS, EOPNOTSUPP.

    Source: landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_ERRATA.
    """
    return _create_ruleset(None, size, CREATE_RULESET_ERRATA)


def add_quiet_path(ruleset: int, parent_fd: int, allowed: int) -> None:
    """Allow accesses below a file, as `landlock.add_path` does; denials there are logged no more.

    Raises:
        OSError: as `landlock.add_path`; EINVAL before ABI 10.

    Source: Documentation/userspace-api/landlock.rst, Quiet rule flag (ABI < 10).
    """
    attributes = bytearray(struct.pack("=Qi", allowed, parent_fd))
    _add_rule(ruleset, RULE_PATH_BENEATH, attributes, ADD_RULE_QUIET)
