"""Handing a cgroup over to another user, and why a move between cgroups is refused.

Source: cgroup-v2.rst, Delegation; cgroups(7), Cgroups delegation.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from kernelproof.impl.cgroups.directory import Directory, Path
from kernelproof.impl.cgroups.enabling import THREADED, enabled

DELEGATE = "/sys/kernel/cgroup/delegate"
_FALLBACK = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")  # before Linux 4.15, cgroup-v2.rst


class Withheld(NamedTuple):
    """A controller that a cgroup does not have: the nearest cgroup above that does not give it on, and why."""

    controller: str
    by: str
    why: str


def delegate(directory: Directory, uid: int, gid: int, *, list_file: Path = DELEGATE) -> tuple[str, ...]:
    """Give a cgroup to a user: the directory, and exactly the files that the kernel lists for it.

    Limits stay with the giver. Nothing is given if one step fails.

    Args:
        directory: of version 2.
        uid, gid: in this user namespace.
        list_file: where the kernel lists the files.

    Returns:
        Names of the files that were given.

    Raises:
        ValueError: a negative ID.
        OSError: EPERM: no right to; EROFS; EINVAL: an ID that is not in this user namespace.
    """
    if uid < 0 or gid < 0:
        raise ValueError(f"user {uid} and group {gid}: IDs are not negative")
    files = read_delegated_files(list_file)
    done: list[tuple[str, int, int]] = []
    try:
        for name in (*files, ""):
            before = _chown(directory, name, uid, gid)
            if before is not None:
                done.append((name, *before))
    except OSError:
        for name, old_uid, old_gid in reversed(done):
            with suppress(OSError):
                _chown(directory, name, old_uid, old_gid)
        raise
    return tuple(name for name, _, _ in done if name)


def read_delegated_files(list_file: Path = DELEGATE) -> tuple[str, ...]:
    """The interface files that go with a cgroup, as the kernel lists them; those of its first release elsewhere."""
    try:
        with open(list_file, encoding="ascii") as file:
            return tuple(file.read().split())
    except FileNotFoundError:
        return _FALLBACK


def _chown(directory: Directory, name: str, uid: int, gid: int) -> tuple[int, int] | None:
    try:
        fd = directory.open_file(name, os.O_PATH) if name else os.dup(directory.fileno())
    except FileNotFoundError:
        return None  # of a controller that is not enabled here
    try:
        before = os.fstat(fd)
        os.chown(f"/proc/self/fd/{fd}", uid, gid)
    finally:
        os.close(fd)
    return before.st_uid, before.st_gid


def report_withheld(chain: tuple[Directory, ...]) -> tuple[Withheld, ...]:
    """For each controller that a cgroup lacks, which cgroup above withholds it.

    Args:
        chain: the cgroup, its parent, and so on up to the mounted root.
    """
    has = set(chain[0].controllers())
    found = []
    for controller in chain[-1].controllers():
        if controller in has:
            continue
        for directory in chain[1:]:
            if controller in directory.controllers() and controller not in enabled(directory):
                found.append(Withheld(controller, directory.path, _why(directory, controller)))
                break
    return tuple(found)


def _why(directory: Directory, controller: str) -> str:
    kind = (directory.read_or_none("cgroup.type") or "domain").strip()
    if kind != "domain" and controller not in THREADED:
        return f"it is of type {kind}, where {controller} does not work"
    pids = () if kind == "threaded" else directory.processes()
    if pids and directory.read_or_none("cgroup.type") is not None:
        return f"it holds {len(pids)} processes, so it can give nothing on: move them into a cgroup below it"
    if not _is_writable(directory, "cgroup.subtree_control"):
        return "its cgroup.subtree_control is not this user's to write: it was not delegated"
    return f"nobody enabled it: write +{controller} to its cgroup.subtree_control"


def explain_migration(
    source: Directory, target: Directory, ancestor: Directory, *, threads: bool = False
) -> str | None:
    """Why a process can't be moved between two cgroups, as far as files can tell; None: nothing speaks against it.

    Args:
        source: where it is.
        target: where it shall be.
        ancestor: the nearest cgroup that is above both.
        threads: a thread is moved, not a process.
    """
    file = "cgroup.threads" if threads else "cgroup.procs"
    for directory in (target, ancestor):
        if not _is_writable(directory, file):
            what = "the target" if directory is target else "the common ancestor"
            return f"{file} of {what} {directory.path} is not this user's to write: both must be"
    kind = (target.read_or_none("cgroup.type") or "domain").strip()
    if kind == "domain invalid":
        return f"{target.path} is an invalid domain: write threaded to its cgroup.type first"
    if kind == "threaded" and not threads:
        return f"{target.path} is threaded: it takes threads of its domain's processes, by cgroup.threads"
    if kind != "threaded" and enabled(target) and target.read_or_none("cgroup.type") is not None:
        given = [name for name in enabled(target) if kind == "domain" or name not in THREADED]
        if given:
            return f"{target.path} gives {', '.join(given)} to those below it, so it may hold no processes"
    return None


def _is_writable(directory: Directory, file: str) -> bool:
    try:
        os.close(directory.open_file(file, os.O_WRONLY))
    except OSError:
        return False
    return True
