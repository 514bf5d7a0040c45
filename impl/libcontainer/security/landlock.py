"""Landlock: what a process gives up by itself, below its own root, for files, TCP ports and what crosses its border.

A policy names the version of the interface that it was written for (`abi`), and handles what that version knows: a
newer kernel never tightens it. What an older kernel can't do is an error (`strict`), or left out and told.

Rights are additive: what is allowed for a directory can't be taken away for one below it, so a policy that tries is an
error. A program under a policy for files can't mount or change its root: this comes after all mounts, as a late step.
Connections of MPTCP sockets are not judged by the rules for TCP.

Source: landlock(7); Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import errno
import os
import stat

from kernelproof.impl._syscalls.landlock import abi_version, add_path, add_port, create_ruleset, restrict_self
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.own import Landlock

NEWEST = 10  # the newest version that this module has rights of

# Right -> its bit, and the version it came with. linux/landlock.h
FILE_RIGHTS = {
    "execute": (0, 1),
    "write_file": (1, 1),
    "read_file": (2, 1),
    "read_dir": (3, 1),
    "remove_dir": (4, 1),
    "remove_file": (5, 1),
    "make_char": (6, 1),
    "make_dir": (7, 1),
    "make_reg": (8, 1),
    "make_sock": (9, 1),
    "make_fifo": (10, 1),
    "make_block": (11, 1),
    "make_sym": (12, 1),
    "refer": (13, 2),
    "truncate": (14, 3),
    "ioctl_dev": (15, 5),
    "resolve_unix": (16, 9),
}
PORT_RIGHTS = {"bind_tcp": (0, 4), "connect_tcp": (1, 4)}
SCOPES = {"abstract_unix_socket": (0, 6), "signal": (1, 6)}
# What a rule for a file, and not for a directory, may allow.
OF_FILES = ("execute", "write_file", "read_file", "truncate", "ioctl_dev", "resolve_unix")


class LandlockError(ValueError):
    """A policy that can't be had: it contradicts itself, or this kernel can't do it."""


class Policy:
    """A policy as the kernel takes it. Immutable by convention: made by `plan_policy` alone.

    Attributes:
        fs: handled rights of files, a bit each.
        net: handled rights of TCP ports.
        scoped: scopes.
        paths: pairs of a path and the allowed rights.
        ports: pairs of a port and the allowed rights.
        lost: what was asked for and this kernel can't do, as sentences.
    """

    __slots__ = ("fs", "lost", "net", "paths", "ports", "scoped")

    def __init__(
        self,
        fs: int,
        net: int,
        scoped: int,
        paths: tuple[tuple[str, int], ...],
        ports: tuple[tuple[int, int], ...],
        lost: tuple[str, ...],
    ) -> None:
        self.fs = fs
        self.net = net
        self.scoped = scoped
        self.paths = paths
        self.ports = ports
        self.lost = lost


def read_abi() -> int:
    """Return the version of Landlock that is here, 0 if there is none.

    Raises:
        OSError: an answer that means neither.
    """
    try:
        return abi_version()
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def rights_of(version: int) -> tuple[str, ...]:
    """The rights of files that a version knows."""
    return tuple(name for name, (_, since) in FILE_RIGHTS.items() if since <= version)


def check_policy(policy: Landlock) -> None:
    """Refuses a policy that contradicts itself, whatever the kernel.

    Raises:
        LandlockError: a name or version that nobody knows, a right that the policy's version does not have or that it
            allows without handling it, or a deeper path with fewer rights than the one above.
    """
    if not 1 <= policy.abi <= NEWEST:
        raise LandlockError(f"landlock.abi: {policy.abi} is no version that is known: 1 to {NEWEST} are")
    handled = handled_rights(policy)
    for name in (*policy.handled, *(right for each in policy.paths for right in each.rights)):
        _check_name(name, FILE_RIGHTS, policy.abi, "right of files")
    for name in policy.scopes:
        _check_name(name, SCOPES, policy.abi, "scope")
    if (policy.bind_tcp or policy.connect_tcp or policy.handle_tcp) and policy.abi < 4:
        raise LandlockError(f"landlock: rules for TCP came with version 4, the policy is written for {policy.abi}")
    for each in policy.paths:
        unhandled = [right for right in each.rights if right not in handled]
        if unhandled:
            raise LandlockError(
                f"landlock: {each.path} allows {', '.join(unhandled)}, which the policy does not handle"
            )
        if not each.rights:
            raise LandlockError(
                f"landlock: the rule for {each.path} allows nothing: leave it out, all is denied anyway"
            )
    _refuse_narrower(policy)


def _check_name(name: str, table: dict[str, tuple[int, int]], version: int, what: str) -> None:
    if name not in table:
        raise LandlockError(f"landlock: there is no {what} {name!r}; known: {', '.join(table)}")
    if table[name][1] > version:
        raise LandlockError(f"landlock: {name} came with version {table[name][1]}, the policy is written for {version}")


def _refuse_narrower(policy: Landlock) -> None:
    # Rights add up on the way to a file: a rule below that names fewer would be read as a denial, and is none.
    for upper in policy.paths:
        for lower in policy.paths:
            if lower is upper or not is_below(lower.path, upper.path):
                continue
            missing = [right for right in upper.rights if right not in lower.rights]
            if missing and set(lower.rights) < set(upper.rights):
                raise LandlockError(
                    f"landlock: {lower.path} can't have less than {upper.path} above it: {', '.join(missing)} "
                    "is allowed there, and rights add up; allow it for narrower paths only"
                )


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies below it, by their texts."""
    path, directory = os.path.normpath(path), os.path.normpath(directory)
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def handled_rights(policy: Landlock) -> tuple[str, ...]:
    """The rights of files that a policy handles: those it names, else all of its version if it has paths.

    A policy that speaks of ports or scopes alone leaves files alone.
    """
    if policy.handled:
        return policy.handled
    return rights_of(policy.abi) if policy.paths or not (policy.handle_tcp or policy.scopes or _ports(policy)) else ()


