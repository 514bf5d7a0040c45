"""Paths inside a root: what leads out is kept in, what is raced with stays in, and mounts land where they should."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount.resolve import Root, create_mount_point_in_root, mkdir_in_root

pytestmark = pytest.mark.machine


@pytest.fixture
def area(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs with the root "inside", beside it "outside", which must never be touched."""
    path = tmp_path / "area"
    path.mkdir()
    mount.force_mount("area", path, "tmpfs", "private")
    (path / "inside/a/b").mkdir(parents=True)
    (path / "outside/a/b").mkdir(parents=True)
    (path / "inside/file").write_text("inside")
    (path / "file").write_text("outside")
    (path / "outside/file").write_text("outside")
    yield path
    mount.unmount_recursive(path, lazy=True)


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_every_way_out_leads_inside(area: Path, emulate: bool) -> None:
    """`..`, absolute paths and absolute links all end at the root, in both ways to walk."""
    inside = area / "inside"
    (inside / "up").symlink_to("../../../../file")
    (inside / "absolute").symlink_to("/file")
    (inside / "a/chain").symlink_to("/up")
    (inside / "dir").symlink_to("/a/../a/b/")
    with Root(inside, emulate=emulate) as root:
        for path in ("file", "/file", "../../file", "a/../../file", "up", "absolute", "a/chain", "dir/../../file"):
            fd = root.open(path, os.O_RDONLY)
            assert os.read(fd, 10) == b"inside", path
            os.close(fd)
        assert root.resolve("/dir/..") == "/a"
        assert root.resolve("a/chain") == "/file"
        assert root.readlink("absolute") == "/file"
        with pytest.raises(OSError, match="Invalid argument"):
            root.readlink("file")


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_refusals_are_the_kernel_s(area: Path, emulate: bool) -> None:
    """Missing names, loops, files on the way and links of procfs are refused, with the same errno in both ways."""
    inside = area / "inside"
    (inside / "loop").symlink_to("loop")
    (inside / "proc").mkdir()
    mount.mount("proc", inside / "proc", "proc", "")
    cases = {
        "missing/x": errno.ENOENT,
        "loop": errno.ELOOP,
        "file/x": errno.ENOTDIR,
        "file/": errno.ENOTDIR,
        "proc/self/root": errno.ELOOP,
        "proc/self/fd/0": errno.ELOOP,
    }
    with Root(inside, emulate=emulate) as root:
        for path, expected in cases.items():
            with pytest.raises(OSError, match=r".") as refused:
                root.open(path, os.O_RDONLY)
            assert refused.value.errno == expected, path
        os.close(root.open("proc/self/status", os.O_RDONLY))
        with pytest.raises(OSError, match=r".") as crossed:
            root.open("proc/self", cross_mounts=False)
        assert crossed.value.errno == errno.EXDEV


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_what_is_made_is_inside(area: Path, emulate: bool) -> None:
    """Directories and files to mount on are made inside the root, through links too, and what is there is kept."""
    inside = area / "inside"
    (inside / "link").symlink_to("/a")
    with Root(inside, emulate=emulate) as root:
        for path in ("x/y/z", "link/new", "/x/y"):
            os.close(mkdir_in_root(root, path, 0o700))
        os.close(create_mount_point_in_root(root, "/link/etc/hosts", is_directory=False))
        os.close(create_mount_point_in_root(root, "file", is_directory=False))
        with pytest.raises(mount.UnsafePathError, match="a directory is in the place"):
            create_mount_point_in_root(root, "a", is_directory=False)
        with pytest.raises(FileNotFoundError, match=r"`\.\.` after"):
            mkdir_in_root(root, "new/../../q")
        with pytest.raises(NotADirectoryError):
            mkdir_in_root(root, "file/x")
        os.close(root.create("created"))
        with pytest.raises(FileExistsError):
            root.create("created")
    made = sorted(str(each.relative_to(inside)) for each in inside.rglob("*"))
    assert {"x/y/z", "a/new", "a/etc/hosts", "created"} <= set(made)
    assert (inside / "file").read_text() == "inside"
    assert sorted(os.listdir(area)) == ["file", "inside", "outside"]


def test_mounts_of_all_kinds_land_inside(area: Path) -> None:
    """A new filesystem and a read-only bind of a file are mounted at the paths inside, and say by which calls."""
    (area / "inside/etc").symlink_to("/a")
    with Root(area / "inside") as root:
        made = mount.mount_in_root(root, "/etc/tmp", "x", "tmpfs", "nosuid,size=1m")
        assert made.made_by == "fsopen"
        bound = mount.mount_in_root(root, "etc/hosts", area / "outside/file", None, "bind,ro,nodev")
        assert bound in [("open_tree", "mount_setattr"), ("open_tree", "remount")]
    table = mount.MountTable.read()
    assert "nosuid" in table.find(area / "inside/a/tmp").mount_options
    assert "size=1024k" in table.find(area / "inside/a/tmp").super_options
    assert {"ro", "nodev"} <= set(table.find(area / "inside/a/hosts").mount_options)
    assert (area / "inside/a/hosts").read_text() == "outside"
    assert "ro" not in table.find(area / "outside/file").mount_options


RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> None:
    """Exchange two names at once, renameat2(2)."""
    assert ctypes.CDLL(None).renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE) == 0


