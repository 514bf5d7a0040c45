"""tmpfs and ramfs: limits, owners, remounts."""

from __future__ import annotations

import os
import stat
from errno import EOPNOTSUPP, errorcode
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen

PAGE = os.sysconf("SC_PAGE_SIZE")


def size_of(path: Path) -> int:
    """The size of a filesystem in bytes."""
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def memory_bytes() -> int:
    """The machine's memory, as tmpfs counts it: without what the kernel reserved."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        return 1024 * int(file.readline().split()[1])


@behaviour("mount.tmpfs.size-rounds-up", subject="impl")
def test_size_is_rounded_up(tree: Path, seen: Seen) -> None:
    """10000 bytes are three pages."""
    assert PAGE == 4096
    mount.mount("x", tree / "a", "tmpfs", "size=10000")
    assert seen(size_of(tree / "a")) == 12288


@behaviour("mount.tmpfs.size-enforced-enospc", subject="impl")
def test_size_is_the_limit(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A write beyond the size is short, the next one is refused."""
    mount.mount("x", tree / "a", "tmpfs", "size=8k")
    fd = os.open(tree / "a/file", os.O_WRONLY | os.O_CREAT)
    written = os.write(fd, bytes(100_000))
    answers = [written, refusal(os.write, fd, b"x")]
    os.close(fd)
    assert seen(answers) == [8192, "ENOSPC"]


@behaviour("mount.tmpfs.size-zero-unlimited", subject="impl")
def test_size_zero(tree: Path, seen: Seen) -> None:
    """size=0 is no limit, which statfs shows as 0 blocks."""
    mount.mount("x", tree / "a", "tmpfs", "size=0")
    (tree / "a/file").write_bytes(bytes(PAGE * 4))
    assert seen(os.statvfs(tree / "a").f_blocks) == 0


@behaviour("mount.tmpfs.size-suffixes", subject="impl")
def test_size_suffixes(tree: Path, seen: Seen) -> None:
    """k, m and g are powers of 1024, % is of the memory."""
    sizes = []
    for text in ("64k", "3m", "1g", "50%"):
        mount.force_mount("x", tree / "a", "tmpfs", f"size={text}")
        sizes.append(size_of(tree / "a"))
    half = memory_bytes() // 2
    assert seen(sizes[:3]) == [64 << 10, 3 << 20, 1 << 30]
    assert abs(sizes[3] - half) <= half // 50


