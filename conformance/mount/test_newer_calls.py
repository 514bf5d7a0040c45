"""openat2 for regular files alone, trees in a namespace of their own, and notices of mounts."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.fanotify import (
    InitFlag,
    MarkFlag,
    MountEvent,
    fanotify_init,
    fanotify_mark,
    read_mount_notices,
)
from kernelproof.impl._syscalls.mount import AT_FDCWD, FsConfig, FsMountFlag, OpenTreeFlag, UnmountFlag
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns
from kernelproof.impl._syscalls.nsfs import namespace_kind
from kernelproof.impl._syscalls.resolve import openat2

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

OPENAT2_REGULAR = 1 << 32
EFTYPE = "134"  # asm-generic/errno.h of 7.2; Python has no name for it
FSMOUNT_NAMESPACE = 2
BOTH = MountEvent.MNT_ATTACH | MountEvent.MNT_DETACH


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a FIFO and links to the first two."""
    (tmp_path / "file").write_text("words")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "folder"):
        (tmp_path / f"{name}-link").symlink_to(name)
    return tmp_path


@behaviour("mount.openat2.regular-eftype")
def test_regular_files_alone(kinds: Path, seen: Seen) -> None:
    """OPENAT2_REGULAR opens a file, also by a link, and refuses anything else with EFTYPE, without waiting."""
    names = ("file", "file-link", "folder", "folder-link", "fifo", "/dev/null")
    answers = [seen.errno_of(openat2, AT_FDCWD, kinds / name, OPENAT2_REGULAR) for name in names]
    assert seen(answers) == ["no error"] * 2 + [EFTYPE] * 4


@behaviour("mount.openat2.regular-before-7-2")
def test_regular_files_on_an_older_kernel(kinds: Path, seen: Seen) -> None:
    """A kernel that does not know OPENAT2_REGULAR refuses it: EINVAL."""
    assert seen.errno_of(openat2, AT_FDCWD, kinds / "file", OPENAT2_REGULAR) == "EINVAL"


def open_namespace_of(path: Path) -> int:
    """A mount namespace whose root is a copy of a tree."""
    return calls.open_tree(AT_FDCWD, path, OpenTreeFlag.NAMESPACE | OpenTreeFlag.CLOEXEC)


@behaviour("mount.open-tree.namespace")
def test_tree_in_a_namespace_of_its_own(tree: Path, in_child: InChild, seen: Seen) -> None:
    """OPEN_TREE_NAMESPACE gives a mount namespace; who joins it has the tree as root, and nothing else is there."""
    namespace = open_namespace_of(tree)
    assert namespace_kind(namespace) == CloneFlag.NEWNS

    def look() -> list[str]:
        setns(namespace, CloneFlag.NEWNS)
        return sorted(os.listdir("/"))

    assert seen(in_child(look)) == ["a", "b"]


@behaviour("mount.open-tree.namespace-before-7-0")
def test_tree_in_a_namespace_on_an_older_kernel(tree: Path, seen: Seen) -> None:
    """A kernel that does not know OPEN_TREE_NAMESPACE refuses it: EINVAL."""
    assert seen.errno_of(open_namespace_of, tree) == "EINVAL"


def mount_namespace_of_tmpfs() -> int:
    """A mount namespace whose root is a new tmpfs."""
    context = calls.fsopen("tmpfs")
    calls.fsconfig(context, FsConfig.SET_STRING, "size", "64k")
    calls.fsconfig(context, FsConfig.CMD_CREATE)
    return calls.fsmount(context, FSMOUNT_NAMESPACE | FsMountFlag.CLOEXEC)


@behaviour("mount.fsmount.namespace")
def test_new_filesystem_in_a_namespace(in_child: InChild, seen: Seen) -> None:
    """FSMOUNT_NAMESPACE gives a mount namespace whose root is the new file system."""
    namespace = mount_namespace_of_tmpfs()
    assert namespace_kind(namespace) == CloneFlag.NEWNS

    def look() -> list[int]:
        setns(namespace, CloneFlag.NEWNS)
        about = os.statvfs("/")
        return [about.f_blocks * about.f_frsize, len(os.listdir("/"))]

    assert seen(in_child(look)) == [65536, 0]


@behaviour("mount.fsmount.namespace-before")
def test_new_filesystem_in_a_namespace_on_an_older_kernel(seen: Seen) -> None:
    """A kernel that does not know FSMOUNT_NAMESPACE refuses it: EINVAL."""
    assert seen.errno_of(mount_namespace_of_tmpfs) == "EINVAL"


@pytest.fixture
def own_namespace() -> int:
    """A descriptor of this mount namespace."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY)


@behaviour("mount.notice.attach-and-detach")
def test_notices(tree: Path, own_namespace: int, seen: Seen) -> None:
    """A mount and its unmounting are told, each with the unique ID of the mount."""
    group = fanotify_init(InitFlag.REPORT_MNT | InitFlag.NONBLOCK)
    fanotify_mark(group, MarkFlag.ADD | MarkFlag.MNTNS, BOTH, own_namespace)
    mount.mount("x", tree / "a", "tmpfs", "")
    unique = mount.mount_id(tree / "a")
    first = read_mount_notices(group)
    calls.umount2(tree / "a", UnmountFlag.DETACH)
    notices = [(int(notice.mask), notice.mount_id) for notice in first + read_mount_notices(group)]
    assert seen(notices) == [(MountEvent.MNT_ATTACH, unique), (MountEvent.MNT_DETACH, unique)]


@behaviour("mount.notice.no-namespace-einval")
def test_mark_on_something_else(tree: Path, seen: Seen) -> None:
    """FAN_MARK_MNTNS on something that is no mount namespace gives EINVAL."""
    group = fanotify_init(InitFlag.REPORT_MNT)
    folder, network = os.open(tree, os.O_RDONLY), os.open("/proc/self/ns/net", os.O_RDONLY)
    answers = [seen.errno_of(fanotify_mark, group, MarkFlag.ADD | MarkFlag.MNTNS, BOTH, fd) for fd in (folder, network)]
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("mount.notice.group-of-files-einval")
def test_group_without_mounts(own_namespace: int, seen: Seen) -> None:
    """A group that was made without FAN_REPORT_MNT takes no mark of a mount namespace: EINVAL."""
    group = fanotify_init(0)
    assert seen.errno_of(fanotify_mark, group, MarkFlag.ADD | MarkFlag.MNTNS, BOTH, own_namespace) == "EINVAL"


@behaviour("mount.notice.report-mnt-before-6-14")
def test_notices_on_an_older_kernel(seen: Seen) -> None:
    """A kernel that does not know FAN_REPORT_MNT refuses it."""
    assert seen.errno_of(fanotify_init, InitFlag.REPORT_MNT) == errno.errorcode[errno.EINVAL]