def _ports(policy: Landlock) -> bool:
    return bool(policy.bind_tcp or policy.connect_tcp)


def plan_policy(policy: Landlock, version: int) -> Policy:
    """Return what of a policy a kernel of this version can do.

    Args:
        policy: as asked.
        version: of the kernel's Landlock; 0: it has none.

    Raises:
        LandlockError: the policy contradicts itself, or it is strict and something of it can't be had.
    """
    check_policy(policy)
    lost: list[str] = []

    def bits(names: tuple[str, ...], table: dict[str, tuple[int, int]]) -> int:
        missing = [name for name in names if table[name][1] > version]
        lost.extend(f"{name} needs version {table[name][1]} of Landlock" for name in missing)
        return sum({1 << table[name][0] for name in names if table[name][1] <= version})

    fs = bits(handled_rights(policy), FILE_RIGHTS)
    tcp = tuple(PORT_RIGHTS) if policy.handle_tcp or _ports(policy) else ()
    net, scoped = bits(tcp, PORT_RIGHTS), bits(policy.scopes, SCOPES)
    if lost and policy.strict:
        here = f"version {version} is here" if version else "this kernel has none, or it is off"
        raise LandlockError(f"landlock: {'; '.join(lost)}; {here}, and the policy is strict")
    paths = tuple((each.path, _mask(each.rights) & fs) for each in policy.paths if _mask(each.rights) & fs)
    ports = dict.fromkeys((*policy.bind_tcp, *policy.connect_tcp), 0)
    for port in ports:
        ports[port] = net & ((port in policy.bind_tcp) << 0 | (port in policy.connect_tcp) << 1)
    return Policy(fs, net, scoped, paths, tuple((port, of) for port, of in ports.items() if of), tuple(lost))


def _mask(rights: tuple[str, ...]) -> int:
    return sum({1 << FILE_RIGHTS[name][0] for name in rights})


_FILES_ONLY = sum(1 << FILE_RIGHTS[name][0] for name in OF_FILES)


def confine(policy: Policy) -> None:
    """Puts the calling thread under a policy.

    Raises:
        OSError: ENOENT, ENOTDIR …: a path; EPERM: neither no_new_privs nor CAP_SYS_ADMIN; E2BIG: 16 layers are the
            most, and an outer sandbox has used some.
    """
    if not (policy.fs or policy.net or policy.scoped):
        return
    ruleset = create_ruleset(policy.fs, policy.net, policy.scoped)
    try:
        for path, rights in policy.paths:
            _allow(ruleset, path, rights)
        for port, rights in policy.ports:
            add_port(ruleset, port, rights)
        try:
            restrict_self(ruleset)
        except OSError as error:
            if error.errno == errno.E2BIG:
                error.add_note(Remedy("this process is below 16 Landlock domains already: an outer sandbox made them"))
            raise
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILES_ONLY
        if rights:
            add_path(ruleset, fd, rights)
    finally:
        os.close(fd)


class Confine(Operation):
    """Puts the process under a Landlock policy.

    Attributes:
        policy: the record of the configuration; what of it this kernel can do is found out before the root is entered.
    """

    __slots__ = ("policy",)
    stage = "final"
    policy: Landlock

    def describe(self) -> str:
        """What will happen."""
        handled = handled_rights(self.policy)
        paths = "; ".join(f"{each.path}: {' '.join(each.rights)}" for each in self.policy.paths) or "nothing"
        parts = [f"files: {len(handled)} rights handled, allowed below {paths}"] if handled else []
        if self.policy.handle_tcp or _ports(self.policy):
            parts.append(
                f"TCP: bind {self.policy.bind_tcp or 'nothing'}, connect {self.policy.connect_tcp or 'nothing'}"
            )
        if self.policy.scopes:
            parts.append(f"no {' and no '.join(self.policy.scopes)} across the border")
        return f"confine by Landlock (version {self.policy.abi}): {'; '.join(parts)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LandlockError: the policy is strict and this kernel can't do all of it.
            OSError: as `confine`.
        """
        policy = plan_policy(self.policy, read_abi())
        for lost in policy.lost:
            site.refuse(f"Landlock: {lost}")
        confine(policy)
