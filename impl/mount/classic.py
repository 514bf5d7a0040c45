"""mount(2) and umount2(2) with the meaning of mount(8): the calls that every kernel has.

    mount("/myfile", "/myotherfile", "none", "bind,ro")
    unmount("/myotherfile")

The names and arguments are those of 2014. A mount that needs several calls (a read-only bind; a type of propagation)
is undone if one of them fails.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENODEV, EPERM

from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.libc import flag_names
from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag, UnmountFlag
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import PER_MOUNT_FLAGS, Options, parse_options
from kernelproof.impl.mount.point import MISSING, is_mount_point

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelproof.impl.mount.table import Path

PROPAGATION_FLAGS = MountFlag.SHARED | MountFlag.PRIVATE | MountFlag.SLAVE | MountFlag.UNBINDABLE
_KEPT_BY_BIND = MountFlag.BIND | MountFlag.REC | MountFlag.SILENT
_FLAG_OF_ATTRIBUTE = (
    (MountAttribute.RDONLY, MountFlag.RDONLY),
    (MountAttribute.NOSUID, MountFlag.NOSUID),
    (MountAttribute.NODEV, MountFlag.NODEV),
    (MountAttribute.NOEXEC, MountFlag.NOEXEC),
    (MountAttribute.NOATIME, MountFlag.NOATIME),
    (MountAttribute.STRICTATIME, MountFlag.STRICTATIME),
    (MountAttribute.NODIRATIME, MountFlag.NODIRATIME),
    (MountAttribute.NOSYMFOLLOW, MountFlag.NOSYMFOLLOW),
)
_ATIME_FLAGS = MountFlag.NOATIME | MountFlag.STRICTATIME | MountFlag.RELATIME


def mounted(mount_point: Path) -> bool:
    """Return whether something is mounted at a path; a path that does not exist is no mount point.

    Raises:
        OSError: the path cannot be looked at: EACCES, ELOOP, ENAMETOOLONG.
    """
    try:
        answer = is_mount_point(mount_point)
    except OSError as error:
        if error.errno in MISSING:
            return False
        raise
    if answer is not None:
        return answer
    from kernelproof.impl.mount.table import MountTable  # hardly ever: 2 ms at import

    return any(mount.mount_point == os.fspath(mount_point) for mount in MountTable.read())


def mount(source: Path | None, target: Path, fstype: str | None, options: str | Iterable[str] | Options = "") -> bool:
    """Mount, unless something is mounted at the target already.

    Options that change a mount (`remount`, `move`, a type of propagation and nothing else) are done in any case.

    Args:
        source: what is mounted: a device, a directory, a word that the filesystem understands.
        target: where; a symbolic link is followed.
        fstype: the type of the filesystem; ignored for `bind`, `move` and `remount`.
        options: as for `mount -o`.

    Returns:
        Whether anything was done.

    Raises:
        OSError: as force_mount.
        OptionError: as force_mount.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    changes = wanted.flags & (MountFlag.REMOUNT | MountFlag.MOVE) or is_propagation_only(wanted, fstype)
    if not changes and mounted(target):
        return False
    force_mount(source, target, fstype, wanted)
    return True


def is_propagation_only(options: Options, fstype: str | None) -> bool:
    """Return whether a call asks for types of propagation and for nothing else: there is no filesystem to mount."""
    asks_more = options.flags or options.data or options.is_recursive or fstype not in (None, "", "none")
    return bool(options.propagation) and not asks_more


