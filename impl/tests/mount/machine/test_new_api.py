"""Filesystem contexts, detached mounts and attributes of trees, in a machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl.mount import DetachedMount, FsContext, MountAttribute, MountFlag, MountTable

pytestmark = pytest.mark.machine


def has_mount_setattr() -> bool:
    """Whether the kernel has the call (Linux 5.12)."""
    try:
        calls.mount_setattr(-1, "x", attr_set=MountAttribute.RDONLY)
    except OSError as error:
        return error.errno != errno.ENOSYS
    raise AssertionError("a call on a closed descriptor did not fail")


setattr_needed = pytest.mark.usefixtures("needs_mount_setattr")


@pytest.fixture
def needs_mount_setattr() -> None:
    """Skip where the kernel has no mount_setattr."""
    if not has_mount_setattr():
        pytest.skip("this kernel has no mount_setattr (Linux 5.12)")


def test_a_filesystem_from_its_parts(place: Path) -> None:
    """Options are set one by one, the mount is attached last, and closing its descriptor leaves it there."""
    with FsContext("tmpfs", source="parts") as context:
        context.set_string("size", "64k").set_options("ro,mode=711,nosuid")
        with context.create().mount(MountAttribute.NODEV) as made:
            assert not [each for each in MountTable.read() if each.source == "parts"]
            made.attach(place / "a")
    found = MountTable.read().find(place / "a")
    assert (found.source, found.fstype) == ("parts", "tmpfs")
    assert {"size=64k", "mode=711", "ro"} <= set(found.super_options)
    assert found.attributes & MountAttribute.NODEV


def errno_alone(fstype: str, options: str) -> str:
    """What a mount by mount(2) can tell."""
    try:
        calls.mount("x", "/mnt", fstype, 0, options)
    except OSError as error:
        return " ".join([str(error), *error.__notes__])
    return ""


def error_of_context(fstype: str, options: str) -> str:
    """Ours."""
    with FsContext(fstype, source="x") as context:
        try:
            context.set_options(options).create()
        except mount.FsContextError as error:
            return " ".join([str(error.option), *error.log])
    return ""


@pytest.mark.rule("M+1")
def test_error_says_which_option_and_why(place: Path) -> None:
    """The exception has the call, the option that was refused first, source and type, and the filesystem's words."""
    with FsContext("tmpfs", source="x") as context, pytest.raises(mount.FsContextError) as refused:
        context.set_options("size=1m,frobnicate=7,mode=755")
    error = refused.value
    assert (error.errno, error.option, error.fstype, error.source) == (errno.EINVAL, "frobnicate", "tmpfs", "x")
    (line,) = [line for line in error.log if "frobnicate" in line]
    assert line.level == "error"
    notes = " ".join(error.__notes__)
    assert "command=SET_STRING" in notes
    assert "error: " in notes
    assert "frobnicate" not in errno_alone("tmpfs", "size=1m,mode=755,size=x")
    assert "size" in error_of_context("tmpfs", "size=x")


def test_context_stays_usable_after_a_refusal(place: Path) -> None:
    """An option that is refused can be left out, and the log is not lost by reading it twice."""
    with FsContext("tmpfs") as context:
        with pytest.raises(mount.FsContextError):
            context.set_flag("nonsense")
        assert [line.level for line in context.log] == ["error"]
        assert context.log == context.log
        with context.create().mount() as made:
            made.attach(place / "a")
    assert mount.is_mount_point(place / "a")


def trust_the_errno(source: str) -> list[str]:
    """What blames the options: the errno and its text."""
    try:
        calls.mount(source, "/mnt", "ext4", 0, None)
    except OSError as error:
        return error.__notes__
    return []


def look_at_the_source(source: str) -> list[str]:
    """Ours."""
    try:
        with FsContext("ext4", source=source) as context:
            context.create()
    except mount.FsContextError as error:
        return error.__notes__
    return []


@pytest.mark.rule("M14", ours=look_at_the_source, wrong=trust_the_errno)
def test_missing_source_is_named(subject: Callable[[str], list[str]]) -> None:
    """A source that does not exist is what the error complains of."""
    assert "the source does not exist: '/nowhere'" in subject("/nowhere")


def test_reconfigure_changes_only_what_is_named(place: Path) -> None:
    """Through fspick one option of a filesystem is changed, and the others stay."""
    mount.mount("x", place / "a", "tmpfs", "sync,size=64k")
    with FsContext.pick(place / "a") as context:
        context.set_flag("ro").reconfigure()
    found = MountTable.read().find(place / "a")
    assert {"ro", "sync", "size=64k"} <= set(found.super_options)
    with pytest.raises(OSError, match="Invalid argument"):
        FsContext.pick(place / "b")


@pytest.mark.rule("M+4")
def test_detached_mount_vanishes_if_it_is_not_attached(place: Path) -> None:
    """A copy that is never attached leaves nothing; one that is attached stays; all is there at once."""
    (place / "a/file").touch()
    with DetachedMount.copy(place / "a") as made:
        fd = made.open("file", os.O_RDONLY)
        os.close(fd)
    assert [each.source for each in MountTable.read().below(place)] == ["place"]
    with DetachedMount.copy(place / "a") as made:
        made.attach(place / "b")
        assert made.is_attached
    assert (place / "b/file").exists()


def test_beneath_replaces_without_a_gap(place: Path) -> None:
    """A mount attached beneath another one is seen when that is unmounted."""
    mount.mount("old", place / "a", "tmpfs", "")
    with mount.mount_tmpfs(source="new") as made:
        try:
            made.attach(place / "a", beneath=True)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            pytest.skip("this kernel attaches nothing beneath (Linux 6.5)")
    assert mount.mount_of(place / "a").source == "old"
    mount.unmount(place / "a")
    assert mount.mount_of(place / "a").source == "new"


