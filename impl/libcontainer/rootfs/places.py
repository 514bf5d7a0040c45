"""Where something is mounted or made: a place inside the root, opened once and then used by its descriptor.

A mount over a part of procfs would let an image decide what the runtime reads and writes there, so it is refused, but
for the few files that are known to be replaced by others. A filesystem of the kernel is mounted only on a real
directory at the very place that was named: a link there is the beginning of every such attack.
"""

from __future__ import annotations

import os
import stat
from errno import ELOOP, ENOENT, EPERM

from kernelproof.impl._syscalls.filesystem import PROC_SUPER_MAGIC, filesystem_type
from kernelproof.impl._syscalls.ownership import ChownFlag, fchownat
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.resolve import Root, create_mount_point_in_root, mkdir_in_root
from kernelproof.impl.mount.walk import ensure_in_root, path_in_root

# Replaced by lxcfs and by tests of FIPS: each is one file that nothing of the runtime depends on.
_REPLACEABLE = (
    "cpuinfo diskstats loadavg meminfo slabinfo stat swaps sys/crypto/fips_enabled sys/kernel/ns_last_pid uptime"
)
REPLACEABLE = frozenset([f"/proc/{name}" for name in _REPLACEABLE.split()])
_PROC_ROOT_INODE = 1


def clean(path: str) -> str:
    """Return a path of the container, absolute, without `.`, empty parts and a slash at its end; `..` stays.

    >>> clean("proc//self/./"), clean("/")
    ('/proc/self', '/')
    """
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def root_of(site: Site) -> Root:
    """The root that an earlier operation opened.

    Raises:
        LookupError: none did.
    """
    if "root" not in site.descriptors:
        raise LookupError("the root is not open yet: the operation that opens it comes first")
    return Root(site.descriptors["root"])


def open_place(site: Site, destination: str, *, is_directory: bool = True) -> int:
    """Make what is to be mounted on, as far as it is missing, and open it; the caller closes the descriptor.

    Raises:
        UnsafePathError: it is outside the root, or is the root itself.
        OSError: as create_mount_point_in_root.
    """
    root = root_of(site)
    place = create_mount_point_in_root(root, destination, is_directory=is_directory)
    try:
        if path_in_root(root.fd, place) == "/":
            raise UnsafePathError(EPERM, "a mount there would hide the root", destination)
    except BaseException:
        os.close(place)
        raise
    return place


def is_there(site: Site, destination: str) -> bool:
    """Whether there is something below the root already that could be mounted on.

    Raises:
        OSError: as Root.open, but for ENOENT.
    """
    try:
        found = root_of(site).open(destination)
    except FileNotFoundError:
        return False
    os.close(found)
    return True


def refuse_procfs(site: Site, place: int, destination: str, source: int | None = None) -> None:
    """Refuse a mount over procfs, or in the place of it.

    Args:
        site: with the root.
        place: where it would be mounted.
        destination: as it was asked for.
        source: of a bind mount: one of a few files may be replaced, and /proc by a procfs.

    Raises:
        UnsafePathError: EPERM.

    Source: CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642.
    """
    found = path_in_root(site.descriptors["root"], place)
    is_below = found == "/proc" or found.startswith("/proc/")
    if not is_below and filesystem_type(place) != PROC_SUPER_MAGIC:
        return
    if source is not None and (found in REPLACEABLE or (found == "/proc" and _is_procfs(source))):
        return
    raise UnsafePathError(EPERM, "nothing may be mounted over procfs, or in its place", destination)


def _is_procfs(fd: int) -> bool:
    return filesystem_type(fd) == PROC_SUPER_MAGIC and os.fstat(fd).st_ino == _PROC_ROOT_INODE


def require_exact(site: Site, place: int, destination: str) -> None:
    """Refuse a place that was reached by a link.

    Raises:
        UnsafePathError: ELOOP.
    """
    found = path_in_root(site.descriptors["root"], place)
    if found != clean(destination):
        raise UnsafePathError(ELOOP, f"a link leads from there to {found}, it must be the place itself", destination)


def open_parent(site: Site, path: str) -> tuple[int, str]:
    """Open the directory that a node or link is to be made in, made if missing; return its descriptor and the name.

    Below /dev no link may be on the way: the image decides what /dev is, and must not decide where devices go.

    Raises:
        UnsafePathError: ELOOP a link below /dev, or /dev is one.
        OSError: as mkdir_in_root; ENOENT the path has no name.
    """
    parent, _, name = clean(path).rpartition("/")
    if name in ("", ".."):
        raise FileNotFoundError(ENOENT, "a path with a name at its end is needed", path)
    try:
        directory = mkdir_in_root(root_of(site), parent or "/")
    except NotADirectoryError as error:
        error.add_note(f"{parent} of the image is no directory")
        raise
    try:
        if f"{parent}/".startswith("/dev/"):
            require_exact(site, directory, parent)
    except BaseException:
        os.close(directory)
        raise
    return directory, name


def give(fd: int, mode: int, uid: int, gid: int) -> None:
    """Give an open file, which may be open with O_PATH, exactly this mode and owner.

    Raises:
        OSError: EPERM; EROFS.
    """
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (uid, gid):
        fchownat(fd, "", uid, gid, ChownFlag.EMPTY_PATH)
        found = os.fstat(fd)  # a change of owner may have taken bits away
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(f"/proc/thread-self/fd/{fd}", mode)


def still_inside(site: Site, fd: int) -> None:
    """Make sure that what was opened, made or mounted is inside the root.

    Raises:
        UnsafePathError: EXDEV it is not.
    """
    ensure_in_root(site.descriptors["root"], fd)
