"""Overlays, tmpfs with copy-up, ID-mapped mounts, loop devices, other roots and namespaces, in a machine."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.mount import IdRange, LoopFlag, MountTable, Namespace

pytestmark = pytest.mark.machine


def layers_of(place: Path, names: Sequence[str]) -> list[Path]:
    """Directories with these names, each with a file of its number and one that all have."""
    made = []
    for number, name in enumerate(names):
        layer = place / "layers" / name
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        (layer / "common").write_text(str(number))
        made.append(layer)
    return made


@pytest.mark.parametrize("by_descriptor", [False, True], ids=["names", "descriptors"])
def test_overlay_with_hard_names(place: Path, by_descriptor: bool) -> None:
    """Colons, commas, backslashes, blanks and newlines in names are part of the names; the first layer is on top."""
    lower = layers_of(place, ["a:b", "c,d=e", "f\\g", "h i\nj", "k\\:l"])
    (place / "up:per").mkdir()
    (place / "wo,rk").mkdir()
    opened = [os.open(each, os.O_PATH) for each in lower] if by_descriptor else []
    with mount.mount_overlay(opened or lower, upper=place / "up:per", work=place / "wo,rk") as made:
        made.attach(place / "a")
    for fd in opened:
        os.close(fd)
    assert sorted(os.listdir(place / "a")) == ["common", *(f"file{number}" for number in range(5))]
    assert (place / "a/common").read_text() == "0"
    (place / "a/new").touch()
    assert os.listdir(place / "up:per") == ["new"]


def by_mount_data(layers: Sequence[Path], target: Path) -> None:
    """What was done: one text of all layers as data of mount(2), however long."""
    data = "lowerdir=" + ":".join(str(each) for each in layers)
    calls.mount("overlay", target, "overlay", 0, data)


def layer_by_layer(layers: Sequence[Path], target: Path) -> None:
    """Ours: each layer a call, or an error that says what is too long before any call."""
    try:
        with mount.mount_overlay(layers) as made:
            made.attach(target)
    except mount.OptionError as error:
        if "6.8" not in str(error):
            raise
        pytest.skip(f"this kernel takes no layers one by one: {error}")


@pytest.mark.rule("M8", ours=layer_by_layer, wrong=by_mount_data, raises=OSError)
def test_overlay_of_many_layers(place: Path, subject: Callable[[Sequence[Path], Path], None]) -> None:
    """A hundred layers with names of 60 bytes are mounted, though their text is longer than a page."""
    names = [f"{number:04}-{'x' * 55}" for number in range(100)]
    subject(layers_of(place, names), place / "a")
    assert len(os.listdir(place / "a")) == 101


@pytest.mark.rule("M8")
def test_data_beyond_a_page_is_refused_before_the_call(place: Path) -> None:
    """mount(2) would cut the text and complain of something else; so it is not called."""
    with pytest.raises(mount.OptionError, match="4095 bytes of data"):
        mount.force_mount("overlay", place / "a", "overlay", f"lowerdir={'/x' * 2100}")


@pytest.mark.rule("M8")
def test_long_options_of_an_overlay(place: Path) -> None:
    """Layers in a `lowerdir` of more than a page are mounted by each call that takes options; escapes are undone."""
    layers = layers_of(place, ["a:b", *(f"{number:04}-{'x' * 55}" for number in range(100))])
    lowerdir = "lowerdir=" + ":".join(str(each).replace(":", "\\:") for each in layers)
    steps = mount.plan_mounts([mount.MountSpec("o", "planned", "overlay", lowerdir)])
    (place / "any").mkdir()
    try:
        with mount.Root(place) as root:
            mount.mount_in_root(root, "inside", "o", "overlay", f"nosuid,{lowerdir}")
            mount.perform_mounts(steps, root)
        mount.mount_by_any_road("o", place / "any", "overlay", lowerdir)
    except mount.TooLongError as error:
        pytest.skip(f"this kernel takes no layers one by one: {error}")
    for name in ("inside", "planned", "any"):
        assert len(os.listdir(place / name)) == 102
        assert (place / name / "common").read_text() == "0"


def test_overlay_refusals_name_their_cause(place: Path) -> None:
    """A layer that is missing, and layers on two filesystems, are named in the error."""
    (lower,) = layers_of(place, ["one"])
    (place / "upper").mkdir()
    mount.mount("other", place / "b", "tmpfs", "")
    (place / "b/work").mkdir()
    with pytest.raises(mount.FsContextError) as missing:
        mount.mount_overlay([lower, place / "missing"])
    assert f"no directory: '{place}/missing'" in missing.value.__notes__
    with pytest.raises(mount.FsContextError) as split:
        mount.mount_overlay([lower], upper=place / "upper", work=place / "b/work")
    assert "upper and work are not on one mount" in split.value.__notes__
    assert [each.source for each in MountTable.read().below(place)] == ["place", "other"]


def test_overlays_three_deep_say_so(place: Path) -> None:
    """The kernel stacks two overlays; the third is refused, and the note says why."""
    lower = layers_of(place, ["one", "two"])
    for name in ("first", "second"):
        (place / name).mkdir()
        with mount.mount_overlay(lower) as made:
            made.attach(place / name)
        lower = [place / name, lower[1]]
    with pytest.raises(mount.FsContextError) as refused:
        mount.mount_overlay(lower)
    assert any("stacks 2" in note for note in refused.value.__notes__)


def test_tmpfs_has_a_copy_of_what_it_covers(place: Path) -> None:
    """Every kind of file is copied with owner, mode, times, links and attributes, and the original is untouched."""
    source = place / "a"
    (source / "dir").mkdir(mode=0o750)
    (source / "dir/file").write_text("content")
    os.link(source / "dir/file", source / "same")
    (source / "link").symlink_to("dir/file")
    os.mkfifo(source / "fifo", 0o620)
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(source / "dir/file", 5, 6)
    os.chmod(source / "dir/file", 0o4711)
    os.setxattr(source / "dir/file", "trusted.test", b"x")
    os.utime(source / "dir/file", ns=(10**18, 10**18 + 5))
    os.chmod(source, 0o1777)
    os.chown(source, 7, 8)
    (source / "dir/sub").mkdir()
    mount.mount("not me", source / "dir/sub", "tmpfs", "")
    (source / "dir/sub/hidden").touch()

    with mount.tmpfs_copy_up(source, "size=1m,gid=9") as made:
        made.attach(place / "b")
    copied = (place / "b/dir/file").stat()
    assert (copied.st_uid, copied.st_gid, stat.S_IMODE(copied.st_mode)) == (5, 6, 0o4711)
    assert (copied.st_atime_ns, copied.st_mtime_ns) == (10**18, 10**18 + 5)
    assert os.getxattr(place / "b/dir/file", "trusted.test") == b"x"
    assert (place / "b/same").stat().st_ino == copied.st_ino
    assert os.readlink(place / "b/link") == "dir/file"
    assert stat.S_ISFIFO((place / "b/fifo").stat().st_mode)
    assert (place / "b/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((place / "b/dir").stat().st_mode) == stat.S_IMODE((source / "dir").stat().st_mode)
    root = (place / "b").stat()
    assert (root.st_uid, root.st_gid, stat.S_IMODE(root.st_mode)) == (7, 9, 0o1777)
    assert os.listdir(place / "b/dir/sub") == []
    (place / "b/dir/file").write_text("changed")
    assert (source / "dir/file").read_text() == "content"
    with pytest.raises(OSError, match="space"):
        mount.tmpfs_copy_up("/usr/lib", "size=64k")


@pytest.mark.parametrize("with_threads", [False, True], ids=["one-thread", "threads"])
def test_files_have_other_owners_through_an_id_mapped_mount(place: Path, with_threads: bool) -> None:
    """Owners are shifted through the mount and not beside it, and the process that made the map is gone."""
    (place / "a/file").touch()
    os.chown(place / "a/file", 5, 6)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    if with_threads:
        thread.start()
    try:
        with mount.map_ids(place / "a", [IdRange(0, 100000, 1000)]) as made:
            made.attach(place / "b")
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            pytest.skip(f"no ID-mapped mount of a tmpfs on this kernel: {error}")
        raise
    finally:
        stop.set()
        if with_threads:
            thread.join()
    seen = (place / "b/file").stat()
    assert (seen.st_uid, seen.st_gid) == (100005, 100006)
    assert ((place / "a/file").stat().st_uid) == 5
    assert "idmapped" in MountTable.read().find(place / "b").mount_options
    assert children.read_text() == before


@pytest.mark.parametrize("read_only", [False, True], ids=["rw", "ro"])
def test_loop_device(place: Path, read_only: bool) -> None:
    """A file is a block device, and the kernel takes it back when nobody uses it any more."""
    image = place / "image"
    image.write_bytes(b"x" * 512 + b"y" * 4096)
    before = mount.list_loops()
    with mount.attach_loop(image, read_only=read_only, offset=512, size_limit=2048) as device:
        status = device.status()
        assert (status.offset, status.size_limit, status.file_name) == (512, 2048, str(image)[:63])
        assert status.flags & LoopFlag.AUTOCLEAR
        assert bool(status.flags & LoopFlag.READ_ONLY) == read_only
        assert status.inode == image.stat().st_ino
        assert mount.list_loops()[os.path.basename(device.path)] == str(image)
        with open(device.path, "rb") as block:
            assert block.read() == b"y" * 2048
        with mount.open_loop(device.path) as second:
            assert second.status() == status
        if read_only:
            writer = os.open(device.path, os.O_RDWR)
            with pytest.raises(PermissionError):
                os.write(writer, bytes(512))
            os.close(writer)
    assert mount.list_loops() == before
    with pytest.raises(OSError, match="neither a regular file nor"):
        mount.attach_loop(place, read_only=True)


def pivoted(place: Path, manner: str, keep_old: str | None) -> list[object]:
    """Change the root in a child and return what it saw: manner, entries of "/", mounts."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with Namespace():
                new = place / "a"
                mount.force_mount("new", new, "tmpfs", "")
                (new / "proc").mkdir()
                (new / "kept").mkdir()
                mount.mount("proc", new / "proc", "proc", "")
                used = mount.change_root(new, manner, keep_old=keep_old)
                entries = sorted(os.listdir("/"))
                points = [each.mount_point for each in MountTable.read()]
                os.write(writer, repr([used, entries, points, os.getcwd()]).encode())
                status = 0
                os._exit(0)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return list(__import__("ast").literal_eval(text))


