"""Mount namespaces: what is copied, what is locked in less privileged ones, and how many mounts they may hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag, UnmountFlag, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, LinesBelow, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

MOUNT_MAX = Path("/proc/sys/fs/mount-max")
REMOUNT_BIND = MountFlag.REMOUNT | MountFlag.BIND


@behaviour("mount.ns.clone-copies-list", subject="impl")
def test_list_is_copied(tree: Path, lines_below: LinesBelow, in_child: InChild, seen: Seen) -> None:
    """A new namespace has the same mount points, each mount with a new ID."""
    mount.mount("x", tree / "a", "tmpfs", "")

    def look() -> list[bool]:
        before = lines_below(Path("/"))
        unshare(CloneFlag.NEWNS)
        after = lines_below(Path("/"))
        ids = {line.id for line in before.values()} & {line.id for line in after.values()}
        return [sorted(before) == sorted(after), not ids]

    assert seen(in_child(look)) == [True, True]


@behaviour("mount.ns.clone-keeps-types", subject="impl")
def test_types_are_kept(peers: tuple[Path, Path], tree: Path, line_at: LineAt, in_child: InChild, seen: Seen) -> None:
    """Slaves, private and unbindable mounts are the same in a new namespace."""
    mount.make_slave(peers[1])
    (tree / "c").mkdir()
    mount.mount("c", tree / "c", "tmpfs", "unbindable")
    paths = (peers[1], tree, tree / "c")

    def types() -> list[str]:
        return [" ".join(sorted(line_at(path).tags)).partition(":")[0] or "private" for path in paths]

    def look() -> list[str]:
        unshare(CloneFlag.NEWNS)
        return types()

    assert types() == ["master", "private", "unbindable"]
    *kept, last = in_child(look)
    assert kept == ["master", "private"]
    assert seen(last) == "unbindable"


@behaviour("mount.ns.clone-keeps-peer-group", subject="impl")
def test_group_is_kept(tree: Path, line_at: LineAt, in_child: InChild, seen: Seen) -> None:
    """A shared mount and its copy are in one group."""
    mount.make_shared(tree)

    def look() -> list[str]:
        unshare(CloneFlag.NEWNS)
        return sorted(line_at(tree).tags)

    assert seen(in_child(look)) == sorted(line_at(tree).tags) != []


@behaviour("mount.ns.userns-shared-becomes-slave", subject="impl")
def test_shared_becomes_slave(tree: Path, line_at: LineAt, as_guest_root: InOthersSkin, seen: Seen) -> None:
    """With a user namespace of its own a copy of a shared mount is a slave of its group."""
    mount.make_shared(tree)
    group = line_at(tree).tag["shared"]
    assert seen(as_guest_root(lambda: sorted(line_at(tree).tags))) == [f"master:{group}"]


@behaviour("mount.ns.locked-umount-einval", subject="impl")
def test_locked_mount_stays(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """An inherited mount can't be unmounted, lazily neither."""
    mount.mount("x", tree / "a", "tmpfs", "")
    answers = as_guest_root(
        lambda: [
            refusal(umount2, tree / "a"),
            refusal(umount2, tree / "a", UnmountFlag.DETACH),
            refusal(mount.unmount, tree / "a", lazy=True),
        ]
    )
    assert seen(answers) == ["EINVAL"] * 3


@behaviour("mount.ns.locked-stack-allowed", subject="impl")
def test_on_a_locked_mount(tree: Path, as_guest_root: InOthersSkin, line_at: LineAt, seen: Seen) -> None:
    """Something can be mounted on an inherited mount and be unmounted again."""
    mount.mount("x", tree / "a", "tmpfs", "")

    def work() -> list[str]:
        mount.force_mount("mine", tree / "a", "tmpfs", "")
        sources = [line_at(tree / "a").source]
        mount.unmount(tree / "a")
        return [*sources, line_at(tree / "a").source]

    assert seen(as_guest_root(work)) == ["mine", "x"]


