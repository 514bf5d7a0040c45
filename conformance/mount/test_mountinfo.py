"""/proc/PID/mountinfo, mounts and mountstats."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.statx import StatxMask, statx_path
from kernelproof.impl.mount import MountTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, MountAt, Refusal
    from kernelproof.conformance.seen import Seen

MOUNTINFO_LINE = re.compile(r"\d+ \d+ \d+:\d+ \S+ /\S* r[ow]\S*( [a-z_]+(:\d+)?)* - \S+ \S* r[ow].*")


def parent_of(path: Path) -> str:
    """The line of mountinfo for a mount point, as it is written."""
    escaped = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    with open("/proc/self/mountinfo", encoding="utf-8", newline="\n") as file:
        return [line for line in file if line.split(" ")[4] == escaped][-1]


@behaviour("mount.mountinfo.field-order", subject="impl")
def test_fields(tree: Path, seen: Seen) -> None:
    """Each line has the fields of the manual, and the library reads them all."""
    mount.mount("", tree / "a", "tmpfs", "shared")
    mount.bind(tree / "a", tree / "b", options="slave")
    text = Path("/proc/self/mountinfo").read_text()
    assert seen([line for line in text.splitlines() if not MOUNTINFO_LINE.fullmatch(line)]) == []
    table = MountTable.parse(text)
    assert (len(table), table.errors) == (text.count("\n"), ())
    assert table.find(tree / "b").master == table.find(tree / "a").peer_group


@behaviour("mount.mountinfo.devno-is-st-dev", subject="impl")
def test_device_number(tree: Path, seen: Seen) -> None:
    """The device is st_dev of the mount point."""
    mount.mount("x", tree / "a", "tmpfs", "")
    device = (tree / "a").stat().st_dev
    shown = parent_of(tree / "a").split(" ")[2]
    found = MountTable.read().find(tree / "a")
    assert os.makedev(found.major, found.minor) == device
    assert seen(shown) == f"{os.major(device)}:{os.minor(device)}"


@behaviour("mount.mountinfo.root-of-bind", subject="impl")
def test_root_of_a_bind(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """The root of a bind mount is the path of the directory in its filesystem."""
    (tree / "a/deep/er").mkdir(parents=True)
    mount.bind(tree / "a/deep/er", tree / "b")
    assert MountTable.read().find(tree / "b").root == "/a/deep/er"
    assert seen(line_at(tree / "b").root) == "/a/deep/er"


@behaviour("mount.mountinfo.id-equals-statx", subject="impl")
def test_id_of_statx(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """stx_mnt_id of a file is the ID of its mount."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/file").touch()
    found = statx_path(tree / "a/file", StatxMask.MNT_ID).mount_id
    assert seen(found) == line_at(tree / "a").id == mount.mount_id(tree / "a/file", unique=False)


@behaviour("mount.mountinfo.statx-mount-root", subject="impl")
def test_mount_root_of_statx(tree: Path, seen: Seen) -> None:
    """statx says of the root of a mount, also of a bind mount, that it is one, and of other directories that not."""
    (tree / "a/dir").mkdir()
    mount.bind(tree / "a", tree / "b")
    paths = (tree, tree / "b", tree / "a", tree / "b/dir")
    assert seen([statx_path(path).is_mount_root for path in paths]) == [True, True, False, False]


@behaviour("mount.mountinfo.escapes", subject="impl")
def test_escapes(tree: Path, seen: Seen) -> None:
    """Space, tab, newline and backslash are written by their numbers, in mount point and source."""
    name = "a b\tc\nd\\e"
    (tree / name).mkdir()
    mount.mount(name, tree / name, "tmpfs", "")
    escaped = "a\\040b\\011c\\012d\\134e"
    with open("/proc/self/mountinfo", encoding="utf-8", newline="\n") as file:
        (line,) = [line for line in file if escaped in line]
    fields = line.split(" ")
    assert mount.mount_of(tree / name).source == name
    assert seen([fields[4].removeprefix(f"{tree}/"), line.split(" - ")[1].split(" ")[1]]) == [escaped, escaped]


@behaviour("mount.mountinfo.relative-to-root", subject="impl")
def test_relative_to_the_root(tree: Path, in_child: InChild, seen: Seen) -> None:
    """After chroot() paths begin at the new root, and what is outside is not listed."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/proc").mkdir()
    mount.mount("proc", tree / "a/proc", "proc", "")

    def look() -> list[str]:
        os.chroot(tree / "a")
        os.chdir("/")
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return sorted(line.split(" ")[4] for line in file)

    assert seen(in_child(look)) == ["/", "/proc"]


@behaviour("mount.mountinfo.root-parent-not-listed", subject="impl")
def test_parent_of_the_first(tree: Path, in_child: InChild, seen: Seen) -> None:
    """The parent of a process's root need not be in its table; the library takes that."""
    mount.mount("x", tree / "a", "tmpfs", "")
    (tree / "a/proc").mkdir()
    mount.mount("proc", tree / "a/proc", "proc", "")

    def look() -> bool:
        os.chroot(tree / "a")
        os.chdir("/")
        table = MountTable.read()
        assert table.root.source == "x"
        return table.root.parent_id in table.by_id

    assert seen(in_child(look)) is False