@behaviour("mount.tmpfs.nr-percent-einval", subject="impl")
def test_percentage_of_others(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Only size takes a percentage."""
    words = ("nr_blocks=10%", "nr_inodes=10%", "nr_blocks=10")
    answers = [refusal(calls.mount, "x", tree / "a", "tmpfs", 0, word) for word in words]
    assert refusal(mount.force_mount, "x", tree / "b", "tmpfs", "nr_inodes=10%") == "EINVAL"
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.tmpfs.default-half-ram", subject="impl")
def test_default_is_half(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Without a size the limit is half of the memory."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert line_at(tree / "a").fstype == "tmpfs"
    half = memory_bytes() // 2
    assert abs(seen(size_of(tree / "a")) - half) <= half // 50


@behaviour("mount.tmpfs.nr-inodes-enospc", subject="impl")
def test_number_of_files(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Three inodes are the root directory and two files."""
    mount.mount("x", tree / "a", "tmpfs", "nr_inodes=3")
    assert seen([refusal((tree / "a" / name).touch) for name in "123"]) == ["no error", "no error", "ENOSPC"]


@behaviour("mount.tmpfs.mode-uid-gid", subject="impl")
def test_owner_of_the_root(tree: Path, seen: Seen) -> None:
    """Mode, user and group of the root directory are those of the options."""
    mount.mount("x", tree / "a", "tmpfs", "mode=700,uid=1000,gid=1001")
    status = (tree / "a").stat()
    assert seen([stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]) == [0o700, 1000, 1001]


@behaviour("mount.tmpfs.mode-no-effect-on-remount", subject="impl")
def test_mode_by_remount(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount leaves the mode of the root directory."""
    mount.mount("x", tree / "a", "tmpfs", "mode=755")
    mount.remount(tree / "a", "mode=700,size=64k")
    assert "size=64k" in line_at(tree / "a").super_options
    assert seen(stat.S_IMODE((tree / "a").stat().st_mode)) == 0o755


@behaviour("mount.tmpfs.remount-grow-keeps-files", subject="impl")
def test_grow(tree: Path, seen: Seen) -> None:
    """A remount with a larger size raises the limit and keeps the files."""
    mount.mount("x", tree / "a", "tmpfs", "size=64k")
    (tree / "a/file").write_text("kept")
    mount.remount(tree / "a", "size=128k")
    assert seen([size_of(tree / "a"), (tree / "a/file").read_text()]) == [131072, "kept"]


@behaviour("mount.tmpfs.remount-below-usage-fails", subject="impl")
def test_shrink_below_usage(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A size below what is used is refused, and the limit stays."""
    mount.mount("x", tree / "a", "tmpfs", "size=64k")
    (tree / "a/file").write_bytes(bytes(32768))
    assert refusal(mount.remount, tree / "a", "size=8k") == "EINVAL"
    assert seen.errno_of(calls.mount, None, tree / "a", None, MountFlag.REMOUNT, "size=8k") == "EINVAL"
    assert size_of(tree / "a") == 65536


@behaviour("mount.tmpfs.noswap-not-on-remount", subject="impl")
def test_noswap_by_remount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """noswap can be given at the first mount only."""
    mount.mount("x", tree / "a", "tmpfs", "noswap")
    mount.mount("x", tree / "b", "tmpfs", "")
    assert refusal(mount.remount, tree / "b", "noswap") == "EINVAL"
    assert seen.errno_of(calls.mount, None, tree / "b", None, MountFlag.REMOUNT, "noswap") == "EINVAL"


@behaviour("mount.tmpfs.quota-not-on-remount", subject="impl")
def test_quota_by_remount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """usrquota can be given at the first mount only."""
    mount.mount("x", tree / "a", "tmpfs", "usrquota")
    mount.mount("x", tree / "b", "tmpfs", "")
    assert refusal(mount.remount, tree / "b", "usrquota") == "EINVAL"
    assert seen.errno_of(calls.mount, None, tree / "b", None, MountFlag.REMOUNT, "usrquota") == "EINVAL"


@behaviour("mount.tmpfs.xattr-uses-inodes", subject="impl")
def test_attributes_take_inodes(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """An extended attribute takes of the free inodes."""
    mount.mount("x", tree / "a", "tmpfs", "nr_inodes=1k")
    assert "nr_inodes=1024" in line_at(tree / "a").super_options
    (tree / "a/file").touch()
    before = os.statvfs(tree / "a").f_ffree
    os.setxattr(tree / "a/file", "trusted.a", b"x" * 100)
    assert seen(os.statvfs(tree / "a").f_ffree) < before


@behaviour("mount.tmpfs.unmount-discards", subject="impl")
def test_unmount_discards(tree: Path, seen: Seen) -> None:
    """What was in a tmpfs is gone when it is mounted again."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/file").touch()
    mount.unmount(tree / "a")
    mount.mount("x", tree / "a", "tmpfs", "")
    assert mount.is_mount_point(tree / "a")
    assert seen(os.listdir(tree / "a")) == []


@behaviour("mount.tmpfs.mpol-offline-node", subject="impl")
def test_policy_of_a_node_that_is_not_there(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A memory policy with a node that is not online is refused, with one that is it is taken."""
    answers = [refusal(calls.mount, "x", tree / "a", "tmpfs", 0, f"mpol=bind:{node}") for node in (63, 0)]
    assert refusal(mount.force_mount, "x", tree / "b", "tmpfs", "mpol=bind:63") == "EINVAL"
    assert seen(answers) == ["EINVAL", "no error"]


@behaviour("mount.ramfs.size-no-limit", subject="impl")
def test_ramfs_has_no_limit(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A ramfs takes a size and does not keep to it."""
    mount.mount("x", tree / "a", "ramfs", "size=1M")
    assert line_at(tree / "a").fstype == "ramfs"
    (tree / "a/file").write_bytes(bytes(2 << 20))
    assert seen((tree / "a/file").stat().st_size) == 2 << 20


@behaviour("mount.tmpfs.user-xattr", subject="impl")
def test_attributes_of_users(tree: Path, line_at: LineAt, refusal: Refusal, seen: Seen) -> None:
    """A user's extended attribute is refused, a trusted one is not."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert line_at(tree / "a").fstype == "tmpfs"
    (tree / "a/file").touch()
    assert refusal(os.setxattr, tree / "a/file", "trusted.a", b"x") == "no error"
    assert seen.errno_of(os.setxattr, tree / "a/file", "user.a", b"x") == errorcode[EOPNOTSUPP]
