"""What helps against an error number of an interface file, in a sentence. Pure."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.EACCES: "it is not this user's to write: be root, or have the cgroup delegated",
    errno.EPERM: "it is not this user's to write: be root, or have the cgroup delegated",
    errno.EROFS: "the hierarchy is mounted read-only: remount it, or use another mount of it",
    errno.ENODEV: "the device is not there, or the cgroup was removed",
    errno.ENOENT: "the file is not there: no cgroup above enables its controller, or the kernel lacks it",
    errno.EINVAL: "no such value: the kernel's document of the file has those that there are",
    errno.ERANGE: "out of the file's range, which the kernel's document of it has",
    errno.EBUSY: "more is in use than that, or a cgroup below needs it: lower that first",
    errno.ENOSPC: "processes would be left without a CPU or a memory node: move them out first",
    errno.EAGAIN: "cgroup.max.depth or cgroup.max.descendants, of this cgroup or of one above, is reached: raise it",
    errno.ENAMETOOLONG: "the name is longer than the filesystem takes: use a shorter one",
}


def remedy_of(number: int | None) -> str:
    """What helps; "" if nothing general can be said."""
    return _REMEDIES.get(number or 0, "")
