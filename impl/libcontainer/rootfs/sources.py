"""Sources of binds that only the host's root can reach, for containers with a user namespace.

Root of such a container is an ordinary user to the host: a directory of mode 0700 on the way to a source stops it. So
the mount of each source is copied before, on the side of the host, and the copy is attached inside where the source
can't be reached. Only there: what is copied inside has its flags locked, so that the container's root can't clear them.

Source: open_tree(2); user_namespaces(7), "Capabilities"; mount_namespaces(7), "Restrictions on mount namespaces".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.mount import MountFlag
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.binding import source_name
from kernelproof.impl.libcontainer.rootfs.keeping import keep
from kernelproof.impl.mount.classic import propagate
from kernelproof.impl.mount.detached import DetachedMount


class CopySource(Operation):
    """Copies the mount of a source, as a slave of the host's, and keeps it for Bind.

    A source that is not there yet, or of a runtime that may copy nothing, is left to Bind.
    """

    __slots__ = ("destination", "recursive", "source")
    stage = "host"
    destination: str
    recursive: bool
    source: str

    def describe(self) -> str:
        """What will happen."""
        return f"copy the mount of {self.source}{' and all below it' if self.recursive else ''}, if it is there"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL an unbindable mount; EMFILE.
        """
        try:
            made = DetachedMount.copy(self.source, recursive=self.recursive)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOSYS):
                return
            raise
        try:
            detach_from_host(made)
        except BaseException:
            made.close()
            raise
        keep(site, source_name(self.destination, self.source), made.detach_fd())

    def undo(self, site: Site) -> None:
        """Lets the copy vanish."""
        fd = site.descriptors.pop(source_name(self.destination, self.source), -1)
        if fd >= 0:
            os.close(fd)


def detach_from_host(made: DetachedMount) -> None:
    """Makes a copied tree a slave of what it was copied from, as it would be in a new mount namespace.

    Raises:
        OSError: what mount(2) gives.
    """
    try:
        made.set_attributes(propagation=MountFlag.SLAVE, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        propagate(f"/proc/thread-self/fd/{made.fd}", (MountFlag.SLAVE | MountFlag.REC,))
