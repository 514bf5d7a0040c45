"""The mount table of a kernel: both roads to it, one mount of it, what is a mount point, and what changes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount import Mount, MountTable
from kernelproof.impl.mount.mountinfo import format_mount
from kernelproof.impl.mount.point import probe_mount_point
from kernelproof.impl.mount.statmounts import read_by_statmount

pytestmark = pytest.mark.machine

NAME = "a b\tc\\d\ne#"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A shared tmpfs with mounts of many kinds below it, some with hard names."""
    path = tmp_path / "place"
    path.mkdir()
    mount.force_mount("place", path, "tmpfs", "shared,size=8m,mode=755")
    for name in ("bound", "slave", "read-only", "proc", "empty", NAME, "unbindable", "gone", "removed"):
        (path / name).mkdir()
    mount.force_mount(f"the {NAME}", path / NAME, "tmpfs", "nosuid,nodev,noatime")
    mount.bind(path / NAME, path / "bound")
    mount.bind(path / NAME, path / "slave", options="slave")
    mount.bind(path / NAME, path / "read-only", read_only=True, options="strictatime,private")
    mount.mount("proc", path / "proc", "proc", "nosuid,hidepid=invisible,nodiratime")
    mount.mount("", path / "empty", "tmpfs", "ro")
    mount.mount("x", path / "unbindable", "ramfs", "unbindable,sync")
    mount.bind(path / "removed", path / "gone")
    (path / "removed").rmdir()
    yield path
    mount.unmount_recursive(path, lazy=True)


def has_whole_statmount() -> bool:
    """Whether the kernel tells all by statmount."""
    try:
        read_by_statmount()
    except (OSError, NotImplementedError):
        return False
    return True


def test_table_is_what_the_kernel_wrote(place: Path) -> None:
    """Each record, written as a line again, is the kernel's line, byte for byte."""
    table = MountTable.read()
    content = Path("/proc/self/mountinfo").read_bytes()
    assert table.errors == ()
    assert table.is_consistent
    written = [format_mount(each) for each in table]
    for ours, line in zip(written, os.fsdecode(content).rstrip("\n").split("\n"), strict=True):
        # Which characters of an option's value are escaped differs from filesystem to filesystem; a # in a source is.
        assert ours.split(" - ")[0] == line.split(" - ")[0]
        assert ours.split(" ")[-2] == line.split(" ")[-2].replace("\\043", "#")


def test_both_roads_give_the_same(place: Path) -> None:
    """statmount and mountinfo give equal records, but for the unique IDs that only one of them knows."""
    if not has_whole_statmount():
        pytest.skip("statmount of this kernel does not tell all fields")
    by_statmount = MountTable.read(prefer="statmount")
    assert len({each.unique_id for each in by_statmount}) == len(by_statmount)
    assert None not in {each.unique_id for each in by_statmount}
    plain = [each._replace(unique_id=None, namespace_id=None) for each in by_statmount]
    assert plain == list(MountTable.read())


