"""As whom a process runs: its ids read from /proc, and changed in the order in which that can be done.

    become(resolve_user("ada", root=container))     # for good: groups, then gids, then uids
    with acting_as(1000, 1000): os.mkdir(path)      # for the time of a block

A process that gives up root first cannot change its groups any more, and one that forgets them keeps root's. So the
order is not the caller's to get wrong, and what was reached is read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.user.errors import UserDatabaseError
from kernelproof.impl.user.records import check_id

if TYPE_CHECKING:
    from kernelproof.impl.user.exec_user import ExecUser

_LEAVE = 2**32 - 1


class Ids(NamedTuple):
    """The four ids of a kind."""

    real: int
    effective: int
    saved: int
    filesystem: int


class Credentials(NamedTuple):
    """As whom a process runs."""

    uids: Ids
    gids: Ids
    groups: tuple[int, ...]  # supplementary


def parse_credentials(status: str) -> Credentials:
    """Return the credentials that the text of /proc/PID/status has.

    Raises:
        ValueError: it is no such text.

    >>> parse_credentials("Uid:\\t0\\t1\\t2\\t3\\nGid:\\t4\\t5\\t6\\t7\\nGroups:\\t8 9 \\n").groups
    (8, 9)
    """
    lines = dict(line.partition(":")[::2] for line in status.split("\n"))
    try:
        uids, gids = (Ids(*map(int, lines[name].split())) for name in ("Uid", "Gid"))
        groups = tuple(int(number) for number in lines["Groups"].split())
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no status of a process: {error}") from error
    return Credentials(uids, gids, groups)


def read_credentials(pid: int | str = "self", *, proc: str = "/proc") -> Credentials:
    """Return as whom a process runs, in the ids of the caller's user namespace.

    Raises:
        OSError: ENOENT no such process; EACCES.
        ValueError: what is there is no status of a process.

    Source: proc_pid_status(5), Uid, Gid and Groups.
    """
    with open(f"{proc}/{pid}/status", encoding="utf-8", errors="surrogateescape") as file:
        return parse_credentials(file.read())


def set_groups(groups: Iterable[int]) -> None:
    """Set the supplementary groups of the process.

    Raises:
        IdRangeError: a number is no id.
        OSError: EPERM without CAP_SETGID, or denied in the user namespace; EINVAL over 65,536 of them, or not mapped.

    Source: setgroups(2), ERRORS.
    """
    # Only here: who reads credentials does not load it.
    from kernelproof.impl._syscalls.identity import setgroups

    setgroups([check_id(gid, "supplementary group") for gid in groups])


def set_uids(real: int | None = None, effective: int | None = None, saved: int | None = None) -> None:
    """Set real, effective and saved uid of the process; None leaves one as it is. The filesystem uid follows.

    Raises:
        IdRangeError: a number is no id.
        OSError: EPERM without CAP_SETUID for another uid than the present three; EINVAL not mapped; EAGAIN.

    Source: setresuid(2), ERRORS.
    """
    from kernelproof.impl._syscalls.credentials import setresuid  # as above

    setresuid(*(_number(each, "uid") for each in (real, effective, saved)))


def set_gids(real: int | None = None, effective: int | None = None, saved: int | None = None) -> None:
    """Set real, effective and saved gid of the process; as set_uids.

    Raises:
        IdRangeError: a number is no id.
        OSError: EPERM without CAP_SETGID for another gid than the present three; EINVAL not mapped.

    Source: setresgid(2), ERRORS.
    """
    from kernelproof.impl._syscalls.credentials import setresgid  # as above

    setresgid(*(_number(each, "gid") for each in (real, effective, saved)))


def _number(number: int | None, what: str) -> int:
    return _LEAVE if number is None else check_id(number, what)


def become(user: ExecUser) -> None:
    """Become a user for good: supplementary groups, then gids, then uids, and prove it.

    Args:
        user: from resolve_user.

    Raises:
        IdRangeError: a number is no id.
        OSError: EPERM without CAP_SETGID or CAP_SETUID; EINVAL an id is not mapped, or too many groups. What was
            changed before that stays changed: end the process.
        UserDatabaseError: the process is not who it should be afterwards.

    Source: credentials(7), User and group identifiers.
    """
    ids = check_id(user.uid, "uid"), check_id(user.gid, "gid")
    set_groups(user.groups)
    set_gids(ids[1], ids[1], ids[1])
    set_uids(ids[0], ids[0], ids[0])
    reached = read_credentials()
    if set(reached.uids) != {ids[0]} or set(reached.gids) != {ids[1]} or set(reached.groups) != set(user.groups):
        raise UserDatabaseError(f"asked to become uid {ids[0]}, gid {ids[1]}, groups {user.groups}; is {reached}")


@contextmanager
def acting_as(uid: int, gid: int | None = None) -> Iterator[None]:
    """Have other effective ids for the time of a block; the real and saved ones stay, and lead back.

    Files are made and opened as that user, but signals and ptrace still go by the real one: no way to run what is not
    trusted. The supplementary groups stay.

    Args:
        uid: effective uid.
        gid: effective gid; None leaves it.

    Raises:
        IdRangeError, OSError: as set_uids and set_gids.

    Source: seteuid(2), DESCRIPTION.
    """
    before = read_credentials()
    set_gids(effective=gid)
    try:
        set_uids(effective=uid)
    except BaseException:
        set_gids(effective=before.gids.effective)
        raise
    try:
        yield
    finally:
        set_uids(effective=before.uids.effective)
        set_gids(effective=before.gids.effective)