def force_mount(
    source: Path | None, target: Path, fstype: str | None, options: str | Iterable[str] | Options = ""
) -> None:
    """Mount, whether or not something is mounted at the target.

    What takes several calls is one step to the caller: if a later call fails, what the first one mounted is gone.

    Args:
        source, target, fstype, options: as for mount.

    Raises:
        OSError: filename is the source, filename2 the target. EPERM without CAP_SYS_ADMIN, or for a locked flag;
            ENOENT a missing path; ENOTDIR; ENODEV an unknown fstype; ENOTBLK, EACCES of the source; EINVAL a bad
            superblock, option or combination; EBUSY the source or the mount is in use.
        OptionError: data beyond a page, or recursive attributes, which mount(2) cannot set: see `set_attributes`.

    Source: mount(2), ERRORS; mount(8), Bind mount operation.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    if wanted.is_recursive:
        raise OptionError(f"mount(2) sets attributes of one mount, not of a tree: {wanted}; use set_attributes")
    check_data(wanted.data)
    if is_propagation_only(wanted, fstype):
        propagate(target, wanted.propagation)
        return
    flags = wanted.flags
    if flags & MountFlag.REMOUNT:
        call_mount(source, target, fstype, flags, wanted.data)
        propagate(target, wanted.propagation)
        return
    if flags & MountFlag.MOVE:
        call_mount(source, target, None, MountFlag.MOVE, None)
        propagate(target, wanted.propagation)
        return
    if flags & MountFlag.BIND:
        call_mount(source, target, None, flags & _KEPT_BY_BIND, None)
    else:
        call_mount(source, target, fstype, flags, wanted.data)
    try:
        if flags & MountFlag.BIND:
            restrict_bind(target, wanted)
        propagate(target, wanted.propagation)
    except BaseException:
        calls.umount2(target, UnmountFlag.DETACH)
        raise


def restrict_bind(target: Path, options: Options) -> None:
    """Give a new bind mount the flags that were asked for, beside those that it has from its source.

    Raises:
        OSError: EPERM a flag is locked: it came from another user namespace and can't be cleared in this one.
    """
    asked = options.flags & PER_MOUNT_FLAGS
    cleared = options.cleared & PER_MOUNT_FLAGS
    if not asked and not cleared:
        return
    present = present_flags(target)
    kept = present & ~_ATIME_FLAGS if asked & _ATIME_FLAGS else present
    wanted = (kept | asked) & ~cleared
    if not wanted & _ATIME_FLAGS:
        wanted |= MountFlag.RELATIME  # a remount that names none of them keeps what there is
    if wanted == present:
        return
    call_mount(None, target, None, MountFlag.REMOUNT | MountFlag.BIND | wanted, None)


def present_flags(target: Path) -> MountFlag:
    """Return the per-mount flags of the mount that a path leads to, as mount(2) takes them.

    Raises:
        OSError: ENOENT, EACCES of the path.

    Source: mount(2), Remounting an existing mount.
    """
    from kernelproof.impl.mount.lookup import attributes_of  # 4 ms at import: only for remounts and notes

    attributes = attributes_of(target)
    flags = MountFlag(0)
    for bit, flag in _FLAG_OF_ATTRIBUTE:
        flags |= flag if attributes & bit else MountFlag(0)
    return flags if flags & _ATIME_FLAGS else flags | MountFlag.RELATIME


def bind(
    source: Path, target: Path, *, recursive: bool = False, read_only: bool = False, options: str | Options = ""
) -> None:
    """Mount a directory or file at a second place.

    Args:
        source: what is to be seen at the target too.
        target: of the same kind: directory or file.
        recursive: with what is mounted below the source.
        read_only: the target only, and of a recursive bind its top only: see set_attributes for a whole tree.
        options: further per-mount options and types of propagation.

    Raises:
        OSError: as force_mount.
    """
    given = options if isinstance(options, Options) else parse_options(options)
    words = ["rbind" if recursive else "bind", *given.words, *(["ro"] if read_only else [])]
    force_mount(source, target, "none", words)


def move(source: Path, target: Path) -> None:
    """Move a mount, with what is mounted below it.

    Raises:
        OSError: EINVAL the source is no mount, or the mount it is on is shared; ELOOP the target is below the source;
            ENOENT, ENOTDIR, EPERM.

    Source: mount(2), Moving a mount.
    """
    call_mount(source, target, None, MountFlag.MOVE, None)


def remount(target: Path, options: str | Iterable[str] | Options) -> None:
    """Change the options of the filesystem and of the mount at a path; those that are not named are set back.

    With `bind` among the options only the mount is changed.

    Raises:
        OSError: EBUSY a file is open for writing; EINVAL no mount point, or an option that can't be changed; EPERM.

    Source: mount(2), Remounting an existing mount.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    check_data(wanted.data)
    call_mount(None, target, None, wanted.flags | MountFlag.REMOUNT, wanted.data)


def check_data(data: str) -> None:
    """Refuse data that mount(2) would cut or misread.

    Raises:
        OptionError: it is longer than a page, the NUL byte at its end included.
    """
    limit = os.sysconf("SC_PAGE_SIZE") - 1
    length = len(os.fsencode(data))
    if length > limit:
        raise OptionError(
            f"mount(2) takes {limit} bytes of data, and these options have {length}; a filesystem context takes each "
            f"option of up to 255 bytes by itself, and of an overlay each layer (Linux 6.8), so there is no such limit"
        )


