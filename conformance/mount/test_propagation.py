"""Types of propagation: how they are set, and what they do to mounts below."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import MountFlag, MoveMountFlag
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import LineAt, LinesBelow, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

Peers = tuple["Path", "Path"]


@behaviour("mount.propagation.two-types-einval", subject="impl")
def test_two_types_at_once(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """MS_SHARED and MS_PRIVATE together are refused; one after the other they are not."""
    assert seen.errno_of(calls.mount, None, tree, None, MountFlag.SHARED | MountFlag.PRIVATE) == "EINVAL"
    assert refusal(mount.mount, None, tree, None, "shared,private") == "no error"


@behaviour("mount.propagation.extra-flag-einval", subject="impl")
def test_type_beside_another_flag(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_SHARED with MS_RDONLY is refused, with MS_REC and MS_SILENT it is not."""
    flags = (MountFlag.RDONLY, MountFlag.NOSUID, MountFlag.REC | MountFlag.SILENT)
    answers = [seen.errno_of(calls.mount, None, tree, None, MountFlag.SHARED | each) for each in flags]
    assert line_at(tree).tags
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.propagation.not-a-mount-einval", subject="impl")
def test_type_of_what_is_no_mount(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A directory that is no mount point has no type of propagation."""
    assert refusal(mount.mount, None, tree / "a", None, "private") == "EINVAL"
    assert seen.errno_of(calls.mount, None, tree / "a", None, MountFlag.PRIVATE) == "EINVAL"


@behaviour("mount.propagation.rec-changes-subtree", subject="impl")
def test_type_of_a_tree(tree: Path, lines_below: LinesBelow, seen: Seen) -> None:
    """MS_SHARED changes one mount, with MS_REC all below it too."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/sub").mkdir()
    mount.mount("y", tree / "a/sub", "tmpfs", "")
    mount.make_shared(tree / "a")
    alone = [sorted(line.tag) for _, line in sorted(lines_below(tree / "a").items())]
    mount.make_private(tree / "a")
    mount.make_rshared(tree / "a")
    whole = [sorted(line.tag) for _, line in sorted(lines_below(tree / "a").items())]
    assert seen([alone, whole]) == [[["shared"], []], [["shared"], ["shared"]]]