@behaviour("mount.ns.locked-unit-umount", subject="impl")
def test_tree_that_came_by_propagation(
    tree: Path, as_guest_root: InOthersSkin, mount_at: MountAt, refusal: Refusal, seen: Seen
) -> None:
    """A tree that was propagated in can be removed whole, and its inner mounts can't."""
    mount.make_shared(tree)
    mount.mount("source", tree / "b", "tmpfs", "private")
    (tree / "b/sub").mkdir()
    mount.mount("inner", tree / "b/sub", "tmpfs", "private")

    def work() -> list[object]:
        # Its root is mounted by the process outside, and comes in at once.
        os.write(ask, b"!")
        os.read(done, 1)
        assert mount_at(tree / "a/sub") is not None
        inner = refusal(umount2, tree / "a/sub")
        whole = refusal(umount2, tree / "a", UnmountFlag.DETACH)
        return [inner, whole, mount_at(tree / "a") is None]

    asked, ask = os.pipe()
    done, tell = os.pipe()
    outside = os.fork()
    if outside == 0:
        status = 1
        try:
            os.read(asked, 1)
            mount.bind(tree / "b", tree / "a", recursive=True)
            os.write(tell, b"!")
            status = 0
        finally:
            os._exit(status)
    answers = as_guest_root(work)
    assert os.waitpid(outside, 0)[1] == 0
    assert seen(answers) == ["EINVAL", "no error", True]


def locked_answers(
    tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, options: str, changes: list[MountFlag]
) -> list[str]:
    """How remounts of an inherited mount with these options are answered."""
    mount.mount("x", tree / "a", "tmpfs", options)
    answers: list[str] = as_guest_root(
        lambda: [refusal(calls.mount, None, tree / "a", None, REMOUNT_BIND | flags) for flags in changes]
    )
    return answers


