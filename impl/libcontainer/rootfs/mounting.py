"""New filesystems of a configuration: made where nobody sees them, attached to a descriptor of their place."""

from __future__ import annotations

import os
import stat
from errno import EINVAL, EPERM

from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.binding import dress, restrict_tree, set_read_only, show_to
from kernelproof.impl.libcontainer.rootfs.places import is_there, open_place, refuse_procfs, require_exact, root_of
from kernelproof.impl.libcontainer.rootfs.words import parse_words
from kernelproof.impl.mount.classic import call_mount, check_data, propagate
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import TooLongError
from kernelproof.impl.mount.options import PER_MOUNT_FLAGS, Options
from kernelproof.impl.mount.roads import attach_in_root, mount_detached
from kernelproof.impl.mount.tmpfs import mount_tmpfs, tmpfs_copy_up
from kernelproof.impl.mount.walk import ensure_in_root

_NONE = MountAttribute(0)


class MountNew(Operation):
    """Mounts a new filesystem of any type; `late_read_only`: it is made read-only by a later operation, when filled."""

    __slots__ = ("destination", "fstype", "source", "words", "late_read_only")  # noqa: RUF023
    stage = "init"
    destination: str
    fstype: str
    source: str
    words: tuple[str, ...]
    late_read_only: bool

    def describe(self) -> str:
        """What will happen."""
        late = ", read-only later" if self.late_read_only else ""
        return f"mount {self.fstype} from {self.source!r} on {self.destination} ({','.join(self.words)}){late}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError, FsContextError, OptionError: what the filesystem or the kernel refuses.
            UnsafePathError: the destination leads where nothing may be mounted.
        """
        wanted = _without_read_only(parse_words(self.words).options, self.late_read_only)
        place = open_place(site, self.destination)
        try:
            refuse_procfs(site, place, self.destination)
            made = None
            if not wanted.flags & (MountFlag.I_VERSION | MountFlag.NOSYMFOLLOW):
                with suppress(TooLongError):
                    made = _new(self.source, self.fstype, wanted)
            if made is None:
                _mount_classic(site, place, self, wanted)
                return
            with made:
                attach_in_root(root_of(site), place, made)
                show_to(made, wanted)
        finally:
            os.close(place)


def _new(source: str, fstype: str, wanted: Options) -> DetachedMount:
    try:
        return mount_detached(source, fstype, _of_one_mount(wanted))
    except OSError as error:
        if wanted.data:
            error.add_note(f"options of the {fstype}: {wanted.data}")
        raise


def _of_one_mount(wanted: Options) -> Options:
    # A new filesystem is a tree of one mount: what was asked for the tree needs no mount_setattr.
    attributes = (wanted.attributes_set & ~wanted.recursive_cleared) | wanted.recursive_set
    return wanted._replace(attributes_set=attributes, recursive_set=_NONE, recursive_cleared=_NONE, propagation=())


def _mount_classic(site: Site, place: int, operation: MountNew, wanted: Options) -> None:
    # What a context can't be told; the place by its descriptor all the same. If it was carried out of the root
    # meanwhile, the start fails, and the mount ends with the namespace.
    check_data(wanted.data)
    call_mount(operation.source, f"/proc/thread-self/fd/{place}", operation.fstype, wanted.flags, wanted.data)
    ensure_in_root(site.descriptors["root"], place)
    if wanted.propagation:
        mounted = root_of(site).open(operation.destination)
        try:
            propagate(f"/proc/thread-self/fd/{mounted}", wanted.propagation)
        finally:
            os.close(mounted)


def is_read_only(options: Options) -> bool:
    """Return whether a new filesystem was asked to be read-only."""
    return bool(options.flags & MountFlag.RDONLY or options.recursive_set & MountAttribute.RDONLY)


def _without_read_only(options: Options, late: bool) -> Options:
    if not late:
        return options
    return options._replace(
        flags=options.flags & ~MountFlag.RDONLY,
        attributes_set=options.attributes_set & ~MountAttribute.RDONLY,
        recursive_set=options.recursive_set & ~MountAttribute.RDONLY,
    )


class MountTmpfs(Operation):
    """Mounts a tmpfs. Unless the words say otherwise it has mode and owner of the directory that it hides.

    With tmpcopyup among the words it begins with what the directory holds. Where there was none the kernel's default
    holds: everybody may write, as in /tmp.
    """

    __slots__ = ("destination", "source", "words", "late_read_only")  # noqa: RUF023
    stage = "init"
    destination: str
    source: str
    words: tuple[str, ...]
    late_read_only: bool

    def describe(self) -> str:
        """What will happen."""
        late = ", read-only later" if self.late_read_only else ""
        return f"mount tmpfs on {self.destination} ({','.join(self.words)}){late}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError, FsContextError, OptionError: as MountNew; ENOSPC what is there does not fit.
            UnsafePathError: as MountNew.
        """
        wanted = parse_words(self.words)
        options = _without_read_only(wanted.options, True)
        asked = options.flags
        options = options._replace(
            flags=asked & ~MountFlag.NOSYMFOLLOW,
            attributes_set=options.attributes_set & ~MountAttribute.NOSYMFOLLOW,
        )
        hides = is_there(site, self.destination)
        place = open_place(site, self.destination)
        try:
            refuse_procfs(site, place, self.destination)
            if hides:
                made = _filled(place, options, wanted.copy_up, self.source)
            else:
                made = mount_tmpfs(_of_one_mount(options), source=self.source)
            with made:
                attach_in_root(root_of(site), place, made)
                show_to(made, options)
                if asked & MountFlag.NOSYMFOLLOW:  # fsmount(2) takes it since Linux 5.14, mount(2) since 5.10
                    again = MountFlag.REMOUNT | MountFlag.BIND | (asked & PER_MOUNT_FLAGS)
                    call_mount("none", f"/proc/thread-self/fd/{made.fd}", "", again, "")
                if is_read_only(wanted.options) and not self.late_read_only:
                    set_read_only(made.fd)
        finally:
            os.close(place)