@pytest.mark.parametrize(
    ("manner", "keep_old", "points"),
    [
        ("auto", None, ["/", "/proc"]),
        ("dot", None, ["/", "/proc"]),
        ("put_old", None, ["/", "/proc"]),
        ("move", None, ["/", "/proc"]),
        ("put_old", "kept", None),
    ],
    ids=["auto", "dot", "put_old", "move", "kept"],
)
def test_root_is_changed(place: Path, manner: str, keep_old: str | None, points: list[str] | None) -> None:
    """In each manner the new root is all that is seen, and nothing is left of the directory that was needed."""
    used, entries, seen, directory = pivoted(place, manner, keep_old)
    assert used == ("dot" if manner == "auto" else manner)
    assert entries == ["kept", "proc"]
    assert directory == "/"
    if points is not None:
        assert seen == points
    else:
        assert "/kept" in seen  # type: ignore[operator]
    assert not (place / "a/proc").exists()


def test_root_can_t_be_what_is_no_mount(place: Path) -> None:
    """The error of a directory that is no mount point says what is asked of it, and no directory is left."""
    with pytest.raises(OSError, match=r".") as refused:
        mount.change_root(place / "a", "put_old")
    assert any("must be a mount point" in note for note in refused.value.__notes__)
    assert os.listdir(place / "a") == []
    with pytest.raises(mount.OptionError, match="no manner"):
        mount.change_root(place / "a", "sideways")