@behaviour("mount.mountinfo.options-split", subject="impl")
def test_two_kinds_of_options(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Options of the mount are in field 6, those of the filesystem in the last one."""
    mount.mount("x", tree / "a", "tmpfs", "nosuid,size=64k")
    line = line_at(tree / "a")
    places = ["nosuid" in line.options, "size=64k" in line.options, "size=64k" in line.super_options]
    assert seen([*places, "nosuid" in line.super_options]) == [True, False, True, False]


@behaviour("mount.mountinfo.null-source-none", subject="impl")
def test_source_of_nothing(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Without a source there is "none" in its place."""
    mount.mount(None, tree / "a", "tmpfs", "")
    assert seen(line_at(tree / "a").source) == "none"


@behaviour("mount.mountinfo.no-tag-is-private", subject="impl")
def test_no_tag(peers: tuple[Path, Path], line_at: LineAt, mount_at: MountAt, seen: Seen) -> None:
    """A mount without optional field sends nothing and gets nothing."""
    a, b = peers
    mount.make_private(b)
    assert line_at(b).tags == frozenset()
    mount.mount("new", a / "x", "tmpfs", "")
    got = mount_at(b / "x")
    mount.unmount(a / "x")
    mount.mount("new", b / "x", "tmpfs", "")
    assert seen([got, mount_at(a / "x")]) == [None, None]


@behaviour("mount.mounts.poll-on-mount", subject="impl")
def test_poll(tree: Path, seen: Seen) -> None:
    """poll tells of a mount and of an unmount, once to each open file."""
    with open("/proc/self/mounts", "rb") as one, open("/proc/self/mounts", "rb") as other:
        polls = []
        for file in (one, other):
            poll = select.poll()
            poll.register(file, select.POLLPRI)
            polls.append(poll)
        steps: list[Callable[[], object]] = [
            lambda: mount.mount("x", tree / "a", "tmpfs", ""),
            lambda: mount.unmount(tree / "a"),
        ]
        told: list[object] = []
        for step in steps:
            step()
            for poll in polls:
                told += [bool(event & select.POLLPRI) for _, event in poll.poll(0)] + [len(poll.poll(0))]
    assert seen(told) == [True, 0] * 4


@behaviour("mount.mounts.poll-quiet-without-change", subject="impl")
def test_poll_without_change(tree: Path, seen: Seen) -> None:
    """Where nothing changes poll waits until its time is over, and so does the library."""
    with mount.MountWatch(backend="poll") as watcher, open("/proc/self/mounts", "rb") as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        quiet = poll.poll(200)
        assert watcher.changes(0.1) == ()
        mount.mount("x", tree / "a", "tmpfs", "")
        assert len(watcher.changes(1)) == 1
    assert seen(quiet) == []


@behaviour("mount.mounts.epoll-pri", subject="impl")
def test_epoll(tree: Path, seen: Seen) -> None:
    """epoll with EPOLLPRI tells of a mount."""
    with open("/proc/self/mounts", "rb") as file, select.epoll() as epoll:
        epoll.register(file, select.EPOLLPRI)
        before = epoll.poll(0)
        mount.mount("x", tree / "a", "tmpfs", "")
        after = [bool(event & select.EPOLLPRI) for _, event in epoll.poll(10)]
    assert before == []
    assert seen(after) == [True]


@behaviour("mount.mounts.proc-mounts-is-link", subject="impl")
def test_link(tree: Path, seen: Seen) -> None:
    """/proc/mounts is a link to self/mounts."""
    mount.mount("proc", tree / "a", "proc", "")
    assert seen([os.readlink(f"{path}/mounts") for path in ("/proc", tree / "a")]) == ["self/mounts", "self/mounts"]


@behaviour("mount.mounts.six-fields-last-zero", subject="impl")
def test_mounts_is_an_fstab(tree: Path, seen: Seen) -> None:
    """Each line of mounts has six fields, of which the last two are 0; the parser of fstab reads it."""
    mount.mount("a b", tree / "a", "tmpfs", "size=64k")
    text = Path("/proc/self/mounts").read_text()
    assert seen({tuple(line.split(" ")[4:]) for line in text.splitlines()}) == {("0", "0")}
    assert all(len(line.split(" ")) == 6 for line in text.splitlines())
    (entry,) = [each for each in mount.parse_fstab(text).entries if each.mount_point == str(tree / "a")]
    assert (entry.source, entry.fstype) == ("a b", "tmpfs")


@behaviour("mount.mountstats.line-format", subject="impl")
def test_mountstats(tree: Path, seen: Seen) -> None:
    """Each line of mountstats names device, mount point and type."""
    mount.mount("x", tree / "a", "tmpfs", "")
    lines = Path("/proc/self/mountstats").read_text().splitlines()
    line = re.compile(r"(device \S+|no device) mounted on \S+ with fstype \S+.*")
    assert f"device x mounted on {tree}/a with fstype tmpfs" in lines
    assert seen([each for each in lines if not line.fullmatch(each)]) == []


@behaviour("mount.mountstats.owner-only", subject="impl")
def test_mountstats_of_another_user(tree: Path, as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """mountstats of another user's process can't be read; mounts can."""
    mount.mount("proc", tree / "a", "proc", "")
    for path in (tree, *list(tree.parents)[:-2]):
        path.chmod(0o755)
    folder = tree / "a" / str(os.getpid())
    answers = as_nobody(lambda: [refusal(os.open, folder / name, os.O_RDONLY) for name in ("mountstats", "cmdline")])
    assert seen(answers) == ["EACCES", "no error"]


@behaviour("mount.mountstats.nodevice", subject="impl")
def test_mountstats_without_a_device(tree: Path, seen: Seen) -> None:
    """A mount without device begins with "nodevice"."""
    mount.mount(None, tree / "a", "tmpfs", "")
    lines = Path("/proc/self/mountstats").read_text().splitlines()
    (line,) = [line for line in lines if f" mounted on {tree}/a " in line]
    assert seen(line.partition(" mounted on ")[0]) == "nodevice"
