"""The mounts of a process as a list, by the names of 2014; a `MountTable` answers more."""

from __future__ import annotations

from kernelproof.impl.mount.mountinfo import ParsedMountinfo, parse_mountinfo
from kernelproof.impl.mount.table import read_mountinfo

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.impl.mount.records import Mount


def get_mounts(keep: Callable[[Mount], bool] | None = None) -> list[Mount]:
    """Return the mounts of this thread, in the kernel's order: the name of 2014.

    Raises:
        OSError: no procfs.
        MountinfoError: a line cannot be read.
    """
    return pid_mount_info("thread-self", keep)


def pid_mount_info(pid: int | str, keep: Callable[[Mount], bool] | None = None) -> list[Mount]:
    """Return the mounts of a process, in the kernel's order: the name of 2014.

    Raises:
        OSError: ENOENT no such process.
        MountinfoError: a line cannot be read.
    """
    mounts, errors = ParsedMountinfo(*parse_mountinfo(read_mountinfo(pid)[0]))
    if errors:
        raise errors[0]
    return [mount for mount in mounts if keep is None or keep(mount)]
