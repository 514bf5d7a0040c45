"""Calls can be made on every machine of the table, and the structures of those about mounts are taken apart right."""

from __future__ import annotations

import ctypes
import importlib
import os
import pkgutil
import struct
import sys
from pathlib import Path

import pytest

from kernelproof.impl import _syscalls
from kernelproof.impl._syscalls import statx
from kernelproof.impl._syscalls.architecture import system_call_number
from kernelproof.impl._syscalls.fanotify import MountEvent, parse_mount_notices
from kernelproof.impl._syscalls.libc import Call
from kernelproof.impl._syscalls.statx import ATTRIBUTE_MOUNT_ROOT, StatxMask, statx_of, statx_path

linux = pytest.mark.skipif(sys.platform != "linux", reason="libc's Linux calls")


def declared_calls() -> list[Call]:
    """Every call that a module of the layer declares."""
    modules = [
        importlib.import_module(f"{_syscalls.__name__}.{each.name}")
        for each in pkgutil.iter_modules(_syscalls.__path__)
    ]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Call)]


@linux
def test_every_call_can_be_made() -> None:
    """A call that this libc does not name has a number, on each machine of the table."""
    library = ctypes.CDLL(None)
    calls = declared_calls()
    assert len({call.name for call in calls}) > 25
    unnamed = {call.name for call in calls if not hasattr(library, call.name)}
    for name in sorted(unnamed):
        for machine in ("x86_64", "aarch64", "riscv64"):
            assert system_call_number(name, machine, sixty_four_bits=True) > 0


@linux
def test_statx_is_stat(tmp_path: Path) -> None:
    """Mode, device and inode are those of os.stat, by path and by descriptor; a link is looked at itself."""
    (tmp_path / "file").touch(mode=0o640)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        status = (tmp_path / name).lstat()
        found = statx_path(tmp_path / name, StatxMask.BASIC_STATS)
        assert (found.mode, found.inode) == (status.st_mode, status.st_ino)
        assert os.makedev(found.major, found.minor) == status.st_dev
    fd = os.open(tmp_path, os.O_PATH)
    followed = statx_path("link", StatxMask.BASIC_STATS, dir_fd=fd, follow=True)
    assert followed.inode == (tmp_path / "file").stat().st_ino
    assert statx_of(fd, StatxMask.BASIC_STATS).inode == tmp_path.stat().st_ino
    os.close(fd)
    with pytest.raises(FileNotFoundError) as refused:
        statx_path(tmp_path / "missing")
    assert refused.value.filename == str(tmp_path / "missing")
    assert "flags=SYMLINK_NOFOLLOW|NO_AUTOMOUNT|STATX_DONT_SYNC" in refused.value.__notes__[0]


@pytest.mark.parametrize(
    ("got", "attributes", "known", "told"),
    [
        (StatxMask.MNT_ID, 0, ATTRIBUTE_MOUNT_ROOT, (77, None, False)),
        (StatxMask.MNT_ID_UNIQUE, ATTRIBUTE_MOUNT_ROOT, ATTRIBUTE_MOUNT_ROOT, (None, 77, True)),
        (StatxMask.BASIC_STATS, ATTRIBUTE_MOUNT_ROOT, 0, (None, None, None)),
    ],
    ids=["old ID", "unique ID", "neither"],
)
def test_statx_as_the_kernel_lays_it_out(
    monkeypatch: pytest.MonkeyPatch, got: int, attributes: int, known: int, told: tuple[object, ...]
) -> None:
    """Fields stand where struct statx has them; an ID or an attribute that the kernel did not tell is None."""

    def fill(dir_fd: int, name: object, flags: int, mask: int, buffer: bytearray, **_: object) -> None:
        struct.pack_into("=IIQ", buffer, 0, got, 4096, attributes)
        struct.pack_into("=H", buffer, 28, 0o100640)
        struct.pack_into("=Q", buffer, 32, 5)
        struct.pack_into("=Q", buffer, 56, known)
        struct.pack_into("=IIQ", buffer, 136, 8, 1, 77)

    monkeypatch.setattr(statx, "_statx", fill)
    found = statx_path("/", StatxMask.BASIC_STATS)
    assert (found.mount_id, found.unique_mount_id, found.is_mount_root) == told
    assert (found.mode, found.inode, found.major, found.minor) == (0o100640, 5, 8, 1)


@linux
def test_statx_tells_what_it_knows() -> None:
    """A root of a mount is told as one where the kernel has the bit; of two kinds of ID the one that was asked for."""
    found = statx_path("/", StatxMask.MNT_ID)
    assert found.is_mount_root in (True, None)
    assert found.unique_mount_id is None
    unique = statx_path("/", StatxMask.MNT_ID_UNIQUE)
    assert unique.mount_id is None or unique.unique_mount_id is None
    assert ATTRIBUTE_MOUNT_ROOT == 0x2000


def event(mask: int, mount_id: int | None) -> bytes:
    """An event as the kernel writes it."""
    info = b"" if mount_id is None else struct.pack("=BBHIQ", 7, 0, 16, 0, mount_id)
    return struct.pack("=IBBHQii", 24 + len(info), 3, 0, 24, mask, -1, 0) + info


def test_events_are_taken_apart() -> None:
    """Attached and detached mounts have their IDs, an overflow has none, and what is cut off is no event."""
    data = event(0x1000000, 2**33 + 5) + event(0x3000000, 7) + event(0x4000, None)
    attach, detach, overflow = MountEvent.MNT_ATTACH, MountEvent.MNT_DETACH, MountEvent.Q_OVERFLOW
    expected = [(attach, 2**33 + 5), (attach | detach, 7), (overflow, None)]
    assert [tuple(each) for each in parse_mount_notices(data)] == expected
    assert parse_mount_notices(data[:30]) in ((), (expected[0],), ((attach, None),))
    assert parse_mount_notices(b"") == ()


@pytest.mark.parametrize("length", range(0, 40, 3))
def test_broken_events_do_no_harm(length: int) -> None:
    """Whatever the bytes are, taking them apart ends, with one event at most for each header that fits in."""
    for data in (bytes(length), b"\xff" * length):
        assert len(parse_mount_notices(data)) == length // 24