def test_namespace_is_left_as_it_was_entered(place: Path) -> None:
    """Mounts made inside are not seen outside, and working directory and root are those of before."""
    seen: list[object] = []

    def work() -> None:
        os.chdir(place)
        home = os.stat("/proc/thread-self/ns/mnt").st_ino
        with Namespace() as inside:
            mount.mount("x", place / "a", "tmpfs", "")
            seen.append(mount.is_mount_point(place / "a"))
            seen.append(os.fstat(inside.fd).st_ino != home)
            os.chdir("/")
            with Namespace("/proc/self/ns/mnt"):
                seen.append(mount.mounted(place / "a"))
            seen.append(mount.mounted(place / "a"))
        seen.append(mount.is_mount_point(place / "a"))
        seen.append(os.stat("/proc/thread-self/ns/mnt").st_ino == home)
        seen.append(os.getcwd() == str(place))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, True, False, True, False, True, True]


def test_other_root_is_put_back_after_a_namespace(place: Path) -> None:
    """A thread whose root is not its namespace's has that root again when it leaves another namespace."""
    seen: list[object] = []
    (place / "proc").mkdir()
    mount.mount("proc", place / "proc", "proc", "")
    inside = place.stat()

    def work() -> None:
        unshare(CloneFlag.FS)
        os.chroot(place)
        os.chdir("/a")
        with Namespace():
            seen.append(sorted(os.listdir("/")))
        seen.append(os.path.samestat(os.stat("/"), inside))
        seen.append(os.getcwd())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [["a", "b", "proc"], True, "/a"]
