"""Names, paths and options that are wrong or strange: clear errors, and nothing left mounted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount import MountTable
from kernelproof.impl.mount.roads import detach

pytestmark = pytest.mark.machine


@pytest.fixture(autouse=True)
def nothing_is_left(place: Path) -> object:
    """After each refusal the table is as before."""
    before = MountTable.read()
    yield
    mounts = [change for change in before.diff(MountTable.read())]
    assert mounts == []


def test_both_paths_are_in_the_error(place: Path) -> None:
    """A missing target is named as such, beside the source, with the flags by name."""
    with pytest.raises(FileNotFoundError) as refused:
        mount.mount(place / "a", place / "missing", "none", "bind,ro")
    assert (refused.value.filename, refused.value.filename2) == (place / "a", place / "missing") or (
        str(refused.value.filename),
        str(refused.value.filename2),
    ) == (str(place / "a"), str(place / "missing"))
    notes = "\n".join(refused.value.__notes__)
    assert "flags=BIND" in notes
    assert f"the target does not exist: '{place}/missing'" in notes


def test_source_that_vanished_is_named(place: Path) -> None:
    """A source that is gone by the time of the call is what the error speaks of."""
    (place / "a/x").mkdir()
    (place / "a/x").rmdir()
    with pytest.raises(FileNotFoundError) as refused:
        mount.mount(place / "a/x", place / "b", "none", "bind")
    assert f"the source does not exist: '{place}/a/x'" in refused.value.__notes__


def test_relative_paths_are_the_caller_s(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative target is relative to the working directory, as for the kernel; the table knows none."""
    monkeypatch.chdir(place)
    mount.mount("x", "a", "tmpfs", "")
    assert mount.is_mount_point("a")
    with pytest.raises(LookupError, match="relative"):
        MountTable.read().find("a")
    assert mount.unmount("a")
    monkeypatch.chdir("/")


@pytest.mark.parametrize(
    "name",
    [
        "new\nline",
        "t\tab",
        "back\\slash",
        "x (deleted)",
        "//deleted",
        "x//deleted",
        "-",
        "#hash",
        "a b",
        "\\040",
        "é\udcff",
    ],
    ids=["newline", "tab", "backslash", "deleted", "slashes", "inside", "hyphen", "hash", "blank", "escape", "bytes"],
)
def test_any_name_can_be_a_mount_point(place: Path, name: str) -> None:
    """A name of any bytes is mounted on, found, told as a mount point and unmounted."""
    target = place / name.replace("//", "\x01/") if name.startswith("//") else place / name
    target.mkdir(parents=True)
    mount.mount(name, target, "tmpfs", "")
    found = mount.mount_of(target)
    assert found.mount_point == str(target)
    assert found.source == name
    assert mount.find_mount(target).id == found.id == MountTable.read().find(target).id
    assert mount.mounted(target)
    assert mount.unmount(target)