def test_findmnt_sees_the_same(place: Path) -> None:
    """findmnt and the table name the same mount points, types and sources."""
    command = ["findmnt", "--kernel", "--raw", "--noheadings", "--output", "ID,PARENT,MAJ:MIN,FSTYPE"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    ours = [f"{each.id} {each.parent_id} {each.major}:{each.minor} {each.fstype}" for each in MountTable.read()]
    assert sorted(shown) == sorted(ours)


def test_one_mount_of_many(place: Path) -> None:
    """What a path is on is the same by statmount, by the ID, by the text of the table and by the table."""
    (place / NAME / "inner").mkdir()
    for name in (NAME, f"{NAME}/inner", "bound", "proc/self/ns", "empty", "gone"):
        found = mount.mount_of(place / name)
        by_table = MountTable.read().find(place / name)
        assert found._replace(unique_id=None, namespace_id=None) == by_table
        assert mount.find_mount(place / name)._replace(unique_id=None, namespace_id=None) == by_table
        assert mount.find_mount(place / name / "missing") == by_table
        assert mount.mount_by_id(found.id) == by_table
        assert mount.attributes_of(place / name) == by_table.attributes


def compare_devices(path: Path) -> bool | None:
    """What programs did for decades: a mount point has another st_dev than its directory."""
    return path.stat().st_dev != path.parent.stat().st_dev


@pytest.mark.rule("M2", ours=mount.is_mount_point, wrong=compare_devices)
def test_bind_mounts_are_mount_points(place: Path, subject: Callable[[Path], bool | None]) -> None:
    """A directory bound to another place of the same filesystem is a mount point, and one beside it is none."""
    (place / "plain").mkdir()
    (place / "target").mkdir()
    mount.bind(place / "plain", place / "target")
    assert [subject(place / name) for name in ("target", "plain", NAME)] == [True, False, True]


@pytest.mark.rule("M+5")
def test_every_method_gives_the_same_answer(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first methods missing the later ones answer alike, and the probe says which it was."""
    (place / "plain").mkdir()
    (place / "link").symlink_to("bound")
    (place / "file").touch()
    (place / "other").touch()
    mount.bind(place / "file", place / "other")
    cases = {"bound": True, "plain": False, "link": False, "file": False, "other": True, NAME: True}
    point = __import__("kernelproof.impl.mount.point", fromlist=["_METHODS"])
    methods = point._METHODS
    for first, (name, _) in enumerate(methods):
        monkeypatch.setattr(point, "_METHODS", methods[first : first + 1])
        answers = {case: probe_mount_point(place / case) for case in cases}
        expected = {case: answer for case, answer in cases.items() if not (case == "link" and name == "table")}
        assert {case: answers[case].answer for case in expected} == expected, name
        assert {answers[case].method for case in expected} == {name}
    monkeypatch.setattr(point, "_METHODS", ())
    assert probe_mount_point(place) == (None, "none", None)
    monkeypatch.undo()
    assert probe_mount_point("/").answer is True
    assert probe_mount_point(place / "bound/..").answer is True
    with pytest.raises(FileNotFoundError):
        probe_mount_point(place / "missing")


@pytest.mark.rule("M+2")
@pytest.mark.parametrize("backend", ["poll", "auto"])
def test_watch_sees_what_changes(place: Path, backend: str) -> None:
    """Mounts added, moved, changed and removed are told, each once, and nothing else is."""
    (place / "x").mkdir()
    (place / "y").mkdir()
    mount.make_private(place)
    steps: list[Callable[[], object]] = [
        lambda: mount.mount("new", place / "x", "tmpfs", ""),
        lambda: mount.remount(place / "x", "bind,ro"),
        lambda: mount.move(place / "x", place / "y"),
        lambda: mount.unmount(place / "y"),
    ]
    with mount.MountWatch(backend=backend) as watcher:
        assert watcher.changes(0) == ()
        seen: list[mount.Change] = []
        for step in steps:
            step()
            seen += watcher.changes(10)
            assert watcher.changes(0) == ()
    assert [each.what for each in seen] == ["added", "changed", "moved", "removed"]
    records: list[Mount] = [record for each in seen for record in (each.new, each.old) if record is not None]
    assert {each.source for each in records} == {"new"}


@pytest.mark.rule("M+2")
@pytest.mark.parametrize("backend", ["poll", "auto"])
def test_watch_survives_a_burst(place: Path, backend: str) -> None:
    """After more changes than the queue of events holds, which nobody looked at, the difference is right."""
    (place / "x").mkdir()
    queue = Path("/proc/sys/fs/fanotify/max_queued_events")
    if queue.exists():
        queue.write_text("16")
    with mount.MountWatch(backend=backend) as watcher:
        for _ in range(50):
            mount.force_mount("gone", place / "x", "tmpfs", "")
            mount.force_unmount(place / "x", timeout_seconds=None)
        for number in range(5):
            mount.force_mount(f"{number}", place / "x", "tmpfs", "")
        changes = watcher.changes(10)
        assert [(each.what, each.new and each.new.source) for each in changes] == [
            ("added", f"{number}") for number in range(5)
        ]
        assert watcher.changes(0) == ()


def test_watch_wakes_who_waits(place: Path) -> None:
    """A watcher that waits without end is woken by a mount of another process."""
    (place / "x").mkdir()
    with mount.MountWatch() as watcher:
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/mount", ["mount", "-t", "tmpfs", "late", str(place / "x")])
        (change,) = watcher.changes(60)
        os.waitpid(pid, 0)
    assert change.what == "added"
    assert change.new is not None
    assert change.new.source == "late"
