"""The new mount API first, the classic calls where that is missing and only where both mean the same.

Every function here says which road it took. A step that the new API refused is an error and never a reason to try the
classic call with the same path: after a change of root or namespace the same text names something else.
"""

from __future__ import annotations

import os
import stat
from errno import ENOSYS

from kernelproof.impl._syscalls.libc import flag_names
from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag, UnmountFlag, umount2
from kernelproof.impl.mount.classic import force_mount, propagate, restrict_bind
from kernelproof.impl.mount.context import LONGEST_STRING, FsContext
from kernelproof.impl.mount.detached import DetachedMount, set_attributes
from kernelproof.impl.mount.errors import OptionError, TooLongError
from kernelproof.impl.mount.options import Options, parse_options
from kernelproof.impl.mount.point import MISSING, mount_id
from kernelproof.impl.mount.release import is_new_api_trusted
from kernelproof.impl.mount.resolve import Root, borrow_root, create_mount_point_in_root
from kernelproof.impl.mount.walk import ensure_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_FORBIDDEN = MountFlag.REMOUNT | MountFlag.MOVE


class Road(NamedTuple):
    """How something was mounted: "fsopen", "open_tree" or "mount"; and by what its attributes were set, or ""."""

    made_by: str
    attributes_by: str = ""


def mount_detached(
    source: Path | int | None, fstype: str | None, options: str | Iterable[str] | Options = ""
) -> DetachedMount:
    """Return what `mount` would mount, attached nowhere, with its attributes set as far as the kernel can yet.

    Args:
        source: a path, a word, or with `bind` also a descriptor.
        fstype: the type; ignored with `bind`.
        options: as for `mount -o`, without `remount` and `move`.

    Raises:
        FsContextError: the filesystem refused an option or could not be created.
        OSError: ENODEV; ENOENT; EPERM; EINVAL; ENOSYS before Linux 5.2, and with attributes of a bind before 5.12.
        OptionError: options that ask for something else; TooLongError a value of more than 255 bytes. Layers of an
            overlay are given one by one where the kernel takes them so (Linux 6.8).
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    if wanted.flags & _FORBIDDEN:
        raise OptionError(f"neither remount nor move makes a mount: {wanted}")
    if not wanted.flags & MountFlag.BIND:
        return _new_filesystem(source, fstype, wanted)
    if source is None:
        raise OptionError("bind needs a source")
    made = DetachedMount.copy(source, recursive=bool(wanted.flags & MountFlag.REC))
    try:
        apply_attributes(made.fd, wanted)
    except BaseException:
        made.close()
        raise
    return made


def _new_filesystem(source: Path | int | None, fstype: str | None, wanted: Options) -> DetachedMount:
    if fstype is None or isinstance(source, int):
        raise OptionError("a new filesystem needs a type, and its source by name")
    made = new_filesystem(source, fstype, wanted, wanted.attributes_set)
    try:
        apply_attributes(made.fd, wanted._replace(attributes_set=_NONE, attributes_cleared=_NONE))
    except BaseException:
        made.close()
        raise
    return made


_NONE = MountAttribute(0)


def new_filesystem(
    source: Path | None, fstype: str, options: Options, attributes: MountAttribute = _NONE
) -> DetachedMount:
    """Return a new filesystem by a filesystem context, attached nowhere; many layers of an overlay one by one.

    Raises:
        OSError, FsContextError, OptionError: as mount_detached.
    """
    if fstype == "overlay" and any(map(_is_long_lowerdir, options.data_words)):
        from kernelproof.impl.mount.overlays import mount_long_overlay  # seldom, and it costs some milliseconds

        return mount_long_overlay(source, options, attributes)
    with FsContext(fstype, source=source) as context:
        return context.set_options(options).create().mount(attributes)


def _is_long_lowerdir(word: str) -> bool:
    key, _, value = word.partition("=")
    return key == "lowerdir" and len(os.fsencode(value)) > LONGEST_STRING


def apply_attributes(fd: int, wanted: Options) -> str:
    """Set what options ask for on a mount's root: attributes, those of the tree, types of propagation.

    Returns:
        "mount_setattr", or "" if there was nothing to do.
    """
    done = ""
    for set_, clear, recursive in (
        (wanted.attributes_set, wanted.attributes_cleared, False),
        (wanted.recursive_set, wanted.recursive_cleared, True),
    ):
        if set_ or clear:
            set_attributes(fd, set=set_, clear=clear, recursive=recursive)
            done = "mount_setattr"
    for step in wanted.propagation:
        set_attributes(fd, propagation=step & ~MountFlag.REC, recursive=bool(step & MountFlag.REC))
        done = "mount_setattr"
    return done


def make(source: Path | int | None, fstype: str | None, wanted: Options) -> tuple[DetachedMount, bool]:
    """mount_detached, or where mount_setattr is missing the same without attributes, and that they are still to be set.

    A kernel without open_tree or fsopen refuses the second time too: with ENOSYS.
    """
    try:
        return mount_detached(source, fstype, wanted), False
    except OSError as error:
        if error.errno != ENOSYS or wanted.is_recursive or not is_new_api_trusted():
            raise
    keep = wanted.attributes_set if not wanted.flags & MountFlag.BIND else _NONE
    bare = wanted._replace(attributes_set=keep, attributes_cleared=_NONE, propagation=())
    return mount_detached(source, fstype, bare), True


def mount_by_new_api(
    source: Path | int | None, target: Path | int, fstype: str | None, options: str | Iterable[str] | Options = ""
) -> Road:
    """Mount by fsopen or open_tree, with attributes of a tree if asked for, and attach as the last step.

    Where mount_setattr is missing (before Linux 5.12) the attributes of a single bind mount are set by a remount
    through the mount's own descriptor, right after it was attached.

    Args:
        source, fstype, options: as for mount_detached.
        target: a path, links not followed, or a descriptor.

    Raises:
        OSError, FsContextError, OptionError: as mount_detached; and as DetachedMount.attach. filename is the source,
            filename2 the target; a note has the type and the flags.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    try:
        made, late = make(source, fstype, wanted)
        with made:
            made.attach(target)
            if late:
                finish_by_remount(made, wanted)
            return _road(made, wanted, late)
    except OSError as error:
        _complete(error, source, target, fstype, wanted)
        raise