@behaviour("mount.propagation.slave-of-peer-group", subject="impl")
def test_slave_names_its_peer_group(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """MS_SLAVE turns "shared:N" of a mount with another peer into "master:N" with the same N."""
    _, b = peers
    group = line_at(b).tag["shared"]
    mount.make_slave(b)
    assert seen(line_at(b).tags) == {f"master:{group}"}


@behaviour("mount.propagation.slave-alone-becomes-private", subject="impl")
def test_slave_of_nobody(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_SLAVE on a shared mount without another peer leaves no tag."""
    mount.make_shared(tree)
    assert sorted(line_at(tree).tag) == ["shared"]
    mount.make_slave(tree)
    assert seen(line_at(tree).tags) == frozenset()


@behaviour("mount.propagation.slave-of-private-no-effect", subject="impl")
def test_slave_of_private(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_SLAVE on a private mount succeeds and changes nothing, while it changes a shared one."""
    mount.make_slave(peers[1])
    assert sorted(line_at(peers[1]).tag) == ["master"]
    assert seen.errno_of(calls.mount, None, tree, None, MountFlag.SLAVE) == "no error"
    mount.make_slave(tree)
    assert seen(line_at(tree).tags) == frozenset()


@behaviour("mount.propagation.slave-of-unbindable-no-effect", subject="impl")
def test_slave_of_unbindable(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_SLAVE on an unbindable mount succeeds and leaves it unbindable."""
    mount.make_unbindable(tree)
    mount.make_slave(tree)
    assert seen(line_at(tree).tags) == {"unbindable"}


def make_shared_slave(peers: Peers) -> Path:
    """Make the second of two peers a slave, and that shared again."""
    mount.make_slave(peers[1])
    mount.make_shared(peers[1])
    return peers[1]


@behaviour("mount.propagation.shared-slave", subject="impl")
def test_shared_slave(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """MS_SHARED on a slave gives it two tags with different numbers."""
    tag = line_at(make_shared_slave(peers)).tag
    assert seen(sorted(tag)) == ["master", "shared"]
    assert tag["master"] == line_at(peers[0]).tag["shared"] != tag["shared"]


@behaviour("mount.propagation.shared-slave-to-slave", subject="impl")
def test_shared_slave_to_slave(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """MS_SLAVE on a shared slave that is alone in its group takes "shared" off and keeps "master"."""
    b = make_shared_slave(peers)
    master = line_at(b).tag["master"]
    mount.make_slave(b)
    assert seen(line_at(b).tags) == {f"master:{master}"}


@behaviour("mount.propagation.private-removes-both-tags", subject="impl")
def test_shared_slave_to_private(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """MS_PRIVATE on a shared slave takes both tags off."""
    b = make_shared_slave(peers)
    assert sorted(line_at(b).tag) == ["master", "shared"]
    mount.make_private(b)
    assert seen(line_at(b).tags) == frozenset()


@behaviour("mount.propagation.unbindable-to-shared", subject="impl")
def test_unbindable_to_shared(tree: Path, line_at: LineAt, refusal: Refusal, seen: Seen) -> None:
    """MS_SHARED on an unbindable mount makes it shared, and it can be bound again."""
    mount.mount("x", tree / "a", "tmpfs", "unbindable")
    assert refusal(mount.bind, tree / "a", tree / "b") == "EINVAL"
    mount.make_shared(tree / "a")
    assert sorted(line_at(tree / "a").tag) == ["shared"]
    assert seen.errno_of(calls.mount, tree / "a", tree / "b", None, MountFlag.BIND) == "no error"


@behaviour("mount.propagation.mount-reaches-peers", subject="impl")
def test_mount_reaches_peers(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """A mount below one of two peers appears below the other as another mount of the same filesystem."""
    a, b = peers
    mount.mount("new", a / "x", "tmpfs", "")
    (a / "x/file").touch()
    one, other = line_at(a / "x"), line_at(b / "x")
    assert one.id != other.id
    assert (a / "x").stat().st_dev == (b / "x").stat().st_dev
    assert seen((other.source, other.parent_id)) == ("new", line_at(b).id)


@behaviour("mount.propagation.umount-reaches-peers", subject="impl")
def test_unmount_reaches_peers(peers: Peers, mount_at: MountAt, seen: Seen) -> None:
    """Unmounting what was propagated removes it below all peers."""
    a, b = peers
    mount.mount("new", a / "x", "tmpfs", "")
    assert mount_at(b / "x") is not None
    mount.unmount(b / "x")
    assert seen([mount_at(each / "x") for each in peers]) == [None, None]


@behaviour("mount.propagation.private-isolates", subject="impl")
def test_private_isolates(peers: Peers, mount_at: MountAt, seen: Seen) -> None:
    """A mount below a private mount does not appear below another mount of the filesystem."""
    a, b = peers
    mount.mount("before", a / "x", "tmpfs", "")
    assert mount_at(b / "x") is not None
    mount.unmount(a / "x")
    mount.make_private(a)
    mount.mount("new", a / "x", "tmpfs", "")
    assert mount_at(a / "x") is not None
    assert seen(mount_at(b / "x")) is None


@behaviour("mount.propagation.slave-receives", subject="impl")
def test_slave_receives(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """A mount below the master appears below the slave, as a slave of the group of the master's new mount."""
    a, b = peers
    mount.make_slave(b)
    mount.mount("new", a / "x", "tmpfs", "")
    assert seen(line_at(b / "x").tags) == {f"master:{line_at(a / 'x').tag['shared']}"}


@behaviour("mount.propagation.slave-does-not-send", subject="impl")
def test_slave_does_not_send(peers: Peers, line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """A mount below a slave does not appear below its master."""
    a, b = peers
    mount.make_slave(b)
    assert line_at(b).tag["master"] == line_at(a).tag["shared"]
    mount.mount("new", b / "x", "tmpfs", "")
    assert mount_at(b / "x") is not None
    assert seen(mount_at(a / "x")) is None


@behaviour("mount.propagation.slave-own-mount-is-private", subject="impl")
def test_mount_below_a_slave_is_private(peers: Peers, line_at: LineAt, seen: Seen) -> None:
    """A new mount below a slave that is not shared has no tag."""
    mount.make_slave(peers[1])
    assert line_at(peers[1]).tag["master"] == line_at(peers[0]).tag["shared"]
    mount.mount("new", peers[1] / "x", "tmpfs", "")
    assert seen(line_at(peers[1] / "x").tags) == frozenset()


@behaviour("mount.propagation.new-under-shared-is-shared", subject="impl")
def test_mount_below_shared_is_shared(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A new mount below a shared mount is shared, in a group of its own."""
    mount.make_shared(tree)
    mount.mount("new", tree / "a", "tmpfs", "")
    assert seen(sorted(line_at(tree / "a").tag)) == ["shared"]
    assert line_at(tree / "a").tag["shared"] != line_at(tree).tag["shared"]


@behaviour("mount.propagation.new-under-private-is-private", subject="impl")
def test_mount_below_private_is_private(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A new mount below a private mount has no tag; below a shared one it has."""
    mount.make_shared(tree)
    mount.mount("other", tree / "b", "tmpfs", "")
    assert sorted(line_at(tree / "b").tag) == ["shared"]
    mount.make_private(tree)
    mount.mount("new", tree / "a", "tmpfs", "")
    assert seen(line_at(tree / "a").tags) == frozenset()


@behaviour("mount.propagation.grandchild-follows-parent", subject="impl")
def test_the_parent_decides(peers: Peers, line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """What is mounted below a private mount, which is on a shared one, is not propagated."""
    a, b = peers
    mount.mount("child", a / "x", "tmpfs", "private")
    (a / "x/deep").mkdir()
    mount.mount("grandchild", a / "x/deep", "tmpfs", "")
    assert line_at(b / "x").source == "child"
    assert line_at(a / "x/deep").source == "grandchild"
    assert seen(mount_at(b / "x/deep")) is None


@behaviour("mount.propagation.umount-skips-peer-with-submounts", subject="impl")
def test_copy_with_mounts_below_stays(peers: Peers, mount_at: MountAt, seen: Seen) -> None:
    """A copy that has a mount below it stays when the propagated mount is unmounted."""
    a, b = peers
    mount.mount("new", a / "x", "tmpfs", "")
    (a / "x/deep").mkdir()
    mount.make_private(b / "x")
    mount.mount("below", b / "x/deep", "tmpfs", "")
    mount.unmount(a / "x")
    there = [mount_at(path) is not None for path in (a / "x", b / "x", b / "x/deep")]
    assert seen(there) == [False, True, True]


@behaviour("mount.propagation.peer-group-id-equal", subject="impl")
def test_peers_have_one_number(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """All mounts of a peer group have the same number, another group another one."""
    (tree / "c").mkdir()
    mount.bind(peers[1], tree / "c")
    mount.mount("other", tree / "c/x", "tmpfs", "")
    numbers = {line_at(path).tag["shared"] for path in (*peers, tree / "c")}
    assert len(seen(numbers)) == 1
    assert line_at(tree / "c/x").tag["shared"] not in numbers


@behaviour("mount.propagation.bind-joins-peer-group", subject="impl")
def test_bind_joins_the_group_of_its_source(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A shared mount that is bound on another shared one is in the group of its source."""
    mount.make_private(tree)
    (tree / "other").mkdir()
    mount.mount("other", tree / "other", "tmpfs", "shared")
    (tree / "other/place").mkdir()
    mount.bind(peers[0], tree / "other/place")
    group = line_at(peers[0]).tag["shared"]
    assert line_at(tree / "other").tag["shared"] != group
    assert seen(line_at(tree / "other/place").tag["shared"]) == group


@behaviour("mount.propagation.set-group", subject="impl")
def test_set_group(peers: Peers, tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MOVE_MOUNT_SET_GROUP puts a private mount into the group of a shared one of the filesystem, and moves nothing."""
    (tree / "c").mkdir()
    mount.bind(peers[0], tree / "c")
    mount.make_private(tree / "c")
    before = line_at(tree / "c")
    calls.move_mount(calls.AT_FDCWD, peers[0], calls.AT_FDCWD, tree / "c", MoveMountFlag.SET_GROUP)
    after = line_at(tree / "c")
    assert seen(after.tag) == line_at(peers[0]).tag
    assert (after.id, after.parent_id) == (before.id, before.parent_id)


@behaviour("mount.propagation.propagate-from", subject="impl")
def test_propagate_from(peers: Peers, tree: Path, in_child: InChild, line_at: LineAt, seen: Seen) -> None:
    """After a chroot out of whose sight the master is, the closest group in sight is named beside it."""
    a, b = peers
    make_shared_slave(peers)
    (tree / "root").mkdir()
    mount.mount("root", tree / "root", "tmpfs", "")
    for name in ("proc", "first", "last"):
        (tree / "root" / name).mkdir()
    mount.mount("proc", tree / "root/proc", "proc", "")
    mount.bind(a, tree / "root/first")
    mount.bind(b, tree / "root/last")
    mount.make_slave(tree / "root/last")
    first, middle = line_at(a).tag["shared"], line_at(b).tag["shared"]

    def look() -> list[str]:
        os.chroot(tree / "root")
        os.chdir("/")
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            (fields,) = [line.split(" - ")[0].split(" ") for line in file if " /last " in line]
        return fields[6:]

    assert sorted(seen(in_child(look))) == [f"master:{middle}", f"propagate_from:{first}"]


@behaviour("mount.ns.private-mounts-isolated", subject="impl")
def test_private_mount_is_seen_inside_only(tree: Path, mount_at: MountAt, in_child: InChild, seen: Seen) -> None:
    """A mount made in a new mount namespace below a private mount is not seen in the old one."""

    def mount_inside() -> list[bool]:
        unshare(CloneFlag.NEWNS)
        mount.mount("inside", tree / "a", "tmpfs", "")
        return [mount_at(tree / "a", pid) is not None for pid in ("self", os.getppid())]

    inside_outside = in_child(mount_inside)
    assert seen(inside_outside) == [True, False]


@behaviour("mount.ns.shared-mounts-joined", subject="impl")
def test_shared_mount_is_seen_outside_too(tree: Path, mount_at: MountAt, in_child: InChild, seen: Seen) -> None:
    """A mount made in a new mount namespace below a shared mount appears in the old one too."""
    mount.make_shared(tree)

    def mount_inside() -> list[bool]:
        unshare(CloneFlag.NEWNS)
        mount.mount("inside", tree / "a", "tmpfs", "")
        return [mount_at(tree / "a", pid) is not None for pid in ("self", os.getppid())]

    inside_outside = in_child(mount_inside)
    assert seen(inside_outside) == [True, True]
