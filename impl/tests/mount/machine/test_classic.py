"""mount(2) and umount2(2) by way of impl.mount, in a machine."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount import unmounting

pytestmark = pytest.mark.machine


def test_example_of_2014() -> None:
    """The two lines of 2014: the bound file cannot be written, its source can, and afterwards it is as before."""
    Path("/myfile").write_text("mine")
    Path("/myotherfile").write_text("other")

    mount.mount("/myfile", "/myotherfile", "none", "bind,ro")

    assert Path("/myotherfile").read_text() == "mine"
    with pytest.raises(OSError, match="Read-only file system") as refused:
        Path("/myotherfile").write_text("written")
    assert refused.value.errno == errno.EROFS
    Path("/myfile").write_text("still mine")
    assert Path("/myotherfile").read_text() == "still mine"

    mount.unmount("/myotherfile")

    assert Path("/myotherfile").read_text() == "other"
    assert "/myotherfile" not in Path("/proc/self/mountinfo").read_text()


def test_read_only_bind_keeps_flags_of_its_source(place: Path) -> None:
    """A read-only bind has nosuid and nodev from its source, and its source stays writable."""
    mount.mount("source", place / "a", "tmpfs", "nosuid,nodev,noatime")
    mount.bind(place / "a", place / "b", read_only=True)
    table = mount.MountTable.read()
    assert set(table.find(place / "b").mount_options) == {"ro", "nosuid", "nodev", "noatime"}
    assert set(table.find(place / "a").mount_options) == {"rw", "nosuid", "nodev", "noatime"}


def test_mount_on_a_mount_point_is_left_alone(place: Path) -> None:
    """As in 2014: mount does nothing where something is mounted, force_mount does, and unmount does nothing twice."""
    assert mount.mount("x", place / "a", "tmpfs", "")
    assert not mount.mount("x", place / "a", "tmpfs", "")
    mount.force_mount("y", place / "a", "tmpfs", "")
    assert [each.source for each in mount.MountTable.read().at(place / "a")] == ["x", "y"]
    assert [mount.unmount(place / "a") for _ in range(3)] == [True, True, False]
    assert not mount.unmount(place / "missing")


@pytest.mark.parametrize(
    ("make", "tags"),
    [
        (mount.make_shared, ["shared"]),
        (mount.make_private, []),
        (mount.make_slave, []),
        (mount.make_unbindable, ["unbindable"]),
        (mount.make_rshared, ["shared"]),
        (mount.make_rprivate, []),
        (mount.make_rslave, []),
        (mount.make_runbindable, ["unbindable"]),
    ],
    ids=["shared", "private", "slave", "unbindable", "rshared", "rprivate", "rslave", "runbindable"],
)
def test_types_of_propagation(place: Path, make: object, tags: list[str]) -> None:
    """Each name of 2014 binds a plain directory to itself and gives it its type of propagation."""
    make(place / "a")  # type: ignore[operator]
    found = mount.MountTable.read().find(place / "a")
    assert found.mount_point == str(place / "a")
    assert [field.partition(":")[0] for field in found.optional_fields] == tags


def test_failed_second_step_leaves_nothing_mounted(place: Path) -> None:
    """If the type of propagation cannot be set, the bind before it is undone."""
    with pytest.raises(OSError, match="Invalid argument"):
        mount.force_mount(place / "a", place / "b", "none", mount.Options(mount_flags(), propagation=(3 << 18,)))  # type: ignore[arg-type]
    assert mount.MountTable.read().at(place / "b") == ()


def mount_flags() -> mount.MountFlag:
    """A bind."""
    return mount.MountFlag.BIND


def test_tree_is_unmounted_last_first(place: Path) -> None:
    """A tree with stacked and hidden mounts is unmounted whole, each mount before the one that it is on."""
    for where in ("a", "a", "b"):
        mount.force_mount(where, place / where, "tmpfs", "")
    (place / "b/c").mkdir()
    mount.mount("c", place / "b/c", "tmpfs", "")
    mount.force_mount("over", place / "b", "tmpfs", "")
    done = mount.unmount_recursive(place)
    assert done[-1] == str(place)
    assert len(done) == 6
    assert mount.MountTable.read().below(place) == ()


@pytest.mark.rule("M+6")
def test_busy_until_the_deadline_names_the_holders(place: Path) -> None:
    """Who keeps a mount busy is in the error: a descriptor, a working directory and a mount below."""
    mount.mount("x", place / "a", "tmpfs", "")
    (place / "a/sub").mkdir()
    mount.mount("y", place / "a/sub", "tmpfs", "")
    before = os.getcwd()
    with open(place / "a/file", "w") as file:
        opened = f"descriptor {file.fileno()}"
        os.chdir(place / "a")
        try:
            with pytest.raises(mount.StillMountedError) as busy:
                mount.unmount(place / "a", timeout_seconds=0.2)
        finally:
            os.chdir(before)
    assert busy.value.errno == errno.EBUSY
    mine = {holder.kind for holder in busy.value.holders if holder.pid == os.getpid()}
    assert mine == {"working directory", opened}
    assert [holder.path for holder in busy.value.holders if holder.kind == "mount"] == [str(place / "a/sub")]


@pytest.mark.rule("M+6")
@pytest.mark.parametrize("follow", [False, True], ids=["by a link above", "by a link"])
def test_call_that_does_not_return_names_the_holders(
    place: Path, monkeypatch: pytest.MonkeyPatch, follow: bool
) -> None:
    """While the call is held, who uses the mount is told, however the path leads there; and nobody of another mount."""
    mount.mount("x", place / "a", "tmpfs", "")
    (place / "link").symlink_to(place)
    (place / "direct").symlink_to(place / "a")
    answers = threading.Event()
    monkeypatch.setattr(unmounting, "umount2", lambda target, flags: answers.wait(60))
    path = place / ("direct" if follow else "link/a")
    try:
        with open(place / "a/file", "w"), pytest.raises(mount.StillMountedError) as held:
            mount.unmount(path, follow=follow, timeout_seconds=0.2)
        with open(place / "file", "w"), pytest.raises(mount.StillMountedError) as none:
            mount.unmount(place / "b", follow=follow, timeout_seconds=0)  # nothing is mounted there
    finally:
        answers.set()
    assert held.value.errno == errno.ETIMEDOUT
    assert [(each.pid, each.path) for each in held.value.holders] == [(os.getpid(), str(place / "a/file"))]
    assert none.value.holders == ()


@pytest.mark.rule("M+6")
def test_unmount_waits_for_a_holder_to_end(place: Path) -> None:
    """A mount that a process holds is unmounted when that process ends, before the deadline."""
    mount.mount("x", place / "a", "tmpfs", "")
    pid = os.fork()
    if pid == 0:
        os.chdir(place / "a")
        os.execv("/bin/sleep", ["sleep", "0.5"])
    try:
        assert mount.unmount(place / "a", timeout_seconds=60)
    finally:
        os.waitpid(pid, 0)