def _complete(
    error: OSError, source: Path | int | None, target: Path | int, fstype: str | None, wanted: Options
) -> None:
    # Each call of the new API knows a part of what mount(2) is told at once. Values of options may be secrets.
    flags = flag_names(MountFlag, wanted.flags)
    kind = "bind" if wanted.flags & MountFlag.BIND else f"mount of {fstype}"
    error.add_note(f"{kind} from {_named(source)!r} on {_named(target)!r}, flags={flags}")
    if not (error.filename and error.filename2):
        error.filename, error.filename2 = _named(source), _named(target)
    if error.errno in MISSING and not isinstance(target, int) and not os.path.lexists(target):
        error.add_note(f"the target does not exist: {_named(target)!r}")


def _named(path: Path | int | None) -> str | None:
    return f"descriptor {path}" if isinstance(path, int) else None if path is None else os.fspath(path)


def _road(made: DetachedMount, wanted: Options, late: bool) -> Road:
    plain = (wanted.attributes_set or wanted.attributes_cleared) and made.road != "fsopen"
    if not (plain or wanted.is_recursive or wanted.propagation):
        return Road(made.road)
    return Road(made.road, "remount" if late else "mount_setattr")


def finish_by_remount(made: DetachedMount, wanted: Options) -> None:
    """Set attributes and propagation of a mount that was just attached, by its own descriptor; else take it off."""
    own = f"/proc/thread-self/fd/{made.fd}"
    try:
        if made.road == "open_tree":
            restrict_bind(own, wanted)
        propagate(own, wanted.propagation)
    except BaseException:
        umount2(own, UnmountFlag.DETACH)
        raise


