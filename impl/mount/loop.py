"""Loop devices: a file as a block device.

    with attach_loop("/images/disk.ext4", read_only=True) as device:
        mount(device.path, "/mnt", "ext4", "ro")

With auto-clear, which is the default, the kernel gives the device back when nobody uses it any more: so the `with` may
end while the mount stays, and nothing is left when it is unmounted.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from contextlib import suppress
from enum import IntFlag
from errno import EBUSY, EINVAL, ENOTTY
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.mount.table import Path

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_SET_STATUS64 = 0x4C04
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_SET_DIRECT_IO = 0x4C08
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_INFO = struct.Struct("=QQQQQIIII64s64s32s2Q")  # struct loop_info64
_CONFIG = struct.Struct(f"=II{_INFO.size}s8Q")  # struct loop_config
_TRIES = 64  # of a device that somebody else took between its number and its use
_NAME_BYTES = 63


class LoopFlag(IntFlag):
    """LO_FLAGS_ of a loop device."""

    READ_ONLY = 1
    AUTOCLEAR = 4
    PARTSCAN = 8
    DIRECT_IO = 16


class LoopStatus(NamedTuple):
    """What a loop device is set to.

    Attributes:
        number: of the device.
        offset: where in the file it begins, in bytes.
        size_limit: how much of it, in bytes; 0 is all.
        flags: members of LoopFlag.
        file_name: of the file, as it was given, cut at 63 bytes.
        device, inode: of the file.
    """

    number: int
    offset: int
    size_limit: int
    flags: LoopFlag
    file_name: str
    device: int
    inode: int


class LoopDevice:
    """A loop device in use; a context manager that closes it.

    Attributes:
        path: of the device.
        fd: open on it.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def status(self) -> LoopStatus:
        """Return what it is set to.

        Raises:
            OSError: ENXIO it is not in use any more.
        """
        return parse_status(fcntl.ioctl(self.fd, _LOOP_GET_STATUS64, bytes(_INFO.size)))

    def detach(self) -> None:
        """Give the device back now, or when its last user is gone.

        Raises:
            OSError: ENXIO it is not in use any more.
        """
        fcntl.ioctl(self.fd, _LOOP_CLR_FD, 0)

    def close(self) -> None:
        """Close it: with auto-clear and no other user the device is given back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def attach_loop(
    file: Path | int,
    *,
    read_only: bool = False,
    direct_io: bool = False,
    auto_clear: bool = True,
    scan_partitions: bool = False,
    offset: int = 0,
    size_limit: int = 0,
    block_size: int = 0,
    dev: Path = "/dev",
) -> LoopDevice:
    """Make a file a block device.

    Args:
        file: a regular file or block device, or a descriptor of one.
        read_only: of the device.
        direct_io: past the page cache, where the file's filesystem can do that.
        auto_clear: given back when nobody uses it any more.
        scan_partitions: look for a partition table.
        offset: where in the file, in bytes.
        size_limit: how much of it, in bytes; 0 is all.
        block_size: logical, in bytes: 0 or 512 to the page size.
        dev: where devices are.

    Raises:
        OSError: ENOENT the file, or no loop-control: the kernel has no loop driver; EACCES; EINVAL no regular file, or
            a bad block size; EBUSY other programs took each free device.

    Source: loop(4).
    """
    backing = file if isinstance(file, int) else os.open(file, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    try:
        kind = os.fstat(backing).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
            raise OSError(EINVAL, "neither a regular file nor a block device", str(file))
        flags = LoopFlag(0)
        for wanted, flag in ((read_only, LoopFlag.READ_ONLY), (auto_clear, LoopFlag.AUTOCLEAR),
                             (scan_partitions, LoopFlag.PARTSCAN), (direct_io, LoopFlag.DIRECT_IO)):  # fmt: skip
            flags |= flag if wanted else LoopFlag(0)
        name = os.fsencode(f"fd {file}" if isinstance(file, int) else file)[:_NAME_BYTES]
        info = _INFO.pack(0, 0, 0, offset, size_limit, 0, 0, 0, flags, name, b"", b"", 0, 0)
        return _take_free(backing, info, block_size, flags, os.fspath(dev))
    finally:
        if backing is not file:
            os.close(backing)


def _take_free(backing: int, info: bytes, block_size: int, flags: LoopFlag, dev: str) -> LoopDevice:
    control = os.open(f"{dev}/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"{dev}/loop{number}"
            read_only = flags & LoopFlag.READ_ONLY
            fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            try:
                configure(fd, backing, info, block_size, flags)
            except OSError as error:
                os.close(fd)
                if error.errno != EBUSY:
                    raise
                continue
            except BaseException:
                os.close(fd)
                raise
            return LoopDevice(path, fd)
    finally:
        os.close(control)
    raise OSError(EBUSY, f"{_TRIES} free loop devices were each taken by somebody else first", f"{dev}/loop-control")


def configure(fd: int, backing: int, info: bytes, block_size: int, flags: LoopFlag) -> None:
    """Set a loop device up in one step (Linux 5.8), or in two and undone if the second fails.

    Raises:
        OSError: EBUSY it is in use; EINVAL.
    """
    try:
        fcntl.ioctl(fd, _LOOP_CONFIGURE, _CONFIG.pack(backing, block_size, info, *[0] * 8))
    except OSError as error:
        if error.errno not in (EINVAL, ENOTTY) or block_size:
            raise
    else:
        return
    fcntl.ioctl(fd, _LOOP_SET_FD, backing)
    try:
        fcntl.ioctl(fd, _LOOP_SET_STATUS64, info)
        if flags & LoopFlag.DIRECT_IO:
            fcntl.ioctl(fd, _LOOP_SET_DIRECT_IO, 1)
    except BaseException:
        fcntl.ioctl(fd, _LOOP_CLR_FD, 0)
        raise


def parse_status(data: bytes) -> LoopStatus:
    """Take a struct loop_info64 apart."""
    device, inode, _, offset, limit, number, _, _, flags, name, *_ = _INFO.unpack(data)
    return LoopStatus(number, offset, limit, LoopFlag(flags), os.fsdecode(name.rstrip(b"\0")), device, inode)


def open_loop(path: Path) -> LoopDevice:
    """Take a loop device that is there.

    Raises:
        OSError: ENOENT, EACCES; ENXIO it is not in use.
    """
    device = LoopDevice(os.fspath(path), os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    try:
        device.status()
    except BaseException:
        device.close()
        raise
    return device


def list_loops(*, sys: Path = "/sys") -> dict[str, str]:
    """Return the loop devices in use: name and backing file.

    Raises:
        OSError: ENOENT no sysfs.
    """
    found = {}
    for name in sorted(os.listdir(os.path.join(sys, "block"))):
        path = os.path.join(sys, "block", name, "loop/backing_file")
        with suppress(FileNotFoundError), open(path, "rb") as file:
            found[name] = os.fsdecode(file.read().rstrip(b"\n"))
    return found
