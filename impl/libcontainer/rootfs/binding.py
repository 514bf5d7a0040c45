"""Bind mounts of a configuration, changes of what is mounted, and what both set: attributes by a mount's descriptor.

A bind is copied where nobody sees it, given its attributes, and attached as the last step. On kernels without
mount_setattr(2) (before Linux 5.12) its attributes are set by a remount through its own descriptor, right after it was
attached; attributes of a tree are refused there.
"""

from __future__ import annotations

import os
import stat
from errno import ENOSYS

from kernelproof.impl._syscalls.mount import MOUNT_ATTRIBUTE_ATIME, MountAttribute, MountFlag
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.places import open_place, refuse_procfs, root_of
from kernelproof.impl.libcontainer.rootfs.words import parse_words
from kernelproof.impl.mount.classic import propagate, remount, restrict_bind
from kernelproof.impl.mount.detached import DetachedMount, set_attributes
from kernelproof.impl.mount.options import Options
from kernelproof.impl.mount.resolve import Root
from kernelproof.impl.mount.roads import apply_attributes, attach_in_root
from kernelproof.impl.mount.walk import ensure_in_root

_NONE = MountAttribute(0)
# The times of access are locked together.
_ATIME = MountAttribute(MOUNT_ATTRIBUTE_ATIME) | MountAttribute.NODIRATIME
_ATIME_FLAGS = MountFlag.NOATIME | MountFlag.RELATIME | MountFlag.STRICTATIME | MountFlag.NODIRATIME
_READ_ONLY = Options(flags=MountFlag.RDONLY, attributes_set=MountAttribute.RDONLY)
# What a mount shows of its flags by statvfs(3), which needs no procfs: ST_ flag, attribute, flag of mount(2).
_SHOWN = (
    (os.ST_RDONLY, MountAttribute.RDONLY, MountFlag.RDONLY),
    (os.ST_NOSUID, MountAttribute.NOSUID, MountFlag.NOSUID),
    (os.ST_NODEV, MountAttribute.NODEV, MountFlag.NODEV),
    (os.ST_NOEXEC, MountAttribute.NOEXEC, MountFlag.NOEXEC),
)


