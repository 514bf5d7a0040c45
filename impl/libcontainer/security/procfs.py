"""Writing to the files of one's own process below a verified procfs, never by a path.

A path such as /proc/self/attr/exec leads wherever the mount table says: to a file of an image, or with a bind mount to
another file of procfs that takes the same words.
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.rootfs.opening import procfs_of
from kernelproof.impl.mount.handles import open_procfs

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.operations import Site
    from kernelproof.impl.mount.handles import FilesystemHandle


def handle_of(site: Site) -> FilesystemHandle:
    """The procfs that the plan opened, or else one of one's own; the caller closes it.

    Raises:
        UnsafePathError: what is at /proc is no procfs.
        OSError: ENOENT: no /proc.
    """
    return procfs_of(site) if "proc" in site.descriptors else open_procfs()


def open_own(handle: FilesystemHandle, name: str, flags: int) -> int:
    """Open a file of the calling thread, such as `attr/exec`; the caller closes it.

    Raises:
        UnsafePathError: something is mounted on the way.
        OSError: ENOENT, EACCES.
    """
    own = os.readlink("thread-self", dir_fd=handle.fd)  # a link, but its text is the kernel's
    return handle.open(f"{own}/{name}", flags)


def write_own(site: Site, names: tuple[str, ...], text: str) -> str:
    """Write a text to the first of one's own files that is there, and return its name.

    Args:
        names: below the directory of the calling thread, the preferred one first.

    Raises:
        UnsafePathError: something is mounted on the way.
        OSError: what open(2) and write(2) give; ENOENT: none of them is there.
    """
    with handle_of(site) as handle:
        for place, name in enumerate(names):
            try:
                fd = open_own(handle, name, os.O_WRONLY)
            except FileNotFoundError:
                if place == len(names) - 1:
                    raise
                continue
            try:
                os.write(fd, text.encode())
            except OSError as error:
                named = OSError(error.errno, error.strerror, f"/proc/thread-self/{name}")
                named.add_note(f"write({text!r})")
                raise named from None
            finally:
                os.close(fd)
            return name
    raise ValueError("no file to write to was given")


def write_of(pid: int, name: str, text: str) -> None:
    """Write a text to a file of another process of the runtime's PID namespace; errors as `write_own`."""
    with open_procfs() as handle:
        fd = handle.open(f"{pid}/{name}", os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            named = OSError(error.errno, error.strerror, f"/proc/{pid}/{name}")
            named.add_note(f"write({text!r})")
            raise named from None
        finally:
            os.close(fd)
