"""Flags of a mount, and flags of a superblock."""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.filesystem import filesystem_type
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen

DAY_NANOSECONDS = 86400 * 10**9


def make_null(path: Path) -> Path:
    """Make a node of the null device."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return path


@behaviour("mount.flags.nodev-open-eacces", subject="impl")
def test_device_on_nodev(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A device node can't be opened on a mount with MS_NODEV, and on one without it can."""
    for name, options in (("a", "nodev"), ("b", "")):
        mount.mount("x", tree / name, "tmpfs", options)
        make_null(tree / name / "null")
    assert refusal(os.open, tree / "b/null", os.O_RDONLY) == "no error"
    assert seen.errno_of(os.open, tree / "a/null", os.O_RDONLY) == "EACCES"


@behaviour("mount.flags.nodev-opath-allowed", subject="impl")
def test_device_on_nodev_by_o_path(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """O_PATH opens a device node on a mount with MS_NODEV, whose device can't be opened."""
    mount.mount("x", tree / "a", "tmpfs", "nodev")
    make_null(tree / "a/null")
    assert refusal(os.open, tree / "a/null", os.O_RDONLY) == "EACCES"
    assert seen.errno_of(os.open, tree / "a/null", os.O_PATH) == "no error"


@behaviour("mount.flags.noexec-execve-eacces", subject="impl")
def test_program_on_noexec(tree: Path, seen: Seen) -> None:
    """root can't execute a program on a mount with MS_NOEXEC."""
    mount.mount("x", tree / "a", "tmpfs", "")
    program = tree / "a/program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0
    mount.remount(tree / "a", "bind,noexec")
    assert seen.errno_of(subprocess.run, [program], check=False) == "EACCES"


@behaviour("mount.flags.noexec-mmap-eperm", subject="impl")
def test_executable_map_on_noexec(tree: Path, seen: Seen) -> None:
    """A file on a mount with MS_NOEXEC can't be mapped for execution, only to be read."""
    mount.mount("x", tree / "a", "tmpfs", "noexec")
    (tree / "a/file").write_bytes(bytes(4096))
    with open(tree / "a/file", "rb") as file:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ).close()
        refused = seen.errno_of(mmap.mmap, file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    assert refused == "EPERM"


@behaviour("mount.flags.nosuid-ignored-silently", subject="impl")
def test_set_user_id_on_nosuid(tree: Path, in_child: InChild, seen: Seen) -> None:
    """A set-user-ID program runs on a mount with MS_NOSUID, with the caller's ID; without the flag with its own."""
    mount.mount("x", tree / "a", "tmpfs", "mode=755")
    program = tree / "a/id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    os.chown(program, 1234, 0)
    program.chmod(0o4755)
    for path in (tree, *tree.parents):
        path.chmod(path.stat().st_mode | 0o555)

    def ask() -> str:
        os.setresuid(65534, 65534, 65534)
        return subprocess.run([program, "-u"], check=True, capture_output=True, text=True).stdout.strip()

    answers = [in_child(ask)]
    mount.remount(tree / "a", "bind,nosuid")
    answers.append(in_child(ask))
    assert seen(answers) == ["1234", "65534"]


@behaviour("mount.flags.nosymfollow-eloop", subject="impl")
def test_links_on_nosymfollow(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A path with a symbolic link at its end or in its middle can't be opened on a mount with MS_NOSYMFOLLOW."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/dir").mkdir()
    (tree / "a/dir/file").touch()
    (tree / "a/last").symlink_to("dir/file")
    (tree / "a/middle").symlink_to("dir")
    paths = (tree / "a/last", tree / "a/middle/file")
    assert [refusal(os.open, path, os.O_RDONLY) for path in paths] == ["no error", "no error"]
    mount.remount(tree / "a", "bind,nosymfollow")
    assert seen([refusal(os.open, path, os.O_RDONLY) for path in paths]) == ["ELOOP", "ELOOP"]


@behaviour("mount.flags.nosymfollow-readlink-works", subject="impl")
def test_links_are_made_and_read_on_nosymfollow(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """On a mount with MS_NOSYMFOLLOW links are made and read, though not followed."""
    mount.mount("x", tree / "a", "tmpfs", "nosymfollow")
    os.symlink("target", tree / "a/link")
    (tree / "a/target").touch()
    assert refusal(os.open, tree / "a/link", os.O_RDONLY) == "ELOOP"
    assert seen(os.readlink(tree / "a/link")) == "target"


@behaviour("mount.flags.default-relatime", subject="impl")
def test_default_is_relatime(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A mount that was made with no flag about access times is relatime."""
    mount.mount("x", tree / "a", "tmpfs", "")
    assert "relatime" in seen(line_at(tree / "a").options)


def read_after(path: Path, atime: int, mtime: int) -> int:
    """Set the times of a file, read it, and return its access time, in seconds."""
    os.utime(path, (atime, mtime))
    path.read_bytes()
    return int(path.stat().st_atime)


@behaviour("mount.flags.noatime-no-update", subject="impl")
def test_noatime(tree: Path, seen: Seen) -> None:
    """Reading through a mount with MS_NOATIME leaves an access time that is older than the modification time."""
    mount.mount("x", tree / "a", "tmpfs", "noatime")
    mount.mount("x", tree / "b", "tmpfs", "strictatime")
    for name in ("a", "b"):
        (tree / name / "file").write_text("x")
    assert read_after(tree / "b/file", 1000, 2000) > 2000
    assert seen(read_after(tree / "a/file", 1000, 2000)) == 1000


@behaviour("mount.flags.relatime-updates-when-older", subject="impl")
def test_relatime(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A read updates an access time that is not later than modification or change, or older than a day; else not."""
    mount.mount("x", tree / "a", "tmpfs", "relatime")
    assert "relatime" in line_at(tree / "a").options
    path = tree / "a/file"
    path.write_text("x")
    # Setting times sets the change time to now; an access time in the future is later than both.
    now = int(path.stat().st_ctime)
    cases = {"older than modification": (now - 50, now - 10), "older than change": (now - 10, now - 50)}
    updated = {name: read_after(path, *times) != times[0] for name, times in cases.items()}
    updated["later than both"] = read_after(path, now + 1000, now - 50) != now + 1000
    updated["more than a day old"] = read_after(path, now - 90000, now - 100000) != now - 90000
    assert seen(list(updated.values())) == [True, True, False, True]


@behaviour("mount.flags.strictatime-overrides", subject="impl")
def test_strictatime_overrides(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_STRICTATIME beside MS_NOATIME and MS_RELATIME leaves neither of them."""
    flags = MountFlag.STRICTATIME | MountFlag.NOATIME | MountFlag.RELATIME
    calls.mount("x", tree / "a", "tmpfs", flags)
    calls.mount("x", tree / "b", "tmpfs", MountFlag.NOATIME | MountFlag.RELATIME)
    assert "noatime" in line_at(tree / "b").options
    assert seen(line_at(tree / "a").options).isdisjoint({"noatime", "relatime"})


@behaviour("mount.flags.nodiratime-only-directories", subject="impl")
def test_nodiratime(tree: Path, seen: Seen) -> None:
    """With MS_NODIRATIME a file's access time is updated by a read, a directory's by a listing is not."""
    mount.mount("x", tree / "a", "tmpfs", "nodiratime,strictatime")
    (tree / "a/dir").mkdir()
    (tree / "a/file").write_text("x")
    file = read_after(tree / "a/file", 1000, 1000)
    os.utime(tree / "a/dir", (1000, 1000))
    os.listdir(tree / "a/dir")
    assert seen([file > 1000, int((tree / "a/dir").stat().st_atime)]) == [True, 1000]


@behaviour("mount.flags.nosuid-nodev-noexec-per-mount", subject="impl")
def test_flags_of_one_mount(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """nosuid, nodev and noexec of one mount of a filesystem do not appear on another one."""
    mount.bind(tree / "a", tree / "b")
    mount.remount(tree / "b", "bind,nosuid,nodev,noexec")
    words = {"nosuid", "nodev", "noexec"}
    assert words <= line_at(tree / "b").options
    assert seen(line_at(tree).options & words) == frozenset()


@behaviour("mount.flags.sync-is-per-superblock", subject="impl")
def test_sync_is_the_filesystem_s(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount with MS_SYNCHRONOUS through one mount is seen in the super options of all."""
    mount.bind(tree / "a", tree / "b")
    mount.remount(tree, "sync")
    assert ["sync" in seen(line_at(path).super_options) for path in (tree, tree / "b")] == [True, True]


@behaviour("mount.flags.remount-bind-keeps-superblock", subject="impl")
def test_bind_remount_leaves_the_filesystem(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """MS_REMOUNT|MS_BIND with MS_SYNCHRONOUS and MS_NOSUID changes the mount and not its super options."""
    before = line_at(tree).super_options
    calls.mount(None, tree, None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.SYNCHRONOUS | MountFlag.NOSUID)
    assert "nosuid" in line_at(tree).options
    assert seen(line_at(tree).super_options) == before


@behaviour("mount.flags.dirsync-not-changed-by-remount", subject="impl")
def test_dirsync_is_set_at_the_first_mount_only(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount with MS_DIRSYNC succeeds and sets nothing; a new mount has it."""
    mount.mount("x", tree / "a", "tmpfs", "dirsync")
    assert "dirsync" in line_at(tree / "a").super_options
    mount.mount("x", tree / "b", "tmpfs", "")
    mount.remount(tree / "b", "dirsync,sync")
    assert "sync" in line_at(tree / "b").super_options
    assert "dirsync" not in seen(line_at(tree / "b").super_options)


@behaviour("mount.flags.lazytime-set-by-remount", subject="impl")
def test_lazytime_by_remount(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount with MS_LAZYTIME is seen in the super options."""
    before = line_at(tree).super_options
    mount.remount(tree, "lazytime")
    assert "lazytime" not in before
    assert "lazytime" in seen(line_at(tree).super_options)


@behaviour("mount.flags.statfs-f-flags-per-mount", subject="impl")
def test_statfs_has_the_mount_s_flags(tree: Path, seen: Seen) -> None:
    """statfs through a mount with nosuid, nodev and noexec says so, and through another mount of the filesystem not."""
    mount.bind(tree / "a", tree / "b")
    mount.remount(tree / "b", "bind,nosuid,nodev,noexec")
    flags = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
    assert seen([os.statvfs(tree / name).f_flag & flags for name in ("b", "a")]) == [flags, 0]


@behaviour("mount.flags.statfs-magic", subject="impl")
def test_types_by_number(tree: Path, seen: Seen) -> None:
    """tmpfs, proc and overlay have the numbers of the manual."""
    for name in ("proc", "overlay", "lower1", "lower2"):
        (tree / name).mkdir()
    mount.mount("x", tree / "a", "tmpfs", "")
    mount.mount("x", tree / "proc", "proc", "")
    mount.mount("x", tree / "overlay", "overlay", f"lowerdir={tree}/lower1:{tree}/lower2")
    numbers = []
    for name in ("a", "proc", "overlay"):
        fd = os.open(tree / name, os.O_PATH)
        numbers.append(filesystem_type(fd))
        os.close(fd)
    assert seen(numbers) == [0x01021994, 0x9FA0, 0x794C7630]
