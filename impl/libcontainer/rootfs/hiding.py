"""What the container may not see or change: masked paths, read-only paths, mounts and the root made read-only.

A file is hidden behind the host's null device, which is opened and looked at before the root is entered: an image can
put anything at its own /dev/null. A directory is hidden behind an empty read-only tmpfs.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.binding import set_read_only
from kernelproof.impl.libcontainer.rootfs.places import root_of, still_inside
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.masks import mask_paths
from kernelproof.impl.mount.roads import attach_in_root


class MaskPaths(Operation):
    """Hides files and directories; what does not exist is left out."""

    __slots__ = ("paths",)
    stage = "root"
    paths: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"mask {', '.join(self.paths)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            UnsafePathError: ENODEV the host's /dev/null is not the null device; EXDEV a path was led outside.
            OSError: EPERM; ELOOP a link of procfs.
        """
        mask_paths(root_of(site), self.paths)


class ReadOnlyPaths(Operation):
    """Binds each path on itself, read-only, with the other flags that it has; what does not exist is left out."""

    __slots__ = ("paths",)
    stage = "root"
    paths: tuple[str, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"make read-only {', '.join(self.paths)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            UnsafePathError: EXDEV a path was led outside.
            OSError: EPERM; ELOOP a link of procfs.
        """
        for path in self.paths:
            try:
                place = root_of(site).open(path)
            except OSError as error:
                if error.errno in (ENOENT, ENOTDIR):
                    continue
                raise
            try:
                with DetachedMount.copy(place, recursive=True) as made:
                    attach_in_root(root_of(site), place, made)
                    set_read_only(made.fd)
            finally:
                os.close(place)


class ReadOnlyMount(Operation):
    """Makes a mount read-only that had to be filled first, such as that on /dev."""

    __slots__ = ("destination",)
    stage = "root"
    destination: str

    def describe(self) -> str:
        """What will happen."""
        return f"make the mount on {self.destination} read-only"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL it is no mount; EBUSY a file is open for writing.
            UnsafePathError: EXDEV the path was led outside.
        """
        mounted = root_of(site).open(self.destination)
        try:
            still_inside(site, mounted)
            set_read_only(mounted)
        finally:
            os.close(mounted)


class ReadOnlyRoot(Operation):
    """Makes the root's own mount read-only, with the other flags that it has; mounts below keep theirs."""

    __slots__ = ()
    stage = "root"

    def describe(self) -> str:
        """What will happen."""
        return "make the root read-only"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM.
        """
        set_read_only(root_of(site).fd)
