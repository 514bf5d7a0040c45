"""statmount(2) and listmount(2)."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.libc import BUFFER, BYTES, UINT, ULONG, Call
from kernelproof.impl._syscalls.statmount import LSMT_ROOT, StatmountMask, listmount, statmount

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, Refusal
    from kernelproof.conformance.seen import Seen

_statmount = Call("statmount", request=BYTES, buffer=BUFFER, size=ULONG, flags=UINT)
FIXED_BYTES = 512  # of struct statmount before its strings


def old_id(unique_id: int) -> int:
    """mnt_id_old of a mount, the lowest layer's bytes taken apart here."""
    buffer = bytearray(4096)
    statmount(unique_id, StatmountMask.MNT_BASIC, buffer)
    (found,) = struct.unpack_from("=I", buffer, 56)
    return int(found)


@behaviour("mount.statmount.by-unique-id", subject="impl")
def test_by_unique_id(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """statmount of a unique ID from statx gives the ID of mountinfo."""
    unique = mount.mount_id(tree / "a")
    assert unique > 2**31
    assert mount.mount_of(tree).id == line_at(tree).id
    assert seen(old_id(unique)) == line_at(tree).id


@behaviour("mount.statmount.bad-flags-einval", subject="impl")
def test_bad_flags(tree: Path, seen: Seen) -> None:
    """No flag is defined."""
    unique = mount.mount_id(tree)
    assert seen.errno_of(statmount, unique, StatmountMask.MNT_BASIC, bytearray(4096), flags=1) == "EINVAL"


@behaviour("mount.statmount.size-too-small-einval", subject="impl")
def test_small_request(tree: Path, seen: Seen) -> None:
    """A request shorter than its first version is refused."""
    request = struct.pack("=IIQQ", 16, 0, mount.mount_id(tree), StatmountMask.MNT_BASIC)
    assert seen.errno_of(_statmount, request, bytearray(4096), 4096, 0) == "EINVAL"


@behaviour("mount.statmount.size-above-page-e2big", subject="impl")
def test_large_request(tree: Path, seen: Seen) -> None:
    """A request longer than a page is refused."""
    size = os.sysconf("SC_PAGE_SIZE") + 8
    request = struct.pack("=IIQQ", size, 0, mount.mount_id(tree), StatmountMask.MNT_BASIC)
    assert seen.errno_of(_statmount, request.ljust(size, b"\0"), bytearray(4096), 4096, 0) == "E2BIG"


@behaviour("mount.statmount.missing-id-enoent", subject="impl")
def test_no_such_mount(tree: Path, seen: Seen) -> None:
    """An ID that no mount has is refused."""
    mount.mount("x", tree / "a", "tmpfs", "")
    gone = mount.mount_id(tree / "a")
    mount.unmount(tree / "a")
    assert seen.errno_of(statmount, gone, StatmountMask.MNT_BASIC, bytearray(4096)) == "ENOENT"


@behaviour("mount.statmount.small-buffer-eoverflow", subject="impl")
def test_small_buffer(tree: Path, seen: Seen) -> None:
    """A buffer without room for the string that is asked for is refused."""
    unique = mount.mount_id(tree)
    buffer = bytearray(FIXED_BYTES + 4)
    assert seen.errno_of(statmount, unique, StatmountMask.MNT_POINT, buffer) == "EOVERFLOW"


def ids_below(unique_id: int) -> set[int]:
    """What listmount gives for a mount, in parts of seven."""
    found: list[int] = []
    while part := listmount(unique_id, 7, after=found[-1] if found else 0):
        found += part
    assert len(found) == len(set(found))
    return set(found)


@behaviour("mount.listmount.root-lists-all", subject="impl")
def test_all_are_listed(tree: Path, seen: Seen) -> None:
    """LSMT_ROOT lists every mount below the root, as mountinfo does."""
    mount.mount("x", tree / "a", "tmpfs", "")
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        lines = {int(line.split()[0]) for line in file}
    root = mount.mount_id("/", unique=False)
    listed = {old_id(unique) for unique in ids_below(LSMT_ROOT)}
    assert seen(listed - {root}) == lines - {root}


@behaviour("mount.listmount.resume", subject="impl")
def test_resume(tree: Path, seen: Seen) -> None:
    """After an ID that was returned only those after it follow, each once."""
    for name in ("a", "b"):
        mount.mount("x", tree / name, "tmpfs", "")
    whole = listmount(LSMT_ROOT, 1000)
    assert len(whole) > 3
    assert seen([listmount(LSMT_ROOT, 1000, after=whole[place]) == whole[place + 1 :] for place in (0, 2)]) == [
        True,
        True,
    ]


@behaviour("mount.listmount.children-only-below", subject="impl")
def test_below_a_mount(tree: Path, seen: Seen) -> None:
    """The ID of a mount lists the mounts below it, and nothing where there are none."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("y", tree / "a/sub", "tmpfs", "")
    below = {mount.mount_id(tree / name) for name in ("a", "a/sub")}
    assert ids_below(mount.mount_id(tree)) == below
    assert seen(list(listmount(mount.mount_id(tree / "a/sub"), 10))) == []


@behaviour("mount.statmount.needs-cap-sys-admin", subject="impl")
def test_capability_is_needed(as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Without CAP_SYS_ADMIN neither call tells of the own mount namespace."""
    root = mount.mount_id("/")

    def ask() -> tuple[list[str], bool]:
        told = bytearray(4096)
        answers = [
            refusal(statmount, root, StatmountMask.MNT_BASIC, told),
            refusal(listmount, LSMT_ROOT, 10),
        ]
        return answers, any(told)

    answers, is_told = as_nobody(ask)
    assert is_told == (answers[0] == "no error")
    assert seen(answers) == ["EPERM", "EPERM"]