def mount_by_any_road(
    source: Path | None, target: Path, fstype: str | None, options: str | Iterable[str] | Options = ""
) -> Road:
    """Mount by the new API, or by mount(2) where the kernel has not got it; the road that was taken is the answer.

    mount(2) takes over only if the very first call of the new API is missing, or if a value is too long for it; and
    not for what it can't do: attributes of a tree.

    Raises:
        OSError, FsContextError, OptionError: as mount_by_new_api, or as force_mount.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    if is_new_api_trusted():
        try:
            return mount_by_new_api(source, target, fstype, wanted)
        except OSError as error:
            if error.errno != ENOSYS or wanted.is_recursive:
                raise
        except TooLongError:
            if wanted.is_recursive:
                raise
    force_mount(source, target, fstype, wanted)
    return Road("mount", "mount" if wanted.flags & MountFlag.BIND else "")


def mount_in_root(
    root: Root | int,
    target: Path,
    source: Path | int | None,
    fstype: str | None,
    options: str | Iterable[str] | Options = "",
    *,
    create: bool = True,
) -> Road:
    """Mount on a path inside a root, out of which no link and no rename can lead the mount.

    The target is opened by a walk inside the root, and mounted on by its descriptor; afterwards the place of the mount
    is looked at, and a mount that was carried out of the root with the directory it is on is taken off.

    Args:
        root: a Root, or an open directory.
        target: begins at the root.
        source, fstype, options: as for mount_detached; the source is the caller's, not looked for in the root.
        create: make the target if it is missing: a file if a file is bound, else a directory.

    Raises:
        UnsafePathError: EXDEV the target was moved out of the root meanwhile.
        OSError, FsContextError, OptionError: as Root.open, create_mount_point_in_root and mount_by_new_api.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    with borrow_root(root) as inside:
        if create:
            is_directory = not (wanted.flags & MountFlag.BIND and source is not None and _is_file(source))
            fd = create_mount_point_in_root(inside, target, is_directory=is_directory)
        else:
            fd = inside.open(target)
        try:
            ensure_in_root(inside.fd, fd)
            return _mount_inside(inside, fd, source, fstype, wanted)
        finally:
            os.close(fd)


def _mount_inside(root: Root, place: int, source: Path | int | None, fstype: str | None, wanted: Options) -> Road:
    made, late = make(source, fstype, wanted)
    with made:
        made.attach(place)
        if late:
            finish_by_remount(made, wanted)
        _stay_in_root(root.fd, made)
        return _road(made, wanted, late)


def attach_in_root(root: Root | int, place: int, made: DetachedMount) -> None:
    """Attach a mount to an open directory or file inside a root; one that is carried out with it is taken off.

    Args:
        root: a Root, or an open directory.
        place: a descriptor of where, inside the root.
        made: the mount.

    Raises:
        UnsafePathError: EXDEV the place is not inside the root, or not any more.
        OSError: as DetachedMount.attach.
    """
    with borrow_root(root) as inside:
        ensure_in_root(inside.fd, place)
        made.attach(place)
        _stay_in_root(inside.fd, made)


def _stay_in_root(root: int, made: DetachedMount) -> None:
    try:
        ensure_in_root(root, made.fd)
    except BaseException:
        detach(made.fd)
        raise


def _is_file(source: Path | int) -> bool:
    return not stat.S_ISDIR(os.stat(source).st_mode)


def detach(fd: int) -> None:
    """Take off the mount whose root a descriptor is, wherever it is now; nothing if it is gone.

    Raises:
        OSError: EPERM; EINVAL the descriptor is not of a mount's root.
    """
    umount2(f"/proc/thread-self/fd/{fd}", UnmountFlag.DETACH)


def detach_at(root: Root, target: str, wanted: int) -> None:
    """Take a mount off its place in a root, if it is there and on top."""
    fd = root.open(target)
    try:
        if mount_id(fd, unique=False) == wanted:
            detach(fd)
    finally:
        os.close(fd)
