"""A session keyring of the container's own, so that keys of who started it are out of reach.

Source: keyctl(2), KEYCTL_JOIN_SESSION_KEYRING; session-keyring(7).
"""

from __future__ import annotations

import errno

from kernelproof.impl._syscalls.keyring import USER_SEARCH, describe, join_session_keyring, set_permissions
from kernelproof.impl.libcontainer.operations import Operation, Site


class JoinKeyring(Operation):
    """Joins the container's session keyring, made if it is not there: a program that is started later finds it."""

    __slots__ = ("name",)
    stage = "final"
    name: str

    def describe(self) -> str:
        """What will happen."""
        return f"join the session keyring {self.name}"

    def do(self, site: Site) -> None:
        """Does it; a kernel without keys has none to protect.

        Raises:
            OSError: EDQUOT: the user has too many keyrings; EACCES.
        """
        try:
            serial = join_session_keyring(self.name)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return
        permissions = int(describe(serial).split(";")[3], 16)
        if not permissions & USER_SEARCH:
            set_permissions(serial, permissions | USER_SEARCH)