@behaviour("mount.ns.locked-ro-eperm", subject="impl")
def test_locked_read_only(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """An inherited read-only mount stays read-only."""
    mount.mount("x", tree / "a", "tmpfs", "")
    mount.remount(tree / "a", "bind,ro")
    answers = as_guest_root(
        lambda: [
            refusal(calls.mount, None, tree / "a", None, REMOUNT_BIND | MountFlag.RDONLY),
            refusal(calls.mount, None, tree / "a", None, REMOUNT_BIND),
            refusal(mount.remount, tree / "a", "bind,rw"),
        ]
    )
    assert seen(answers) == ["no error", "EPERM", "EPERM"]


@behaviour("mount.ns.locked-nosuid-noexec-eperm", subject="impl")
def test_locked_nosuid_and_noexec(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """nosuid and noexec of an inherited mount stay."""
    both = MountFlag.NOSUID | MountFlag.NOEXEC
    changes = [both, MountFlag.NOSUID, MountFlag.NOEXEC]
    answers = locked_answers(tree, as_guest_root, refusal, "nosuid,noexec", changes)
    assert seen(answers) == ["no error", "EPERM", "EPERM"]


@behaviour("mount.ns.locked-atime-eperm", subject="impl")
def test_locked_access_times(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """The mode of access times of an inherited mount stays."""
    changes = [MountFlag.NOATIME, MountFlag.RELATIME, MountFlag.STRICTATIME]
    answers = locked_answers(tree, as_guest_root, refusal, "noatime", changes)
    assert seen(answers) == ["no error", "EPERM", "EPERM"]


@behaviour("mount.ns.locked-can-add-flags", subject="impl")
def test_flags_can_be_added(
    tree: Path, as_guest_root: InOthersSkin, line_at: LineAt, refusal: Refusal, seen: Seen
) -> None:
    """An inherited mount can be made read-only, and writable again."""
    mount.mount("x", tree / "a", "tmpfs", "")

    def work() -> list[bool]:
        states = []
        for options in ("bind,ro", "bind,rw"):
            mount.remount(tree / "a", options)
            states.append("ro" in line_at(tree / "a").options)
        return states

    assert seen(as_guest_root(work)) == [True, False]


@behaviour("mount.ns.mount-point-removed-elsewhere", subject="impl")
def test_mount_point_of_another_namespace(tree: Path, mount_at: MountAt, in_child: InChild, seen: Seen) -> None:
    """A directory that only another namespace mounts on can be removed, and the mount there goes with it."""

    def work() -> list[bool]:
        unshare(CloneFlag.NEWNS)
        mount.mount("inside", tree / "a", "tmpfs", "")
        states = [mount_at(tree / "a") is not None]
        os.write(ask, b"!")
        os.read(done, 1)
        return [*states, mount_at(tree / "a") is None]

    asked, ask = os.pipe()
    done, tell = os.pipe()
    outside = os.fork()
    if outside == 0:
        status = 1
        try:
            os.read(asked, 1)
            (tree / "a").rmdir()
            os.write(tell, b"!")
            status = 0
        finally:
            os._exit(status)
    states = in_child(work)
    assert os.waitpid(outside, 0)[1] == 0
    assert not (tree / "a").exists()
    assert seen(states) == [True, True]


@behaviour("mount.ns.mount-point-own-ns-ebusy", subject="impl")
def test_mount_point_of_the_own_namespace(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A mount point can be neither removed nor renamed; when nothing is mounted it can."""
    mount.mount("x", tree / "a", "tmpfs", "")
    answers = [refusal(os.rmdir, tree / "a"), refusal(os.rename, tree / "a", tree / "c")]
    mount.unmount(tree / "a")
    assert refusal(os.rename, tree / "a", tree / "c") == "no error"
    assert seen(answers) == ["EBUSY", "EBUSY"]


@behaviour("mount.ns.limit-enospc", subject="impl")
def test_limit_on_namespaces(in_child: InChild, refusal: Refusal, seen: Seen) -> None:
    """At the limit there is no new namespace, below it there is."""
    limit = Path("/proc/sys/user/max_mnt_namespaces")
    before = limit.read_text()
    limit.write_text("0")
    try:
        refused = in_child(lambda: [refusal(unshare, CloneFlag.NEWNS), refusal(mount.Namespace().__enter__)])
    finally:
        limit.write_text(before)
    assert in_child(lambda: refusal(unshare, CloneFlag.NEWNS)) == "no error"
    assert seen(refused) == ["ENOSPC", "ENOSPC"]


@behaviour("mount.ns.userns-block-fs-eperm", subject="impl")
def test_filesystem_of_a_device(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Root of a user namespace mounts no filesystem of a block device."""
    (tree / "image").write_bytes(bytes(1 << 20))
    with mount.attach_loop(tree / "image") as device:
        answers = as_guest_root(
            lambda: [
                refusal(calls.mount, device.path, tree / "a", "ext4"),
                refusal(mount.force_mount, device.path, tree / "a", "ext4", ""),
            ]
        )
    assert seen(answers) == ["EPERM", "EPERM"]


@behaviour("mount.ns.userns-tmpfs-allowed", subject="impl")
def test_filesystems_of_memory(tree: Path, as_guest_root: InOthersSkin, line_at: LineAt, seen: Seen) -> None:
    """Root of a user namespace mounts tmpfs, ramfs and devpts."""

    def work() -> list[str]:
        for fstype in ("tmpfs", "ramfs", "devpts"):
            mount.force_mount("x", tree / "a", fstype, "")
            found.append(line_at(tree / "a").fstype)
        return found

    found: list[str] = []
    assert seen(as_guest_root(work)) == ["tmpfs", "ramfs", "devpts"]


@behaviour("mount.ns.userns-overlay-allowed", subject="impl")
def test_overlay(tree: Path, as_guest_root: InOthersSkin, seen: Seen) -> None:
    """Root of a user namespace mounts an overlay whose layers are on its own tmpfs."""

    def work() -> list[str]:
        mount.force_mount("x", tree / "a", "tmpfs", "")
        for name in ("lower", "upper", "work", "merged"):
            (tree / "a" / name).mkdir()
        (tree / "a/lower/file").touch()
        lower, upper, work = (tree / "a" / name for name in ("lower", "upper", "work"))
        with mount.mount_overlay([lower], upper=upper, work=work, userxattr=True) as made:
            made.attach(tree / "a/merged")
        (tree / "a/merged/new").touch()
        return sorted(os.listdir(tree / "a/merged"))

    assert seen(as_guest_root(work)) == ["file", "new"]


@behaviour("mount.ns.userns-proc-needs-pidns", subject="impl")
def test_procfs(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Root of a user namespace mounts procfs only for a PID namespace that it owns."""

    def work() -> list[str]:
        answers = [refusal(calls.mount, "proc", tree / "a", "proc")]
        unshare(CloneFlag.NEWPID)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, refusal(mount.force_mount, "proc", tree / "b", "proc", "").encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return [*answers, os.read(reader, 100).decode()]

    assert seen(as_guest_root(work)) == ["EPERM", "no error"]


def mounts_there_are() -> int:
    """How many mounts the namespace holds, by counting up to the limit that refuses the next one."""
    return len(mount.MountTable.read())


@behaviour("mount.limit.mount-max-enospc", subject="impl")
def test_limit_on_mounts(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """At the limit neither a new mount nor a bind is made; below it both are."""
    before = MOUNT_MAX.read_text()
    MOUNT_MAX.write_text(str(mounts_there_are()))
    try:
        answers = [
            refusal(calls.mount, "x", tree / "a", "tmpfs"),
            refusal(calls.mount, tree / "a", tree / "b", None, MountFlag.BIND),
            refusal(mount.bind, tree / "a", tree / "b"),
        ]
    finally:
        MOUNT_MAX.write_text(before)
    assert refusal(mount.bind, tree / "a", tree / "b") == "no error"
    assert seen(answers) == ["ENOSPC"] * 3


@behaviour("mount.limit.mount-max-default", subject="impl")
def test_default_limit(tree: Path, seen: Seen) -> None:
    """The limit is 100000 where nobody changed it, and that many are not refused."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert mount.is_mount_point(tree / "a")
    assert seen(int(MOUNT_MAX.read_text())) == 100_000


@behaviour("mount.limit.mount-max-counts-recursive-bind", subject="impl")
def test_limit_on_a_tree(tree: Path, lines_below: LinesBelow, refusal: Refusal, seen: Seen) -> None:
    """A tree that would go beyond the limit is not bound, not in part either."""
    mount.mount("x", tree / "a", "tmpfs", "")
    for name in ("1", "2", "3"):
        (tree / "a" / name).mkdir()
        mount.mount(name, tree / "a" / name, "tmpfs", "")
    before = MOUNT_MAX.read_text()
    MOUNT_MAX.write_text(str(mounts_there_are() + 3))
    try:
        assert refusal(mount.bind, tree / "a", tree / "b", recursive=True) == "ENOSPC"
        refused = seen.errno_of(calls.mount, tree / "a", tree / "b", None, MountFlag.BIND | MountFlag.REC)
        assert lines_below(tree / "b") == {}
    finally:
        MOUNT_MAX.write_text(before)
    assert refusal(mount.bind, tree / "a", tree / "b", recursive=True) == "no error"
    assert refused == "ENOSPC"


@behaviour("mount.ns.userns-bpf-allowed", subject="impl")
def test_bpf(tree: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Root of a user namespace mounts the bpf filesystem."""
    answers = as_guest_root(
        lambda: [
            refusal(mount.force_mount, "bpf", tree / "a", "bpf", ""),
            refusal(calls.mount, "bpf", tree / "b", "bpf"),
        ]
    )
    assert answers[0] == answers[1]
    assert seen(answers[1]) == "no error"
