"""Which journal a database file gets, and why: a decision of its own, without touching the file.

SQLite's write-ahead log (WAL) lets readers and the writer work side by side. Versions 3.7.0 to 3.51.2 have a rare
race in it: two connections that write and checkpoint at one instant can corrupt the file. So WAL is chosen only where
the library is known to be repaired, never on a network file system (the log's index is shared memory), and the
rollback journal with full synchronisation everywhere else.

The rollback journal is truncated, not deleted, at each commit: with `synchronous=FULL` SQLite synchronises the
truncated file but not the directory of a deleted one, so that only the former keeps a commit that returned.

Sources: SQLite documentation, wal, sections 2.2 and 11; pragma, synchronous and journal_mode.
"""

from __future__ import annotations

import os
from typing import NamedTuple

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "ocfs2",
        "gfs2",
        "ncpfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "vboxsf",
        "virtiofs",
        "prl_fs",
    }
)
"""File systems on which another host, or the host of a guest, may hold the same file without our shared memory."""

FIXED_RELEASES = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""The first repaired release of each line; a later line than the last one is repaired throughout."""

WITHDRAWN_RELEASES = ((3, 52, 0),)
"""Releases that were taken back by their makers: treated as not repaired."""


class Journal(NamedTuple):
    """The journal mode of a file, as SQLite spells it, with the reason for the choice."""

    mode: str
    synchronous: str
    reason: str


def is_wal_repaired(version: tuple[int, int, int]) -> bool:
    """Tell whether this SQLite release is free of the WAL-reset race.

    Args:
        version: As in `sqlite3.sqlite_version_info`.

    Source: SQLite documentation, wal, section 11.
    """
    if version in WITHDRAWN_RELEASES:
        return False
    if version >= FIXED_RELEASES[-1]:
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in FIXED_RELEASES)


def plan_journal(asked: str, version: tuple[int, int, int], fstype: str | None) -> Journal:
    """Choose the journal of a file.

    Args:
        asked: `auto`, `wal` (the caller insists) or `rollback`.
        version: The SQLite release, as in `sqlite3.sqlite_version_info`.
        fstype: The type of the file's file system, None where it is not known.

    Raises:
        ValueError: `asked` is none of the three, or is `wal` on a network file system.
    """
    if asked not in ("auto", "wal", "rollback"):
        raise ValueError(f"journal={asked!r}: choose auto, wal or rollback")
    release = ".".join(map(str, version))
    if asked == "rollback":
        return Journal("truncate", "full", "asked for")
    if fstype in NETWORK_FILE_SYSTEMS:
        if asked == "wal":
            raise ValueError(f"journal='wal': the file lies on {fstype}, where WAL has no shared memory; use rollback")
        return Journal("truncate", "full", f"network file system {fstype}")
    if asked == "wal":
        return Journal("wal", "full", "asked for")
    if is_wal_repaired(version):
        return Journal("wal", "full", f"SQLite {release} is free of the WAL-reset race")
    return Journal("truncate", "full", f"SQLite {release} has the WAL-reset race")


def parse_fstype(mountinfo: str, device: str, path: str) -> str | None:
    """Find the type of the file system that holds a path in the text of a mountinfo file.

    A mount whose device number is the path's wins; without one (btrfs gives each subvolume a number of its own) the
    longest mount point above the path does, the last of equal ones.

    Args:
        mountinfo: The text of `/proc/PID/mountinfo`.
        device: `major:minor` of the path.
        path: Absolute, without symbolic links.

    Source: proc_pid_mountinfo(5).
    """
    best: tuple[bool, int, str] | None = None
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescape(fields[4])
        if path != point and not path.startswith(point.rstrip("/") + "/"):
            continue
        candidate = (fields[2] == device, len(point), right.split(" ", 1)[0])
        if best is None or candidate[:2] >= best[:2]:
            best = candidate
    return None if best is None else best[2]


def read_fstype(
    path: str | os.PathLike[str], *, mountinfo: str | os.PathLike[str] = "/proc/self/mountinfo"
) -> str | None:
    """Read the type of the file system that holds a path; None where the system has no mountinfo (BSD, macOS).

    Raises:
        FileNotFoundError: The path does not exist.
    """
    real = os.path.realpath(path, strict=True)
    number = os.stat(real).st_dev
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    return parse_fstype(text, f"{os.major(number)}:{os.minor(number)}", os.fsdecode(real))


def _unescape(field: str) -> str:
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(octal, character)
    return field