class Bind(Operation):
    """Mounts a directory or file of the host a second time."""

    __slots__ = ("destination", "source", "words")
    stage = "init"
    destination: str
    source: str
    words: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"bind {self.source} on {self.destination} ({','.join(self.words)})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, EACCES of the source; ENOSYS attributes of a tree before Linux 5.12; EPERM.
            UnsafePathError: the destination leads where nothing may be mounted.
        """
        wanted = parse_words(self.words).options
        with self._copy(site, recursive=bool(wanted.flags & MountFlag.REC)) as made:
            attach_bind(site, made, self.destination, wanted)

    def _copy(self, site: Site, *, recursive: bool) -> DetachedMount:
        # A copy of the host's side has no flags that are locked: it is taken only where there is no other way.
        kept = site.descriptors.pop(source_name(self.destination, self.source), -1)
        try:
            source = os.open(self.source, os.O_PATH | os.O_CLOEXEC)
        except PermissionError:
            if kept < 0:
                raise
            return DetachedMount(kept, road="open_tree")
        try:
            return DetachedMount.copy(source, recursive=recursive)
        finally:
            os.close(source)
            if kept >= 0:
                os.close(kept)


def source_name(destination: str, source: str) -> str:
    """The name in `site.descriptors` of a source whose mount was copied before."""
    return f"source {source} {destination}"


def attach_bind(site: Site, made: DetachedMount, destination: str, wanted: Options) -> None:
    """Give a detached copy its attributes and attach it; flags that are locked stay, and `site.found` says which.

    Raises:
        OSError, UnsafePathError: as Bind.
    """
    place = open_place(site, destination, is_directory=stat.S_ISDIR(os.fstat(made.fd).st_mode))
    try:
        refuse_procfs(site, place, destination, made.fd)
        is_dressed = dress(made, wanted, site, destination)
        attach_in_root(root_of(site), place, made)
    finally:
        os.close(place)
    if not is_dressed:
        own = f"/proc/thread-self/fd/{made.fd}"
        try:
            restrict_bind(own, wanted)
        except PermissionError:
            restrict_bind(own, _keep_locked(made.fd, wanted, site, destination))
    show_to(made, wanted)


def dress(made: DetachedMount, wanted: Options, site: Site, destination: str) -> bool:
    """Set attributes, but for flags that are locked; return whether the kernel can do that to what is not attached yet.

    Raises:
        OSError: as Bind.
    """
    try:
        apply_attributes(made.fd, wanted._replace(propagation=()))
    except PermissionError:
        apply_attributes(made.fd, _keep_locked(made.fd, wanted, site, destination)._replace(propagation=()))
    except OSError as error:
        if error.errno != ENOSYS or wanted.is_recursive:
            raise
        return False
    return True


def _keep_locked(fd: int, wanted: Options, site: Site, destination: str) -> Options:
    """The same without what would take flags away that the mount has: in a user namespace they may be locked.

    Source: mount_namespaces(7), Restrictions on mount namespaces.
    """
    shown = os.fstatvfs(fd).f_flag
    attributes, flags = _NONE, MountFlag(0)
    for bit, attribute, flag in _SHOWN:
        if shown & bit:
            attributes |= attribute & wanted.attributes_cleared
            flags |= flag & wanted.cleared
    if (wanted.attributes_set | wanted.attributes_cleared) & _ATIME:
        attributes |= _ATIME
        flags |= _ATIME_FLAGS
    site.found[f"kept {destination}"] = str(flags)
    if attributes & wanted.attributes_cleared:
        site.refuse(
            f"{destination}: {attributes & wanted.attributes_cleared} can't be taken away, another owner set it"
        )
    return wanted._replace(
        flags=wanted.flags & ~_ATIME_FLAGS if attributes & _ATIME else wanted.flags,
        cleared=wanted.cleared & ~flags,
        attributes_set=wanted.attributes_set & ~(attributes & _ATIME),
        attributes_cleared=wanted.attributes_cleared & ~attributes,
    )


class Remount(Operation):
    """Changes a mount that is there already; with `bind` among the words the mount alone, else its filesystem."""

    __slots__ = ("destination", "words")
    stage = "init"
    destination: str
    words: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"remount {self.destination} ({','.join(self.words)})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL nothing is mounted there, or an option that can't be changed; EPERM a locked flag; EBUSY.
        """
        wanted = parse_words(self.words).options
        mounted = root_of(site).open(self.destination)
        try:
            ensure_in_root(site.descriptors["root"], mounted)
            own = f"/proc/thread-self/fd/{mounted}"
            if wanted.flags & MountFlag.BIND:
                restrict_bind(own, wanted)
            else:
                remount(own, wanted)
            propagate(own, wanted.propagation)
        finally:
            os.close(mounted)


def show_to(made: DetachedMount, options: Options) -> None:
    """Give a mount that is attached its types of propagation, in order.

    Raises:
        OSError: EPERM.
    """
    if options.propagation:
        propagate(f"/proc/thread-self/fd/{made.fd}", options.propagation)


def set_read_only(fd: int) -> None:
    """Make a mount that is attached read-only, by a descriptor of its root; its other flags stay.

    Raises:
        OSError: EINVAL no mount's root; EBUSY a file is open for writing; EPERM.
    """
    try:
        set_attributes(fd, set=MountAttribute.RDONLY)
    except OSError as error:
        if error.errno != ENOSYS:
            raise
        restrict_bind(f"/proc/thread-self/fd/{fd}", _READ_ONLY)


def restrict_tree(root: Root, fd: int, wanted: Options) -> None:
    """Set what options ask for of read-only, nosuid, nodev and noexec on a mount and all below it.

    Nothing is taken away, so that flags that are locked are no hindrance; also where mount_setattr(2) is missing.

    Raises:
        OSError: EBUSY a file is open for writing; EPERM.
    """
    asked = wanted.attributes_set | wanted.recursive_set
    attributes, flags = _NONE, MountFlag(0)
    for _, attribute, flag in _SHOWN:
        if asked & attribute:
            attributes |= attribute
            flags |= flag
    if not attributes:
        return
    try:
        set_attributes(fd, set=attributes, recursive=True)
    except OSError as error:
        if error.errno != ENOSYS:
            raise
    else:
        return
    from kernelproof.impl.mount.table import MountTable  # before Linux 5.12 alone; the plan has loaded it then

    top = os.readlink(f"/proc/thread-self/fd/{fd}")
    base = os.readlink(f"/proc/thread-self/fd/{root.fd}").rstrip("/")
    for each in MountTable.read().below(top):
        mounted = root.open(each.mount_point[len(base) :])
        try:
            restrict_bind(f"/proc/thread-self/fd/{mounted}", Options(flags=flags, attributes_set=attributes))
        finally:
            os.close(mounted)
