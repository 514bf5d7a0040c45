"""Into the root: pivot_root(2), or what replaces it, and what is done on the other side.

After it the container's files could be loaded in place of ours, and its /proc is anything: no operation here imports,
or looks at a path.
"""

from __future__ import annotations

import os
from errno import EINVAL

from kernelproof.impl._syscalls.mount import mount
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.process.imports import refuse_imports
from kernelproof.impl.libcontainer.rootfs.opening import procfs_of
from kernelproof.impl.libcontainer.rootfs.places import root_of
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import PROPAGATION_WORDS
from kernelproof.impl.mount.pivot import change_root, is_initial_ramfs
from kernelproof.impl.mount.resolve import mkdir_in_root


class MakeDirectory(Operation):
    """Makes a directory that the process begins in, as far as it is missing."""

    __slots__ = ("path",)
    stage = "init"
    path: str

    def describe(self) -> str:
        """What will happen."""
        return f"make the directory {self.path} if it is missing"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: as mkdir_in_root.
        """
        os.close(mkdir_in_root(root_of(site), self.path))


class WriteSysctl(Operation):
    """Sets a kernel parameter of the process's namespaces, through the procfs that was verified."""

    __slots__ = ("key", "value")
    stage = "root"
    key: str
    value: str

    def describe(self) -> str:
        """What will happen."""
        return f"set {self.key} to {self.value!r}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OptionError: the key is no name of a parameter.
            OSError: ENOENT there is no such parameter; EINVAL its value; EACCES, EPERM.
            UnsafePathError: something is mounted over it.
            LookupError: no procfs was opened.
        """
        path = path_of_sysctl(self.key)
        with procfs_of(site) as proc:
            try:
                fd = proc.open(path, os.O_WRONLY)
                try:
                    os.write(fd, os.fsencode(self.value))
                finally:
                    os.close(fd)
            except OSError as error:
                error.add_note(f"kernel parameter {self.key} = {self.value!r}")
                raise


def path_of_sysctl(key: str) -> str:
    """Return where a kernel parameter is below procfs. Where `/` comes first, it and `.` change roles.

    Raises:
        OptionError: an empty part, or `..`.

    Source: sysctl.d(5), CONFIGURATION FORMAT.

    >>> path_of_sysctl("net.ipv4.conf.eth0/1.forwarding"), path_of_sysctl("net/ipv4/conf/eth0.1/forwarding")
    ('sys/net/ipv4/conf/eth0.1/forwarding', 'sys/net/ipv4/conf/eth0.1/forwarding')
    """
    first = next((character for character in key if character in "./"), ".")
    path = key if first == "/" else key.translate({ord("."): "/", ord("/"): "."})
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise OptionError(f"no kernel parameter: {key!r}")
    return f"sys/{path}"


class PivotRoot(Operation):
    """Makes the root the root of the mount namespace, and lets go of the old one. `manner`: one of impl.mount's."""

    __slots__ = ("manner",)
    stage = "root"
    manner: str

    def describe(self) -> str:
        """What will happen."""
        return "enter the root by " + ("moving its mount onto / and chroot" if self.manner == "move" else "pivot_root")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL the root is the initial ramfs; EPERM.
        """
        root = root_of(site).fd
        refuse_imports()
        try:
            manner = change_root(root, "dot" if self.manner == "auto" else self.manner)
        except OSError as error:
            # The initial ramfs is on no other mount and can't be pivoted; to look first would cost every other start.
            if self.manner != "auto" or error.errno != EINVAL or not is_initial_ramfs():
                raise
            manner = change_root(root, "move")
        site.found["root entered by"] = manner


class EnterChroot(Operation):
    """Enters the root by chroot(2): where the container shares the mounts of the host."""

    __slots__ = ()
    stage = "root"

    def describe(self) -> str:
        """What will happen."""
        return "enter the root by chroot"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM without CAP_SYS_CHROOT.
        """
        enter_root(site)


def enter_root(site: Site) -> None:
    """Makes the root that is open the process's own.

    Raises:
        OSError: EPERM without CAP_SYS_CHROOT.
    """
    refuse_imports()
    os.chdir(root_of(site).fd)
    os.chroot(".")
    os.chdir("/")


class RootPropagation(Operation):
    """Gives the new root its type of propagation."""

    __slots__ = ("propagation",)
    stage = "root"
    propagation: str

    def describe(self) -> str:
        """What will happen."""
        return f"make / {self.propagation}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM.
        """
        mount(None, "/", None, PROPAGATION_WORDS[self.propagation])