def call_mount(source: Path | None, target: Path, fstype: str | None, flags: int, data: str | None) -> None:
    """mount(2), with notes on what the errno alone does not say."""
    try:
        calls.mount(source, target, fstype, flags, data or None)
    except OSError as error:
        for note in explain(error, source, target, fstype, flags):
            error.add_note(note)
        raise


def explain(error: OSError, source: Path | None, target: Path, fstype: str | None, flags: int) -> Iterable[str]:
    """Say what is behind an errno of mount(2), as far as it can be seen afterwards."""
    if error.errno == ENODEV:
        yield f"the kernel has no filesystem {fstype!r}, nor a module for it: see /proc/filesystems"
    if error.errno == EPERM and flags & MountFlag.REMOUNT and flags & MountFlag.BIND:
        present = format_attributes_of(target)
        yield (
            f"the mount has {present}; the call asked for {flag_names(MountFlag, flags & PER_MOUNT_FLAGS)}. A flag "
            f"that came from a mount namespace of another user namespace is locked: it can't be cleared here"
        )
    for name, path in (("source", source), ("target", target)):
        is_path = name == "target" or flags & (MountFlag.BIND | MountFlag.MOVE)
        if error.errno in MISSING and path is not None and is_path and not os.path.lexists(path):
            yield f"the {name} does not exist: {os.fspath(path)!r}"
    if error.errno == EINVAL and flags & (MountFlag.BIND | MountFlag.REC | MountFlag.REMOUNT) == MountFlag.BIND:
        with suppress(ImportError, OSError):
            from kernelproof.impl.mount.locked import explain_copy  # for the note alone: 4 ms at import

            yield from explain_copy(source or "")
    if error.errno == EINVAL and flags & (MountFlag.REMOUNT | MountFlag.MOVE | PROPAGATION_FLAGS):
        path = source if flags & MountFlag.MOVE and source is not None else target
        if not mounted(path):
            yield f"no mount point: {os.fspath(path)!r}"


def format_attributes_of(target: Path) -> str:
    """Return the per-mount options at a path in words, or that they can't be seen."""
    from kernelproof.impl.mount.lookup import attributes_of  # as above
    from kernelproof.impl.mount.records import format_attributes

    try:
        return ",".join(format_attributes(attributes_of(target)))
    except (OSError, LookupError):
        return "options that can't be seen"


def propagate(target: Path, steps: Iterable[MountFlag]) -> None:
    """Change the type of propagation, each step by a call of its own: the kernel refuses it beside other flags.

    Raises:
        OSError: EINVAL no mount point; EPERM.

    Source: mount(2), Changing the propagation type of an existing mount.
    """
    for step in steps:
        call_mount(None, target, None, step, None)


def _make(target: Path, step: MountFlag) -> None:
    if not mounted(target):
        force_mount(target, target, "none", "bind")
    propagate(target, [step])


def make_shared(mount_point: Path) -> None:
    """Make a mount shared; a path that is no mount point is bound to itself first.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN; ENOENT; as force_mount.

    Source: mount_namespaces(7), SHARED SUBTREES.
    """
    _make(mount_point, MountFlag.SHARED)


def make_rshared(mount_point: Path) -> None:
    """Make a mount and all below it shared; as make_shared."""
    _make(mount_point, MountFlag.SHARED | MountFlag.REC)


def make_private(mount_point: Path) -> None:
    """Make a mount private; as make_shared."""
    _make(mount_point, MountFlag.PRIVATE)


def make_rprivate(mount_point: Path) -> None:
    """Make a mount and all below it private; as make_shared."""
    _make(mount_point, MountFlag.PRIVATE | MountFlag.REC)


def make_slave(mount_point: Path) -> None:
    """Make a mount a slave of its peers; one without peers becomes private. As make_shared."""
    _make(mount_point, MountFlag.SLAVE)


def make_rslave(mount_point: Path) -> None:
    """Make a mount and all below it slaves; as make_slave."""
    _make(mount_point, MountFlag.SLAVE | MountFlag.REC)


def make_unbindable(mount_point: Path) -> None:
    """Make a mount unbindable: private, and not to be bound elsewhere. As make_shared."""
    _make(mount_point, MountFlag.UNBINDABLE)


def make_runbindable(mount_point: Path) -> None:
    """Make a mount and all below it unbindable; as make_unbindable."""
    _make(mount_point, MountFlag.UNBINDABLE | MountFlag.REC)
