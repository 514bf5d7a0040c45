"""The first steps of a new mount namespace: nothing leaks out, the root is open, and there is a procfs to trust."""

from __future__ import annotations

import os
import stat
from errno import EACCES, ELOOP, ENOENT, ENOSYS, ENOTDIR, EPERM, EXDEV

from kernelproof.impl._syscalls.filesystem import PROC_SUPER_MAGIC
from kernelproof.impl._syscalls.mount import AT_FDCWD, MountFlag, mount
from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.handles import FilesystemHandle, open_procfs
from kernelproof.impl.mount.options import PROPAGATION_WORDS
from kernelproof.impl.mount.point import mount_id

_REMEDIES = {
    EACCES: "the container's root, in its user namespace, must be allowed to search each directory on the way",
    ELOOP: "name the directory itself, without symbolic links on the way",
    ENOENT: "unpack an image there, or name another directory",
    ENOTDIR: "a root filesystem is a directory",
}


class IsolateMounts(Operation):
    """Gives all mounts of the new namespace a type of propagation, so that none made here is seen on the host."""

    __slots__ = ("propagation",)
    stage = "init"
    propagation: str

    def describe(self) -> str:
        """What will happen."""
        return f"make all mounts {self.propagation}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN in the mount namespace.
        """
        mount(None, "/", None, PROPAGATION_WORDS[self.propagation])


class OpenRoot(Operation):
    """Opens the root filesystem's directory, once: from here on its path counts no more."""

    __slots__ = ("path",)
    stage = "init"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"open the root {self.path}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOENT, ENOTDIR, EACCES; ELOOP a link on the way.
            UnsafePathError: EPERM it is the root of the host.
        """
        try:
            fd = _open_without_links(self.path)
        except OSError as error:
            if error.errno in _REMEDIES:
                error.add_note(Remedy(_REMEDIES[error.errno]))
            raise
        try:
            ours, host = os.fstat(fd), os.stat("/")
            if (ours.st_dev, ours.st_ino) == (host.st_dev, host.st_ino):
                raise UnsafePathError(EPERM, "the root of the host can't be the root of a container", self.path)
        except BaseException:
            os.close(fd)
            raise
        site.descriptors["root"] = fd


def _open_without_links(path: str) -> int:
    try:
        return openat2(AT_FDCWD, path, os.O_PATH | os.O_DIRECTORY, resolve=ResolveFlag.NO_SYMLINKS)
    except OSError as error:
        if error.errno not in (ENOSYS, EPERM):  # EPERM: a seccomp filter that knows no better
            raise
    fd = os.open("/" if path.startswith("/") else ".", os.O_PATH | os.O_DIRECTORY)
    try:
        for step in path.split("/"):
            if step:
                below = os.open(step, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
                kind = os.fstat(fd).st_mode
                if not stat.S_ISDIR(kind):
                    number = ELOOP if stat.S_ISLNK(kind) else ENOTDIR
                    raise OSError(number, os.strerror(number))
    except OSError as error:
        os.close(fd)
        error.filename = path
        raise
    return fd


class PrivateParent(Operation):
    """Makes the mount that the root is on private: where mounts stay shared, the container's would leave by it."""

    __slots__ = ("path",)
    stage = "init"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"make the mount that {self.path} is on private"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM.
            UnsafePathError: EXDEV something else is mounted over it.
        """
        from kernelproof.impl.mount.lookup import mount_of  # for shared mounts alone; the plan has loaded it then

        wanted = mount_of(site.descriptors["root"])
        fd = os.open(wanted.mount_point, os.O_PATH)
        try:
            if mount_id(fd, unique=False) != wanted.id:
                raise UnsafePathError(EXDEV, "another mount hides it", wanted.mount_point)
            mount(None, f"/proc/thread-self/fd/{fd}", None, MountFlag.PRIVATE)
        finally:
            os.close(fd)


class BindRoot(Operation):
    """Gives the root a mount of its own, with all that is mounted below it: pivot_root wants a mount."""

    __slots__ = ("path",)
    stage = "init"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"bind the root {self.path} on itself, with what is mounted below"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM; EINVAL an unbindable mount.
        """
        directory = site.descriptors["root"]
        with DetachedMount.copy(directory, recursive=True) as made:
            made.attach(directory)
            site.descriptors["root"] = made.detach_fd()
        os.close(directory)


class OpenProcfs(Operation):
    """Opens a procfs that is one: of its own where the kernel gives one, else what is at /proc, verified."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "open a procfs that nobody can mount over"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            UnsafePathError: what is at /proc is no procfs.
            OSError: ENOENT no /proc.
        """
        handle = open_procfs()
        site.descriptors["proc"] = handle.fd
        site.found["procfs method"] = handle.method


def procfs_of(site: Site) -> FilesystemHandle:
    """A handle of the procfs that was opened; the caller closes it, and the site's own stays.

    Raises:
        LookupError: none was opened.
    """
    if "proc" not in site.descriptors:
        raise LookupError("no procfs is open yet: the operation that opens it comes first")
    fd = os.dup(site.descriptors["proc"])
    return FilesystemHandle(fd, "proc", PROC_SUPER_MAGIC, str(site.found.get("procfs method", "open")))
