"""The container's view of cgroups: one mount of version 2, or a tmpfs with a directory for each hierarchy of version 1.

In a cgroup namespace a fresh mount shows no more than the container's own cgroup. Without one, of version 1 the own
cgroup of each hierarchy is bound, so that `release_agent` is out of reach; of version 2, which has none, what the host
sees. Where nothing is delegated, nothing is shown.
"""

from __future__ import annotations

import os
from errno import EBUSY, EPERM

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.layout import Hierarchy, find_membership, read_membership
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.binding import attach_bind, set_read_only, show_to
from kernelproof.impl.libcontainer.rootfs.mounting import is_read_only
from kernelproof.impl.libcontainer.rootfs.places import open_place, refuse_procfs, require_exact, root_of
from kernelproof.impl.libcontainer.rootfs.words import parse_words
from kernelproof.impl.mount.context import FsContext
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.roads import attach_in_root
from kernelproof.impl.mount.tmpfs import mount_tmpfs

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    pass

_ALWAYS = MountAttribute.NOSUID | MountAttribute.NODEV | MountAttribute.NOEXEC


class MountCgroup2(Operation):
    """Shows the unified hierarchy; `mount_point` and `root` are where the host has it, and what of it.

    `how`: "fresh" is a mount of its own, which in a cgroup namespace begins at the own cgroup (where it is refused,
    that is bound); "whole" binds what the host sees; "own" binds the own cgroup; "masked" shows nothing, where the own
    cgroup is not delegated. Without a cgroup namespace a fresh mount is never made: it would reset the host's options.
    """

    __slots__ = ("destination", "words", "mount_point", "root", "how")  # noqa: RUF023
    stage = "init"
    destination: str
    words: tuple[str, ...]
    mount_point: str
    root: str
    how: str

    def describe(self) -> str:
        """What will happen."""
        what = {
            "fresh": "mount cgroup2",
            "whole": f"bind {self.mount_point}",
            "own": f"bind the own cgroup below {self.mount_point}",
            "masked": "mount an empty tmpfs in the place of cgroups",
        }
        return f"{what[self.how]} on {self.destination} ({','.join(self.words)})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError, FsContextError: what the kernel refuses.
            UnsafePathError: as MountKernel.
            NoControllerError: the process is in no cgroup of it.
        """
        options = parse_words(self.words).options
        place = open_place(site, self.destination)
        try:
            require_exact(site, place, self.destination)
        finally:
            os.close(place)
        with self._make() as made:
            attach_bind(site, made, self.destination, options._replace(data=""))

    def _make(self) -> DetachedMount:
        if self.how == "masked":
            return mount_tmpfs("mode=755,nr_inodes=1", source="cgroup", attributes=_ALWAYS | MountAttribute.RDONLY)
        if self.how == "whole":
            return DetachedMount.copy(self.mount_point)
        if self.how == "fresh":
            try:
                with FsContext("cgroup2", source="cgroup") as context:
                    return context.create().mount(_ALWAYS)
            except OSError as error:
                if error.errno not in (EPERM, EBUSY):
                    raise
        return DetachedMount.copy(own_directory(Hierarchy(2, (), "", self.mount_point, self.root, False)))


class MountCgroups1(Operation):
    """Mounts a tmpfs with the hierarchies of version 1, each in a directory, and the names of their controllers.

    `hierarchies` are name, controllers, mount point and root of each, as the host has them; `is_namespaced`: the
    container has a cgroup namespace of its own.
    """

    __slots__ = ("destination", "words", "hierarchies", "is_namespaced")  # noqa: RUF023
    stage = "init"
    destination: str
    words: tuple[str, ...]
    hierarchies: tuple[tuple[str, tuple[str, ...], str, str], ...]
    is_namespaced: bool

    def describe(self) -> str:
        """What will happen."""
        how = "mounted in the cgroup namespace" if self.is_namespaced else "the own cgroup of each bound"
        names = ", ".join(map(directory_of, self.hierarchies))
        return f"mount cgroups on {self.destination} ({','.join(self.words)}), {how}: {names}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError, FsContextError: what the kernel refuses.
            UnsafePathError: as MountKernel.
            NoControllerError: the process is in no cgroup of a hierarchy.
        """
        options = parse_words(self.words).options
        place = open_place(site, self.destination)
        try:
            require_exact(site, place, self.destination)
            refuse_procfs(site, place, self.destination)
            with mount_tmpfs("mode=755", source="tmpfs", attributes=_ALWAYS) as made:
                attach_in_root(root_of(site), place, made)
                for each in self.hierarchies:
                    self._mount(site, each, made.fd)
                if is_read_only(options):
                    set_read_only(made.fd)
                show_to(made, options)
        finally:
            os.close(place)

    def _mount(self, site: Site, each: tuple[str, tuple[str, ...], str, str], tree: int) -> None:
        name, controllers, mount_point, root = each
        directory = directory_of(each)
        os.mkdir(directory, 0o755, dir_fd=tree)
        read_only = ("ro",) if is_read_only(parse_words(self.words).options) else ()
        options = parse_words(("nosuid", "noexec", "nodev", *read_only)).options
        hierarchy = Hierarchy(1, controllers, name, mount_point, root, False)
        place = f"{self.destination}/{directory}"
        if self.is_namespaced:
            with _fresh(hierarchy) as made:
                attach_bind(site, made, place, options)
        else:
            with DetachedMount.copy(own_directory(hierarchy)) as made:
                attach_bind(site, made, place, options)
        for controller in controllers:
            if controller != directory:
                os.symlink(directory, controller, dir_fd=tree)


def _fresh(hierarchy: Hierarchy) -> DetachedMount:
    with FsContext("cgroup", source="cgroup") as context:
        for controller in hierarchy.controllers:
            context.set_flag(controller)
        if hierarchy.name:
            context.set_flag("none").set_string("name", hierarchy.name)
        return context.create().mount(_ALWAYS)


def directory_of(hierarchy: tuple[str, tuple[str, ...], str, str]) -> str:
    """The name of a hierarchy's directory: its own name, or its controllers."""
    name, controllers, *_ = hierarchy
    return name or ",".join(controllers)


def own_directory(hierarchy: Hierarchy) -> str:
    """Where the own cgroup of the calling process is, in a hierarchy of the host.

    Raises:
        NoControllerError: it is in none, or outside of what is mounted.
    """
    own = find_membership(read_membership("thread-self"), hierarchy).cgroup
    path = hierarchy.path_of(own)
    if path is None:
        raise NoControllerError(f"the cgroup {own} is not below {hierarchy.root}, which is at {hierarchy.mount_point}")
    return path
