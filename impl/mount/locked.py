"""What is locked, said after a refusal: the errno names neither the mount nor the flag.

Mounts that came from a mount namespace of another user namespace are locked to each other and keep their flags. The
kernel shows no locks; so these are the mounts and flags that would be the reason if they are locked.

Source: mount_namespaces(7), Restrictions on mount namespaces.
"""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.mount import MOUNT_ATTRIBUTE_ATIME, MountAttribute
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.lookup import attributes_of
from kernelproof.impl.mount.point import mount_id
from kernelproof.impl.mount.table import MountTable

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.mount.records import Mount
    from kernelproof.impl.mount.table import Path

_ATIME = MountAttribute(MOUNT_ATTRIBUTE_ATIME)
_MOST = 5  # that are named


def find_locked(target: Path | int, set_: MountAttribute, clear: MountAttribute, *, recursive: bool) -> list[str]:
    """Return notes on the mounts that have what mount_setattr(2) was to take away.

    Args:
        target: a mount point, links followed, or a descriptor.
        set_, clear: as they went to the kernel.
        recursive: whether the mounts below were to be changed too.

    Raises:
        OSError: as MountTable.read.
        NoSuchMountError: `target` is on no mount of the table.
    """
    found = []
    with suppress(LookupError):  # of a mount that is attached nowhere older kernels tell nothing (before Linux 6.8)
        found.append(("the mount", attributes_of(target)))
    if recursive:
        found += [(f"the mount at {each.mount_point!r}", each.attributes) for each in _mounts_below(target)]
    notes = []
    for name, attributes in found:
        words = [repr(attributes & clear)] if attributes & clear else []
        if not words and clear & _ATIME and attributes & _ATIME != set_ & _ATIME:
            words = ["another time of access"]
        if words:
            notes.append(
                f"{name} has {words[0]}, which was to be cleared: it is locked if the mount came from a mount "
                f"namespace of another user namespace"
            )
    return shortened(notes)


def _mounts_below(target: Path | int) -> Iterator[Mount]:
    table = MountTable.read()
    pending = [mount_id(target, unique=False)]
    while pending:
        for each in table.children(pending.pop()):
            yield each
            pending.append(each.id)


def find_locked_children(source: Path | int) -> list[str]:
    """Return the mount points for whose sake a copy of a mount that is not recursive is refused, if they are locked.

    Args:
        source: a directory, links followed, or a descriptor of one.

    Raises:
        OSError: as MountTable.read.
    """
    path = os.readlink(f"/proc/thread-self/fd/{source}") if isinstance(source, int) else os.path.realpath(source)
    below = path.rstrip("/") + "/"
    children = MountTable.read().children(mount_id(source, unique=False))
    return [each.mount_point for each in children if each.mount_point.startswith(below)]


def explain_copy(source: Path | int) -> list[str]:
    """Return a note on a copy of a mount that was refused with EINVAL and was not to be recursive.

    Raises:
        OSError: as MountTable.read.
    """
    names = shortened([repr(name) for name in find_locked_children(source)])
    if not names:
        return []
    return [
        f"mounted below the source: {', '.join(names)}. What came from a mount namespace of another user namespace is "
        f"locked to it, and hides what lies under it: only a recursive bind takes such a source"
    ]


def shortened(names: list[str]) -> list[str]:
    """Return the first few of many, and how many more there are."""
    return names if len(names) <= _MOST else [*names[:_MOST], f"and {len(names) - _MOST} more"]