def test_longest_paths(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path beyond 4,095 bytes is refused by the kernel's name for it; one step at a time it can be mounted on."""
    long = "/".join(["x" * 200] * 25)
    calls: tuple[Callable[[], object], ...] = (
        lambda: mount.mount("x", place / long, "tmpfs", ""),
        lambda: mount.is_mount_point(place / long),
        lambda: mount.force_unmount(place / long),
    )
    for call in calls:
        with pytest.raises(OSError, match="too long") as refused:
            call()
        assert refused.value.errno == errno.ENAMETOOLONG
    with mount.Root(place) as root:
        step = root
        opened = []
        for _ in range(25):
            opened.append(mount.mkdir_in_root(step, "x" * 200))
            step = mount.Root(opened[-1])
        mount.mount_in_root(step, "end", "deep", "tmpfs", "")
        text = Path("/proc/self/mountinfo").read_text()
        deep = [each for each in MountTable.read() if each.source == "deep"]
        assert len(deep) == text.count(" deep ")
        assert all(len(each.mount_point) > 4096 for each in deep)
        fd = step.open("end", os.O_PATH | os.O_DIRECTORY)
        calls_detach(fd)
        os.close(fd)
        for each in opened:
            os.close(each)


def calls_detach(fd: int) -> None:
    """Take a mount off by its descriptor."""
    detach(fd)


def test_filesystem_that_the_kernel_lacks(place: Path) -> None:
    """An unknown type is said to be, by each road."""
    with pytest.raises(OSError, match="No such device") as refused:
        mount.mount("x", place / "a", "frobfs", "")
    assert any("no filesystem 'frobfs'" in note for note in refused.value.__notes__)
    with pytest.raises(OSError, match="No such device") as refused:
        mount.mount_by_new_api("x", place / "a", "frobfs", "")
    assert any("'frobfs'" in note for note in refused.value.__notes__)


@pytest.mark.parametrize(
    ("source", "name", "fstype", "options", "said"),
    [
        ("x", "a", "tmpfs", "nosuid,size=bogus", "mount of tmpfs from 'x' on '{target}', flags=NOSUID"),
        ("x", "missing", "tmpfs", "nosuid", "mount of tmpfs from 'x' on '{target}', flags=NOSUID"),
        ("x", "a", "frobfs", "", "mount of frobfs from 'x' on '{target}', flags=0"),
        ("/missing", "a", None, "bind,ro", "bind from '/missing' on '{target}', flags=RDONLY|BIND"),
    ],
    ids=["option", "target", "type", "source"],
)
def test_refusals_of_the_new_calls_are_whole(
    place: Path, source: str, name: str, fstype: str | None, options: str, said: str
) -> None:
    """Source, target, type and flags are in the error, whichever of the calls was refused, as in that of mount(2)."""
    target = place / name
    errors = []
    for road in (mount.mount_by_new_api, mount.force_mount):
        with pytest.raises(OSError, match=r".") as refused:
            road(source, target, fstype, options)
        errors.append(refused.value)
    new, classic = errors
    assert (new.errno, new.filename, new.filename2) == (classic.errno, classic.filename, classic.filename2)
    assert (new.filename, new.filename2) == (source, str(target))
    assert said.format(target=target) in new.__notes__
    assert (f"the target does not exist: {str(target)!r}" in new.__notes__) == (name == "missing")


@pytest.mark.parametrize(
    ("do", "number"),
    [
        (lambda place: mount.remount(place / "a", "ro"), errno.EINVAL),
        (lambda place: mount.move(place / "a", place / "b"), errno.EINVAL),
        (lambda place: mount.mount(None, place / "a", None, "private"), errno.EINVAL),
        (lambda place: mount.mount("x", place / "file", "tmpfs", ""), errno.ENOTDIR),
        (lambda place: mount.bind(place / "file", place / "a"), errno.ENOTDIR),
        (lambda place: mount.mount("x", place / "a", "tmpfs", "size=bad"), errno.EINVAL),
    ],
    ids=["remount", "move", "private", "on a file", "file on directory", "bad size"],
)
def test_refusals_of_the_kernel_stay_what_they_are(place: Path, do: Callable[[Path], object], number: int) -> None:
    """A refused call is an OSError with the kernel's number, and what is no mount point is said to be none."""
    (place / "file").touch()
    with pytest.raises(OSError, match=r".") as refused:
        do(place)
    assert refused.value.errno == number
    if "file" not in str(refused.value) and "size" not in " ".join(refused.value.__notes__):
        assert any(note.startswith("no mount point: ") for note in refused.value.__notes__)


def test_text_with_a_nul_byte_is_never_cut(place: Path) -> None:
    """A NUL byte in a path, type or option is refused, and not a shorter text used."""
    for source, target, fstype, options in (
        ("x\0y", place / "a", "tmpfs", ""),
        ("x", f"{place}/a\0b", "tmpfs", ""),
        ("x", place / "a", "tmp\0fs", ""),
        ("x", place / "a", "tmpfs", "size=1m\0,x"),
    ):
        with pytest.raises(ValueError, match=r"NUL|null"):
            mount.force_mount(source, target, fstype, options)
