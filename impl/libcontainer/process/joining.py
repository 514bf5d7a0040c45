"""Namespaces beside that of PIDs, which the process is born in: those of a path are joined, new ones made.

Rights come from two sides: most namespaces of the host can be joined with the host's rights alone, those of a joined
user namespace only with the rights in it. So each is tried before the user namespace is joined, and again after it.

Source: setns(2), unshare(2), user_namespaces(7), "Interaction of user namespaces and other types of namespaces".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.namespaces import setns, unshare
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.namespaces import FLAGS, flags_of
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.libcontainer.process.imports import refuse_imports

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl._syscalls import nsfs
else:
    from kernelproof.impl._syscalls.late import Late

    nsfs = Late("kernelproof.impl._syscalls.nsfs")

PREFIX = "namespace-"


class OpenNamespaces(Operation):
    """Opens the namespaces of a configuration's paths, each of the kind that it must be, before anything is joined."""

    __slots__ = ("joined",)
    stage = "host"
    joined: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """What will happen."""
        return "open namespaces: " + ", ".join(f"{kind} {path}" for kind, path in self.joined)

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, EACCES of a path.
            ValueError: it leads to no namespace, or to one of another kind.
        """
        for kind, path in self.joined:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            site.descriptors[PREFIX + kind] = fd
            try:
                found = int(nsfs.namespace_kind(fd))
            except OSError as error:
                raise ValueError(f"{path} is no namespace") from error
            if found != FLAGS[kind]:
                other = next((name for name, flag in FLAGS.items() if flag == found), hex(found))
                raise ValueError(f"{path} is a namespace of kind {other}, not {kind}")

    def undo(self, site: Site) -> None:
        """Closes them."""
        for kind, _ in self.joined:
            fd = site.descriptors.pop(PREFIX + kind, None)
            if fd is not None:
                os.close(fd)


def join_all(site: Site, kinds: tuple[str, ...]) -> None:
    """Joins namespaces that were opened, those that the host's rights allow first.

    Raises:
        OSError: as setns(2).
    """
    later = []
    for kind in kinds:
        if kind == "user":
            continue
        try:
            _join(site, kind)
        except PermissionError:
            if "user" not in kinds:
                raise
            later.append(kind)
    if "user" in kinds:
        _join(site, "user")
    for kind in later:
        _join(site, kind)


def _join(site: Site, kind: str) -> None:
    if kind == "mount":
        refuse_imports()
    setns(site.descriptors[PREFIX + kind], FLAGS[kind])


class JoinNamespaces(Operation):
    """Joins namespaces that OpenNamespaces opened."""

    __slots__ = ("kinds",)
    stage = "init"
    kinds: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return "join namespaces: " + ", ".join(self.kinds)

    def do(self, site: Site) -> None:
        """Does it; errors as join_all."""
        join_all(site, self.kinds)
        for kind in self.kinds:
            os.close(site.descriptors.pop(PREFIX + kind))


class MakeNamespaces(Operation):
    """Moves the process into new namespaces."""

    __slots__ = ("kinds",)
    stage = "init"
    kinds: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return "make namespaces: " + ", ".join(self.kinds)

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOSPC: a limit of namespaces; EPERM; EINVAL: a kind that this kernel lacks.
        """
        unshare(flags_of(self.kinds))


class BecomeRoot(Operation):
    """Takes the ids 0 of the user namespace, so that what is made from here on belongs to them."""

    __slots__ = ("groups",)
    stage = "init"
    groups: bool

    def describe(self) -> str:
        """What will happen."""
        return "become user 0 and group 0 of the user namespace" + (", without other groups" if self.groups else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: 0 is not mapped; EPERM.
        """
        if self.groups:
            with suppress(PermissionError):  # a namespace that is joined may deny it: who made it had no groups to give
                os.setgroups([])
        become_root()


def become_root() -> None:
    """Takes the ids 0 of the process's user namespace.

    Raises:
        OSError: EINVAL: 0 is not mapped; EPERM.
    """
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            error.add_note(Remedy("the user namespace has no user 0 or no group 0: map them"))
        raise