def check_then_mount(inside: Path, target: str) -> None:
    """What was done before openat2: the path is resolved by text, looked at, and then used."""
    path = os.path.realpath(inside / target)
    if not (path + "/").startswith(str(inside) + "/"):
        return
    mount.force_mount("x", path, "tmpfs", "")


def mount_inside(inside: Path, target: str) -> None:
    """Ours."""
    with Root(inside) as root:
        mount.mount_in_root(root, target, "x", "tmpfs", "", create=False)


def race(area: Path, mount_one: Callable[[Path, str], None], seconds: float, turns: int) -> tuple[int, int]:
    """Mount inside while another process exchanges a directory with a link to the outside; count mounts and escapes.

    It goes on for that time, and on a busy host until that many turns were tried too; the first escape ends it.
    """
    inside = area / "inside"
    (inside / "link").symlink_to(area / "outside/a")
    attacker = os.fork()
    if attacker == 0:
        while True:
            exchange(inside / "a", inside / "link")
    tried = done = escaped = 0
    deadline = time.monotonic() + seconds
    # The link leads to a path that the root has not got; or a rename raced with the look-up.
    expected = (errno.ENOENT, errno.EAGAIN, errno.EXDEV)
    try:
        while (time.monotonic() < deadline or tried < turns) and not escaped:
            tried += 1
            try:
                mount_one(inside, "a/b")
            except OSError as error:
                if error.errno in expected:
                    continue
                raise
            below = [each for each in mount.MountTable.read().below(area) if each.source == "x"]
            done += len(below)
            escaped += sum(not each.mount_point.startswith(str(inside)) for each in below)
            # Any name may lead elsewhere at any moment: all are tried until the mount is gone.
            while [each for each in mount.MountTable.read().below(area) if each.source == "x"]:
                for name in ("inside/a/b", "inside/link/b", "outside/a/b"):
                    with suppress(OSError):
                        mount.force_unmount(area / name, lazy=True, timeout_seconds=None)
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    return done, escaped


@pytest.mark.machine(time="real")
@pytest.mark.long
@pytest.mark.rule("M12", ours=mount_inside, wrong=check_then_mount)
def test_no_race_leads_out(area: Path, race_seconds: float, subject: Callable[[Path, str], None]) -> None:
    """For seconds a directory is exchanged with a link to the outside as fast as can be: no mount gets out."""
    seconds, turns = (race_seconds, 100) if subject is mount_inside else (10.0, 500)
    done, escaped = race(area, subject, seconds, turns)
    assert done
    assert escaped == 0


def test_directory_carried_out_of_the_root_takes_no_mount_with_it(area: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the directory is moved out between its look-up and the mount, the mount is taken off and the call fails."""
    roads = __import__("kernelproof.impl.mount.roads", fromlist=["make"])
    make = roads.make

    def move_it_first(*arguments: object) -> object:
        (area / "inside/a").rename(area / "outside/carried")
        return make(*arguments)

    monkeypatch.setattr(roads, "make", move_it_first)
    with Root(area / "inside") as root, pytest.raises(mount.UnsafePathError, match="led out of the root"):
        mount.mount_in_root(root, "a/b", "x", "tmpfs", "")
    assert [each.source for each in mount.MountTable.read().below(area)] == ["area"]


def open_proc_by_path(path: str) -> bytes:
    """What programs do: trust /proc."""
    return Path("/proc", path).read_bytes()


def open_proc_verified(path: str) -> bytes:
    """Ours, with the procfs that everybody sees."""
    with mount.open_procfs(private=False) as proc:
        fd = proc.open(path)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)


def test_overmounted_procfs_is_seen(area: Path) -> None:
    """A file over a file of procfs deceives who trusts the path; a handle refuses it, a private one is not fooled."""
    mount.bind(area / "file", "/proc/version")
    try:
        assert open_proc_by_path("version") == b"outside"
        with pytest.raises(mount.UnsafePathError):
            open_proc_verified("version")
        with mount.open_procfs() as proc:
            assert proc.method in ("fsopen", "open_tree")
            fd = proc.open("version")
            assert os.read(fd, 13) == b"Linux version"
            os.close(fd)
            with pytest.raises(OSError, match=r"."):
                proc.open("self/status")  # a link
    finally:
        mount.unmount("/proc/version")
    with mount.open_sysfs() as sysfs:
        os.close(sysfs.open("kernel", os.O_PATH | os.O_DIRECTORY))


def test_something_else_at_proc_is_refused(area: Path) -> None:
    """A tmpfs at /proc is no procfs; a part of procfs there is not its root."""
    mount.force_mount("fake", "/proc", "tmpfs", "")
    try:
        with pytest.raises(mount.UnsafePathError, match="no proc"):
            mount.open_procfs(private=False)
        with mount.open_procfs() as proc:
            assert proc.method == "fsopen"
    finally:
        mount.unmount("/proc")
    mount.bind("/proc/self", "/proc")
    try:
        with pytest.raises(mount.UnsafePathError, match="not the root"):
            mount.open_procfs(private=False)
    finally:
        mount.unmount("/proc")


def test_reopen(area: Path) -> None:
    """A file that was opened to be looked at is opened to be written, though its name is another file's by now."""
    path = area / "inside/file"
    fd = os.open(path, os.O_PATH)
    path.rename(area / "moved")
    path.write_text("new")
    writer = mount.reopen(fd, os.O_WRONLY | os.O_TRUNC)
    os.write(writer, b"written")
    os.close(writer)
    os.close(fd)
    assert ((area / "moved").read_text(), path.read_text()) == ("written", "new")
