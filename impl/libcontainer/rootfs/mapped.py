"""Binds through which files have other owners: made on the side of the host, which may do so, and attached inside."""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.libcontainer.rootfs.binding import attach_bind
from kernelproof.impl.libcontainer.rootfs.keeping import keep
from kernelproof.impl.libcontainer.rootfs.words import parse_words
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.idmapped import IdRange, open_user_namespace

Ranges = tuple[tuple[int, int, int], ...]


class MapOwners(Operation):
    """Copies a mount, gives it a map of owners, and keeps it for AttachMapped.

    `uid_ranges` and `gid_ranges` are owners on the filesystem, owners as the host sees them through the mount, and how
    many; without any, the maps are those of the user namespace at `userns`.
    """

    __slots__ = ("destination", "source", "recursive", "uid_ranges", "gid_ranges", "userns")  # noqa: RUF023
    stage = "host"
    destination: str
    source: str
    recursive: bool
    uid_ranges: Ranges
    gid_ranges: Ranges
    userns: str

    def describe(self) -> str:
        """What will happen."""
        maps = f"users {self.uid_ranges}, groups {self.gid_ranges}" if self.uid_ranges else f"those of {self.userns}"
        tree = " and all below it" if self.recursive else ""
        return f"copy the mount of {self.source}{tree} with other owners: {maps}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL a filesystem that can't be ID-mapped; ENOSYS before Linux 5.12; EPERM; ENOENT the source.
            OptionError: the ranges overlap, or are none.
        """
        namespace = self._namespace()
        try:
            made = DetachedMount.copy(self.source, recursive=self.recursive)
            try:
                made.set_attributes(userns_fd=namespace, recursive=self.recursive)
            except OSError as error:
                made.close()
                error.add_note(Remedy(f"owners of {self.source}: its filesystem must allow ID-mapped mounts"))
                raise
            keep(site, name_of(self.destination), made.detach_fd())
        finally:
            os.close(namespace)

    def _namespace(self) -> int:
        if not self.uid_ranges:
            return os.open(self.userns, os.O_RDONLY | os.O_CLOEXEC)
        users, groups = ([IdRange(*each) for each in ranges] for ranges in (self.uid_ranges, self.gid_ranges))
        return open_user_namespace(users, groups)

    def undo(self, site: Site) -> None:
        """Lets the copy vanish."""
        fd = site.descriptors.pop(name_of(self.destination), -1)
        if fd >= 0:
            os.close(fd)


class AttachMapped(Operation):
    """Attaches what MapOwners kept, with the attributes that the words ask for."""

    __slots__ = ("destination", "words")
    stage = "init"
    destination: str
    words: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"bind the copy with other owners on {self.destination} ({','.join(self.words)})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LookupError: nothing was kept for this destination.
            OSError, UnsafePathError: as Bind.
        """
        name = name_of(self.destination)
        if name not in site.descriptors:
            raise LookupError(f"no mount was kept for {self.destination}")
        with DetachedMount(site.descriptors.pop(name), road="open_tree") as made:
            attach_bind(site, made, self.destination, parse_words(self.words).options)


def name_of(destination: str) -> str:
    """The name in `site.descriptors` of a mount that is kept."""
    return f"mapped {destination}"