def tree_of(place: Path) -> Path:
    """A mount with one below it."""
    mount.mount("top", place / "a", "tmpfs", "")
    (place / "a/sub").mkdir()
    mount.mount("sub", place / "a/sub", "tmpfs", "")
    return place / "a"


def read_only_top(source: Path, target: Path) -> None:
    """What `rbind,ro` does."""
    mount.force_mount(source, target, "none", "rbind,ro")


def read_only_tree(source: Path, target: Path) -> None:
    """Ours."""
    mount.mount_by_new_api(source, target, "none", "rbind,rro")


@setattr_needed
@pytest.mark.rule("M6", ours=read_only_tree, wrong=read_only_top, raises=pytest.fail.Exception)
def test_tree_is_read_only(place: Path, subject: Callable[[Path, Path], None]) -> None:
    """Nothing can be written anywhere in a tree that was bound read-only."""
    subject(tree_of(place), place / "b")
    for name in ("", "sub"):
        with pytest.raises(OSError, match="Read-only"):
            (place / "b" / name / "file").touch()
    (place / "a/sub/file").touch()


@pytest.mark.rule("M6")
def test_recursive_is_never_less_in_silence(place: Path) -> None:
    """mount(2) can't set attributes of a tree, and that is said before the call."""
    with pytest.raises(mount.OptionError, match="not of a tree"):
        mount.force_mount(place / "a", place / "b", "none", "rbind,rro")
    assert not mount.is_mount_point(place / "b")


def set_flag_bits(target: Path) -> None:
    """What forgets that the time of access is one of three values: the mask is not cleared."""
    calls.mount_setattr(-100, target, attr_set=MountAttribute.NOATIME, flags=0x8000)


def set_by_name(target: Path) -> None:
    """Ours."""
    mount.set_attributes(target, set=MountAttribute.NOATIME, recursive=True)


@setattr_needed
@pytest.mark.rule("M7", ours=set_by_name, wrong=set_flag_bits, raises=OSError)
def test_recursive_time_of_access_arrives(place: Path, subject: Callable[[Path], None]) -> None:
    """noatime for a tree is set on every mount of it, and relatime is gone."""
    subject(tree_of(place))
    for each in MountTable.read().below(place / "a"):
        assert "noatime" in each.mount_options
        assert "relatime" not in each.mount_options


@setattr_needed
def test_attributes_are_changed_one_by_one(place: Path) -> None:
    """Bits that are not named stay; a tree is changed whole or not at all."""
    top = tree_of(place)
    mount.set_attributes(top, set=MountAttribute.NOSUID | MountAttribute.NOATIME)
    mount.set_attributes(top, set=MountAttribute.NODEV)
    assert MountTable.read().find(top).opts == "rw,nosuid,nodev,noatime"
    mount.set_attributes(top, clear=MountAttribute.NOATIME | MountAttribute.NOSUID)
    assert MountTable.read().find(top).opts == "rw,nodev,relatime"
    mount.set_attributes(top, propagation=MountFlag.SHARED, recursive=True)
    assert all(each.peer_group for each in MountTable.read().below(top))
    with open(top / "sub/file", "w"), pytest.raises(OSError, match="busy") as refused:
        mount.set_attributes(top, set=MountAttribute.RDONLY, recursive=True)
    assert any("attr_set=RDONLY" in note for note in refused.value.__notes__)
    assert not any(each.attributes & MountAttribute.RDONLY for each in MountTable.read().below(top))


@pytest.mark.parametrize(
    ("fstype", "options", "made_by", "shown"),
    [
        ("tmpfs", "nosuid,noexec,strictatime,size=64k", "fsopen", {"rw", "nosuid", "noexec"}),
        ("none", "bind,ro,nodev", "open_tree", {"ro", "nodev", "relatime"}),
        ("none", "rbind,noatime,slave", "open_tree", {"rw", "noatime"}),
        ("ramfs", "ro", "fsopen", {"ro", "relatime"}),
    ],
)
def test_both_roads_mean_the_same(place: Path, fstype: str, options: str, made_by: str, shown: set[str]) -> None:
    """What the new calls mount and what mount(2) mounts have the same options, and the road is told."""
    road = mount.mount_by_any_road(place / "a", place / "b", fstype, options)
    assert road.made_by == made_by
    new = MountTable.read().find(place / "b")
    mount.unmount(place / "b")
    mount.force_mount(place / "a", place / "b", fstype, options)
    old = MountTable.read().find(place / "b")
    assert set(new.mount_options) == set(old.mount_options) == shown
    ours = [each._replace(id=0, minor=0, unique_id=None, super_options=tuple(sorted(each.super_options)))
            for each in (new, old)]  # fmt: skip
    assert ours[0] == ours[1]


def test_new_road_is_never_left_halfway(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the very first call is missing mount(2) takes over; a later refusal is an error, and nothing is mounted."""
    detached = __import__("kernelproof.impl.mount.detached", fromlist=["open_tree"])

    def missing(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(detached, "open_tree", missing)
    assert mount.mount_by_any_road(place / "a", place / "b", "none", "bind,ro") == ("mount", "mount")
    assert "ro" in MountTable.read().find(place / "b").mount_options
    mount.unmount(place / "b")
    with pytest.raises(OSError, match="not implemented"):
        mount.mount_by_any_road(place / "a", place / "b", "none", "bind,rro")
    monkeypatch.undo()
    monkeypatch.setattr(detached, "move_mount", missing)
    with pytest.raises(OSError, match="not implemented"):
        mount.mount_by_new_api(place / "a", place / "b", "none", "bind")
    assert not mount.is_mount_point(place / "b")