def _filled(place: int, options: Options, copy_up: bool, source: str) -> DetachedMount:
    plain = _of_one_mount(options)
    made = tmpfs_copy_up(place, plain, source=source) if copy_up else mount_tmpfs(plain, source=source)
    if copy_up:
        return made
    try:
        keys = {word.partition("=")[0] for word in options.data_words}
        _dress_root(made, os.fstat(place), keys)
    except BaseException:
        made.close()
        raise
    return made


def _dress_root(made: DetachedMount, below: os.stat_result, keys: set[str]) -> None:
    root = made.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        owner = os.fstat(root)
        uid = owner.st_uid if "uid" in keys else below.st_uid
        gid = owner.st_gid if "gid" in keys else below.st_gid
        if (uid, gid) != (owner.st_uid, owner.st_gid):
            with suppress_unmapped():
                os.fchown(root, uid, gid)
        if "mode" not in keys:
            os.fchmod(root, stat.S_IMODE(below.st_mode))
    finally:
        os.close(root)


class suppress_unmapped(suppress):
    """In a user namespace a directory may belong to nobody who is mapped; the tmpfs then is the caller's."""

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(self, kind: object, value: BaseException | None, at: object) -> bool:
        return isinstance(value, OSError) and value.errno == EINVAL


class MountKernel(Operation):
    """Mounts procfs or sysfs on a real directory, at exactly the place that was named.

    `substitute`: where the kernel refuses a sysfs (its user namespace does not own the network namespace), the sysfs
    that is there is bound with all below it; with the attributes that were asked for, as far as nothing is locked:
    read-only, nosuid, nodev and noexec are of the whole tree, others of the mount on top.
    """

    __slots__ = ("destination", "fstype", "source", "words", "substitute")  # noqa: RUF023
    stage = "init"
    destination: str
    fstype: str
    source: str
    words: tuple[str, ...]
    substitute: str

    def describe(self) -> str:
        """What will happen."""
        instead = f", or bind {self.substitute} with all below it" if self.substitute else ""
        return f"mount {self.fstype} on {self.destination} ({','.join(self.words)}){instead}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError, FsContextError: EPERM in a user namespace that may not; as MountNew.
            UnsafePathError: ELOOP a link leads to the destination; as MountNew.
        """
        wanted = parse_words(self.words).options
        place = open_place(site, self.destination)
        try:
            require_exact(site, place, self.destination)
            try:
                made = _new(self.source, self.fstype, wanted)
            except OSError as error:
                if error.errno != EPERM or not self.substitute:
                    raise
                self._bind(site, place, wanted)
                return
            with made:
                attach_in_root(root_of(site), place, made)
                show_to(made, wanted)
        finally:
            os.close(place)

    def _bind(self, site: Site, place: int, wanted: Options) -> None:
        with DetachedMount.copy(self.substitute, recursive=True) as made:
            dress(made, _of_one_mount(wanted), site, self.destination)
            attach_in_root(root_of(site), place, made)
            restrict_tree(root_of(site), made.fd, wanted)
            show_to(made, wanted)
        site.found[f"substitute {self.destination}"] = self.substitute
