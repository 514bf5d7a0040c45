"""Who the process is: user, groups, file mode mask.

Numbers are numbers: nothing is looked up for them. A user by name, as in 2014, is looked up by impl.user in the
container's own files, whose rules keep "1" from becoming root.

Source: setresuid(2), setgroups(2), user_namespaces(7); OCI runtime specification 1.3, config.md, "POSIX-platform User".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.prctl import PR_SET_KEEPCAPS, prctl
from kernelproof.impl.libcontainer.operations import Operation, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.user.exec_user import ExecUser

HIGHEST = 4294967294  # 4294967295 means "leave it" to the kernel: the process would stay who it is


def check_id(number: int, what: str) -> int:
    """Return an id that the kernel takes as one.

    Raises:
        ValueError: it is not 0 to 4294967294.
    """
    if not 0 <= number <= HIGHEST:
        raise ValueError(f"{what} {number} is no id: 0 to {HIGHEST} are")
    return number


class FindUser(Operation):
    """Looks a user up in the container's own passwd and group."""

    __slots__ = ("name",)
    stage = "root"
    name: str

    def __init__(self, *values: object) -> None:
        super().__init__(*values)
        _resolver()  # nothing may be imported once the root is the container's

    def describe(self) -> str:
        """What will happen."""
        return f"look up the user {self.name!r} in the container"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LookupError: there is no such user or group.
            ValueError: the line can't be used.
            OSError: a file can't be read.
        """
        site.found["user"] = _resolver()(self.name)


def _resolver() -> Callable[[str], ExecUser]:
    # Only users by name need it: modules of 10 ms.
    from kernelproof.impl.user.exec_user import resolve_user

    return resolve_user


class BecomeUser(Operation):
    """Takes the user's ids and groups, keeping permitted capabilities for the step that sets them.

    Attributes:
        found: whether FindUser's result holds instead of the numbers.
        groups: all supplementary groups; they replace the present ones.
    """

    __slots__ = ("found", "gid", "groups", "uid")
    stage = "final"
    found: bool
    gid: int
    groups: tuple[int, ...]
    uid: int

    def describe(self) -> str:
        """What will happen."""
        if self.found:
            return "become the user that was looked up"
        groups = f", groups {' '.join(map(str, self.groups))}" if self.groups else ", no further groups"
        return f"become user {self.uid}, group {self.gid}{groups}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: an id is not mapped in the user namespace; EPERM: groups are denied there, or the runtime
                may not.
            ValueError: an id that would mean "leave it".
        """
        uid, gid, groups = self.uid, self.gid, self.groups
        if self.found:
            user = site.found["user"]
            uid, gid, groups = (getattr(user, name) for name in ("uid", "gid", "groups"))
        for number, what in ((uid, "uid"), (gid, "gid"), *((each, "group") for each in groups)):
            check_id(number, what)
        prctl(PR_SET_KEEPCAPS, 1)
        _set_groups(groups)
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            if error.errno == errno.EINVAL:
                error.add_note(f"user {uid} or group {gid} is not mapped in the container's user namespace")
            raise
        prctl(PR_SET_KEEPCAPS, 0)


def _set_groups(groups: tuple[int, ...]) -> None:
    try:
        os.setgroups(groups)
    except PermissionError as error:
        # Denied in the user namespace: then nobody has groups to lose, and only who asks for some is refused.
        if groups:
            error.add_note(f"groups {groups} can't be had: setgroups is denied in the container's user namespace")
            raise
    except OSError as error:
        error.add_note(f"setgroups({list(groups)}): is each mapped in the container's user namespace?")
        raise


class SetUmask(Operation):
    """Sets the file mode mask."""

    __slots__ = ("mask",)
    stage = "final"
    mask: int

    def describe(self) -> str:
        """What will happen."""
        return f"set the file mode mask to {self.mask:04o}"

    def do(self, site: Site) -> None:
        """Does it. Nothing refuses it."""
        os.umask(self.mask)
