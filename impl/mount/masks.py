"""Hiding paths of a container: directories behind one empty read-only tmpfs, files behind /dev/null.

    with Root("/rootfs") as root:
        mask_paths(root, ["/proc/kcore", "/proc/acpi", "/sys/firmware"])

All directories get the same tmpfs, bound to each: a superblock of its own for each would cost memory and time in every
container.
"""

from __future__ import annotations

import os
import stat
from errno import ENODEV

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.point import mount_id
from kernelproof.impl.mount.resolve import Root
from kernelproof.impl.mount.roads import detach_at
from kernelproof.impl.mount.tmpfs import mount_tmpfs
from kernelproof.impl.mount.walk import ensure_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import ExitStack, contextmanager

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.unwinding import ExitStack, contextmanager

_MASK_ATTRIBUTES = MountAttribute.RDONLY | MountAttribute.NOSUID | MountAttribute.NODEV | MountAttribute.NOEXEC
_NULL_DEVICE = os.makedev(1, 3)


def mask_paths(root: Root, paths: Iterable[Path], *, null: Path = "/dev/null") -> tuple[str, ...]:
    """Hide paths inside a root; what does not exist there needs no mask. If one can't be hidden, none is.

    Args:
        root: where the paths begin.
        paths: directories and files; links in them are followed inside the root.
        null: the null device, which files are hidden behind.

    Returns:
        What was hidden.

    Raises:
        UnsafePathError: `null` is not the null device.
        OSError: EPERM; as Root.open.
    """
    done = []
    with ExitStack() as opened, ExitStack() as undo:
        mask: DetachedMount | None = None
        for path in paths:
            try:
                place = root.open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with closing_fd(place):
                ensure_in_root(root.fd, place)
                if not stat.S_ISDIR(os.fstat(place).st_mode):
                    made = _copy_of_null(null)
                elif mask is None:
                    made = mask = opened.enter_context(mount_tmpfs("ro,nr_inodes=1", attributes=_MASK_ATTRIBUTES))
                else:
                    # Of a mount that is attached nowhere older kernels make no copy (before Linux 6.15).
                    made = DetachedMount.copy(mask.fd)
                try:
                    wanted = mount_id(made.fd, unique=False)
                    made.attach(place)
                    undo.callback(detach_at, root, os.fspath(path), wanted)
                finally:
                    if made is not mask:
                        made.close()  # hundreds of masks must not need a descriptor each
            done.append(os.fspath(path))
        undo.pop_all()
    return tuple(done)


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def _copy_of_null(null: Path) -> DetachedMount:
    made = DetachedMount.copy(null, follow=False)
    status = os.fstat(made.fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL_DEVICE:
        made.close()
        raise UnsafePathError(ENODEV, "not the null device", os.fspath(null))
    return made
