"""tmpfs over a directory, with what the directory held: what an image has under /run or /var stays visible.

    with tmpfs_copy_up("/rootfs/var", "mode=755,size=64m") as mounted:
        mounted.attach("/rootfs/var")

The copy is made while the tmpfs is attached nowhere, so nobody sees half of it.
"""

from __future__ import annotations

import os
import stat
from errno import ENODATA, ENOTSUP, EOPNOTSUPP, EPERM

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.context import FsContext
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.options import Options, parse_options

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import closing

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.unwinding import closing

_CHUNK_BYTES = 1 << 20
_NO_XATTR = (ENOTSUP, EOPNOTSUPP, ENODATA, EPERM)


def mount_tmpfs(
    options: str | Iterable[str] | Options = "", *, source: str = "tmpfs", attributes: MountAttribute | None = None
) -> DetachedMount:
    """Return a tmpfs that is attached nowhere.

    Args:
        options: as for `mount -o`, or parsed already.
        source: a word for the table.
        attributes: per-mount attributes beside those of the options.

    Raises:
        FsContextError: EINVAL an option; OSError: EPERM; ENOSYS before Linux 5.2.
    """
    wanted = options if isinstance(options, Options) else parse_options(options)
    with FsContext("tmpfs", source=source) as context:
        return context.set_options(wanted).create().mount(wanted.attributes_set | (attributes or MountAttribute(0)))


def tmpfs_copy_up(
    target: Path | int, options: str | Iterable[str] | Options = "", *, source: str = "tmpfs"
) -> DetachedMount:
    """Return a tmpfs with a copy of a directory in it, attached nowhere.

    Copied are directories, files, links, FIFOs and device nodes, each with owner, mode, times and extended
    attributes; files with several names inside are one file. Mounts below the directory are not entered. The root of
    the tmpfs has owner and mode of the directory, unless an option says otherwise.

    Args:
        target: the directory, or a descriptor of it.
        options, source: as for mount_tmpfs.

    Raises:
        OSError: ENOTDIR; ENOENT; ENOSPC it does not fit the size; EPERM device nodes in a user namespace.
        FsContextError: as mount_tmpfs.
    """
    words = options if isinstance(options, Options) else parse_options(options)
    keys = {word.partition("=")[0] for word in words.data_words}
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=target) if isinstance(target, int) else (
        os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    )  # fmt: skip
    try:
        made = mount_tmpfs(words, source=source)
        try:
            root = made.open(".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                with closing(_Copy(os.fstat(directory).st_dev)) as copy:
                    copy.contents(directory, root)
                    copy.dress(directory, root, os.fstat(directory), keep=keys & {"mode", "uid", "gid"})
            finally:
                os.close(root)
        except BaseException:
            made.close()
            raise
    finally:
        os.close(directory)
    return made


class _Copy:
    """One copy: which files with several names were copied already."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.first_names: dict[int, tuple[int, str]] = {}  # inode -> open directory and name in the copy

    def contents(self, source: int, target: int) -> None:
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self.directory(name, source, target, status)
            else:
                self.other(name, source, target, status)

    def directory(self, name: str, source: int, target: int, status: os.stat_result) -> None:
        os.mkdir(name, 0o700, dir_fd=target)
        made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target)
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
            try:
                if status.st_dev == self.device:
                    self.contents(inner, made)
                self.dress(inner, made, status, keep=set())
            finally:
                os.close(inner)
        finally:
            os.close(made)

    def other(self, name: str, source: int, target: int, status: os.stat_result) -> None:
        if status.st_nlink > 1 and self.link(name, target, status.st_ino):
            return
        if stat.S_ISREG(status.st_mode):
            self.file(name, source, target, status)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
            os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        if status.st_nlink > 1:
            self.first_names[status.st_ino] = (os.dup(target), name)

    def link(self, name: str, target: int, inode: int) -> bool:
        if inode not in self.first_names:
            return False
        directory, first = self.first_names[inode]
        os.link(first, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        return True

    def file(self, name: str, source: int, target: int, status: os.stat_result) -> None:
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
        try:
            writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
            try:
                while os.sendfile(writer, reader, None, _CHUNK_BYTES):
                    pass
                self.dress(reader, writer, status, keep=set())
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def dress(self, source: int, made: int, status: os.stat_result, *, keep: set[str]) -> None:
        """Give owner, mode, extended attributes and times, in this order: a change of owner clears set-user-ID."""
        owner = (-1 if "uid" in keep else status.st_uid, -1 if "gid" in keep else status.st_gid)
        os.fchown(made, *owner)
        if "mode" not in keep:
            os.fchmod(made, stat.S_IMODE(status.st_mode))
        for key in os.listxattr(source):
            with suppress_missing():
                os.setxattr(made, key, os.getxattr(source, key))
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))

    def close(self) -> None:
        for directory, _ in self.first_names.values():
            os.close(directory)


class suppress_missing(suppress):
    """A tmpfs need not know every kind of extended attribute."""

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(self, kind: object, value: BaseException | None, at: object) -> bool:
        return isinstance(value, OSError) and value.errno in _NO_XATTR
