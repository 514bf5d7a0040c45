"""Nodes and links of /dev, made by descriptor of the directory that they are in.

Source: OCI runtime specification, config-linux.md, "Default Devices" and "Devices"; runtime-linux.md, "Dev symbolic
links".
"""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ENODEV, EPERM

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.rootfs.places import give, open_parent, root_of, still_inside
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.roads import attach_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import contextmanager
else:
    from kernelproof.impl._syscalls.unwinding import contextmanager

KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

# Path, major and minor number; each has mode 0666 and belongs to root.
DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
DEFAULT_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


class MakeDevice(Operation):
    """Makes a device node with exactly this mode and owner; where that is not allowed, the host's node is bound."""

    __slots__ = ("path", "kind", "major", "minor", "mode", "uid", "gid")  # noqa: RUF023
    stage = "init"
    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        """What will happen."""
        return (
            f"make {self.path}: {self.kind} {self.major}:{self.minor}, mode {self.mode:04o}, of {self.uid}:{self.gid}"
        )

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EEXIST something else is there; EROFS; ENOSPC; EPERM, and the host's node is not that device.
            UnsafePathError: ELOOP a link below /dev.
        """
        directory, name = open_parent(site, self.path)
        try:
            try:
                with _no_umask(), suppress(FileExistsError):
                    os.mknod(name, KINDS[self.kind] | self.mode, os.makedev(self.major, self.minor), dir_fd=directory)
            except PermissionError as error:
                if error.errno != EPERM:
                    raise
                BindDevice(self.path, self.kind, self.major, self.minor).do(site)
                return
            made = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            still_inside(site, made)
            check_device(made, self.kind, self.major, self.minor, self.path)
            give(made, self.mode, self.uid, self.gid)
        finally:
            os.close(made)


class BindDevice(Operation):
    """Binds a device node of the host, where none can be made: in a user namespace."""

    __slots__ = ("path", "kind", "major", "minor")  # noqa: RUF023
    stage = "init"
    path: str
    kind: str
    major: int
    minor: int

    def describe(self) -> str:
        """What will happen."""
        return f"bind the host's {self.path} ({self.kind} {self.major}:{self.minor})"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT the host has no such node; ENODEV it is another device; EEXIST something else is there.
            UnsafePathError: ELOOP a link below /dev.
        """
        with DetachedMount.copy(self._source(), follow=False) as made:
            check_device(made.fd, self.kind, self.major, self.minor, self.path)
            place = open_node_place(site, self.path)
            try:
                attach_in_root(root_of(site), place, made)
            finally:
                os.close(place)

    def _source(self) -> str:
        # The host may have the device under another name; where udev runs, it is found by its numbers.
        with suppress(OSError):
            found = os.lstat(self.path)
            if found.st_rdev == os.makedev(self.major, self.minor):
                return self.path
        by_number = f"/dev/{'block' if self.kind == 'b' else 'char'}/{self.major}:{self.minor}"
        return os.path.realpath(by_number) if os.path.lexists(by_number) else self.path


def open_node_place(site: Site, path: str) -> int:
    """Make a file to mount a node on, if nothing is there, and open it without following a link.

    Raises:
        OSError: EEXIST a directory or a link is in the way.
        UnsafePathError: ELOOP a link on the way.
    """
    directory, name = open_parent(site, path)
    try:
        place = _file(directory, name)
    finally:
        os.close(directory)
    try:
        if stat.S_IFMT(os.fstat(place).st_mode) in (stat.S_IFDIR, stat.S_IFLNK):
            raise UnsafePathError(EEXIST, "a directory or a link is in the place of a device", path)
        still_inside(site, place)
    except BaseException:
        os.close(place)
        raise
    return place


def _file(directory: int, name: str) -> int:
    with suppress(FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
    return os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)


def check_device(fd: int, kind: str, major: int, minor: int, path: str) -> None:
    """Make sure that an open file is a certain device.

    Raises:
        UnsafePathError: EEXIST in the container, ENODEV on the host: it is something else.
    """
    found = os.fstat(fd)
    numbers = (os.major(found.st_rdev), os.minor(found.st_rdev))
    if stat.S_IFMT(found.st_mode) == KINDS[kind] and (kind == "p" or numbers == (major, minor)):
        return
    is_device = stat.S_IFMT(found.st_mode) in (stat.S_IFCHR, stat.S_IFBLK)
    what = f"the device {numbers[0]}:{numbers[1]}" if is_device else "no such device"
    raise UnsafePathError(ENODEV, f"it is {what}, and not {kind} {major}:{minor}; put a tmpfs on /dev", path)


@contextmanager
def _no_umask() -> Iterator[None]:
    old = os.umask(0)
    try:
        yield
    finally:
        os.umask(old)


class MakeLink(Operation):
    """Makes a symbolic link, unless something is there; `is_replacing` takes what is there away first."""

    __slots__ = ("path", "target", "is_replacing")  # noqa: RUF023
    stage = "init"
    path: str
    target: str
    is_replacing: bool

    def describe(self) -> str:
        """What will happen."""
        return f"link {self.path} to {self.target}" + (", whatever is there" if self.is_replacing else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EROFS; EISDIR, EPERM a directory is in the way; EBUSY a mount is.
            UnsafePathError: ELOOP a link below /dev.
        """
        directory, name = open_parent(site, self.path)
        try:
            if self.is_replacing:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
            with suppress(FileExistsError):
                os.symlink(self.target, name, dir_fd=directory)
        finally:
            os.close(directory)
