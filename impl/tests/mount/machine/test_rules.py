"""What users of other libraries learnt the hard way: the wrong way first, then ours, in a machine."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.statmount import StatmountMask
from kernelproof.impl.mount import (
    MountAttribute,
    MountFlag,
    MountTable,
    Namespace,
    Root,
    classic,
    detached,
    table,
    unmounting,
)
from kernelproof.impl.mount.detached import can_set_attributes
from kernelproof.impl.mount.statmounts import read_by_statmount

pytestmark = pytest.mark.machine


def read_lines() -> object:
    """What everybody does, were it only to read it."""
    return Path("/proc/thread-self/mountinfo").read_bytes()


def read_records() -> object:
    """Ours, without what makes a line of mountinfo slow."""
    fields = StatmountMask.SB_BASIC | StatmountMask.MNT_BASIC | StatmountMask.MNT_ROOT | StatmountMask.MNT_POINT
    return read_by_statmount(fields | StatmountMask.FS_TYPE)


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.rule("M4", ours=read_records, wrong=read_lines)
def test_table_of_slaves_is_read_as_fast_as_one_of_peers(place: Path, subject: Callable[[], object]) -> None:
    """Where mounts are slaves of a group of 1,500 the table takes no longer than in the namespace that owns them."""
    try:
        read_records()
    except OSError as error:
        if error.errno == errno.ENOSYS:
            pytest.skip("this kernel has no statmount (Linux 6.8)")
        raise
    mount.mount("source", place / "a", "tmpfs", "shared")
    for number in range(1500):
        target = f"{place}/{number}"
        os.mkdir(target)
        calls.mount(f"{place}/a", target, None, MountFlag.BIND)
    owner = seconds_of(subject)
    with Namespace(propagation="rslave"):
        slave = seconds_of(subject)
    assert slave < 1.5 * owner


def remount_with_what_was_asked(source: Path, target: Path) -> None:
    """What dropped the flags of the source."""
    calls.mount(source, target, None, MountFlag.BIND)
    calls.mount(None, target, None, MountFlag.REMOUNT | MountFlag.BIND | MountFlag.RDONLY)


def bind_read_only(source: Path, target: Path) -> None:
    """Ours."""
    mount.mount(source, target, "none", "bind,ro")


@pytest.mark.rule("M5", ours=bind_read_only, wrong=remount_with_what_was_asked)
def test_read_only_bind_keeps_what_the_source_has(place: Path, subject: Callable[[Path, Path], None]) -> None:
    """nosuid, nodev, noexec and the time of access stay when a bind becomes read-only."""
    mount.mount("source", place / "a", "tmpfs", "nosuid,nodev,noexec,noatime,nodiratime")
    subject(place / "a", place / "b")
    assert MountTable.read().find(place / "b").opts == "ro,nosuid,nodev,noexec,noatime,nodiratime"


def in_user_namespace(work: Callable[[], str]) -> str:
    """Do something as root of a user namespace with a mount namespace of its own, and return what it says."""
    reader, writer = os.pipe()
    go_reader, go_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CloneFlag.NEWUSER | CloneFlag.NEWNS)
            os.write(writer, b"!")
            os.read(go_reader, 1)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"!"
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text("0 0 65536")
    os.write(go_writer, b"!")
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


@pytest.mark.rule("M5")
def test_locked_flags_are_explained(place: Path) -> None:
    """In a user namespace a read-only bind of a nosuid mount works, and clearing a locked flag says which it is."""
    mount.mount("source", place / "a", "tmpfs", "nosuid,nodev")

    def work() -> str:
        mount.mount(place / "a", place / "b", "none", "bind,ro")
        seen = [MountTable.read().find(place / "b").opts]
        attempts: tuple[Callable[[], None], ...] = (
            lambda: mount.remount(place / "a", "bind,suid"),
            lambda: mount.set_attributes(place / "a", clear=MountAttribute.NOSUID),
        )
        for attempt in attempts:
            try:
                attempt()
            except PermissionError as error:
                seen.append(" ".join(error.__notes__))
            except OSError as error:
                seen.append(f"no mount_setattr: {error}" if error.errno == errno.ENOSYS else str(error))
        return "\n".join(seen)

    options, remounted, attributes = in_user_namespace(work).split("\n")
    assert options == "ro,nosuid,nodev,relatime"
    assert "rw,nosuid,nodev,relatime" in remounted
    assert "locked" in remounted
    assert "no mount_setattr" in attributes or ("NOSUID" in attributes and "locked" in attributes)


@pytest.mark.rule("M5")
def test_locked_mounts_below_are_named(place: Path) -> None:
    """A tree that keeps a flag, and a bind that would show what mounts hide, say which mounts below are the reason."""
    if not can_set_attributes():
        pytest.skip("this kernel has no mount_setattr (Linux 5.12 has)")
    mount.mount("source", place / "a", "tmpfs", "")
    for name, options in (("x", ""), ("x/y", "nodev,noatime"), ("z", "")):
        (place / "a" / name).mkdir()
        mount.mount(name, place / "a" / name, "tmpfs", options)
    mount.remount(place / "a/x", "bind,ro")

    def work() -> str:
        attempts: tuple[Callable[[], object], ...] = (
            lambda: mount.set_attributes(place / "a", clear=MountAttribute.RDONLY, recursive=True),
            lambda: mount.set_attributes(place / "a", set=MountAttribute.STRICTATIME, recursive=True),
            lambda: mount.bind(place / "a", place / "b"),
            lambda: mount.DetachedMount.copy(place / "a"),
            lambda: mount.DetachedMount.copy(os.open(place / "a/x", os.O_PATH)),
        )
        seen = []
        for attempt in attempts:
            try:
                attempt()
            except OSError as error:
                seen.append(f"{error.errno} {' '.join(error.__notes__)}")
        mount.bind(place / "a", place / "b", recursive=True)
        return "\n".join(seen)

    attributes, times, *binds = in_user_namespace(work).split("\n")
    assert attributes.startswith(f"{errno.EPERM} ")
    assert f"the mount at '{place}/a/x' has <MountAttribute.RDONLY: 1>" in attributes
    assert f"'{place}/a/z'" not in attributes
    assert f"the mount at '{place}/a/x/y' has <MountAttribute.NOATIME" in times
    assert f"the mount at '{place}/a/z' has another time of access" in times
    for text, names in zip(binds, ("xz", "xz", "y"), strict=True):
        assert text.startswith(f"{errno.EINVAL} ")
        assert [name for name in "xyz" if f"/{name}'" in text] == list(names), text
        assert "only a recursive bind" in text


def test_overlay_of_what_locked_mounts_hide_says_so(place: Path) -> None:
    """In a user namespace a layer with mounts of the host below it is refused, and the error names them."""
    (place / "a/below").mkdir()
    (place / "lower").mkdir()
    mount.mount("below", place / "a/below", "tmpfs", "")

    def work() -> str:
        try:
            mount.mount_overlay([place / "a", place / "lower"]).close()
        except OSError as error:
            return f"{error.errno} {' '.join(error.__notes__)}"
        return "mounted"

    seen = in_user_namespace(work)
    if seen.startswith(f"{errno.EPERM} "):
        pytest.skip("this kernel mounts no overlay in a user namespace (Linux 5.11 does)")
    assert seen.startswith(f"{errno.EINVAL} ")
    assert f"mounted below {place}/a: '{place}/a/below'. What came from" in seen
    assert f"'{place}/lower'" not in seen


def look_then_unmount(target: Path) -> None:
    """What looks at the table first."""
    if mount.classic.mounted(target):
        calls.umount2(target)


def unmount_at_once(target: Path) -> None:
    """Ours."""
    mount.unmount(target)


@pytest.mark.rule("M9", ours=unmount_at_once, wrong=look_then_unmount)
def test_nothing_is_looked_up_before_an_unmount(
    place: Path, monkeypatch: pytest.MonkeyPatch, subject: Callable[[Path], None]
) -> None:
    """The call is made without asking the table, or anything, whether it will succeed."""
    mount.mount("x", place / "a", "tmpfs", "")

    def ask(*_: object, **__: object) -> bool:
        raise AssertionError("something was looked up")

    monkeypatch.setattr(mount, "classic", classic, raising=False)
    monkeypatch.setattr(classic, "mounted", ask)
    monkeypatch.setattr(unmounting, "mounted", ask)
    monkeypatch.setattr(table, "read_mountinfo", ask)
    subject(place / "a")
    monkeypatch.undo()
    assert not mount.is_mount_point(place / "a")


@pytest.mark.rule("M9")
def test_einval_is_no_mount_point_only_if_the_flags_are_right(place: Path) -> None:
    """A combination of flags that the kernel refuses with the same errno is refused before, as what it is."""
    with pytest.raises(mount.OptionError, match="neither lazy nor force"):
        mount.unmount(place / "a", expire=True, lazy=True)
    assert not mount.unmount(place / "a")
    with pytest.raises(OSError, match="Invalid argument"):
        mount.force_unmount(place / "a")


def all_in_one_call(target: Path) -> None:
    """What gives the type of propagation with the mount."""
    calls.mount("x", target, "tmpfs", MountFlag.NOSUID | MountFlag.SHARED)


def one_after_the_other(target: Path) -> None:
    """Ours."""
    mount.mount("x", target, "tmpfs", "nosuid,shared")


@pytest.mark.rule("M10", ours=one_after_the_other, wrong=all_in_one_call, raises=OSError)
def test_propagation_is_a_step_of_its_own(place: Path, subject: Callable[[Path], None]) -> None:
    """A mount that is to be shared is a filesystem, and shared."""
    subject(place / "a")
    found = MountTable.read().find(place / "a")
    assert (found.fstype, bool(found.peer_group)) == ("tmpfs", True)


@pytest.mark.rule("M10")
def test_after_a_mount_the_place_is_opened_anew(place: Path) -> None:
    """Twice mounted in a root at one place: the second is on the first, and both are below the root."""
    with Root(place) as root:
        for source in ("first", "second"):
            mount.mount_in_root(root, "a", source, "tmpfs", "nosuid,private")
        mount.mount_in_root(root, "a", "/etc", None, "bind,ro")
    assert [each.source for each in MountTable.read().at(place / "a")[:2]] == ["first", "second"]
    assert (place / "a/hostname").exists()
    assert "ro" in MountTable.read().find(place / "a").mount_options


def always_lazy(target: Path) -> None:
    """What hides that somebody still uses it."""
    calls.umount2(target, calls.UnmountFlag.DETACH)


@pytest.mark.rule("M15", ours=unmount_at_once, wrong=always_lazy, raises=pytest.fail.Exception)
def test_mount_in_use_is_not_unmounted_in_silence(place: Path, subject: Callable[[Path], None]) -> None:
    """A file is open: the caller is told, and the mount stays."""
    mount.mount("x", place / "a", "tmpfs", "")
    with open(place / "a/file", "w"), pytest.raises(OSError, match="busy"):
        subject(place / "a")
    assert mount.is_mount_point(place / "a")


@pytest.mark.rule("M15")
def test_many_mounts_need_few_descriptors(place: Path) -> None:
    """A plan of 300 mounts is done under a limit of 64 open files, and a failure at its end undoes all of it."""
    specs = [mount.MountSpec(str(place / "a"), f"m/{number:03}", "none", "bind") for number in range(300)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 32, before[1]))
    try:
        with Root(place) as root:
            with pytest.raises(mount.FsContextError):
                mount.perform_mounts(mount.plan_mounts([*specs, mount.MountSpec("x", "z", "tmpfs", "bad=1")]), root)
            assert len(MountTable.read().below(place)) == 1
            mount.perform_mounts(mount.plan_mounts(specs), root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(MountTable.read().below(place)) == 301


def a_tmpfs_for_each(root: Path, paths: Sequence[str]) -> None:
    """What every container did."""
    for path in paths:
        if (root / path).is_dir():
            mount.force_mount("tmpfs", root / path, "tmpfs", "ro,size=0k")
        else:
            mount.bind("/dev/null", root / path)


def one_for_all(root: Path, paths: Sequence[str]) -> None:
    """Ours."""
    with Root(root) as inside:
        assert mount.mask_paths(inside, [*paths, "missing"]) == tuple(paths)


@pytest.mark.rule("M16", ours=one_for_all, wrong=a_tmpfs_for_each)
def test_masks_share_one_filesystem(place: Path, subject: Callable[[Path, Sequence[str]], None]) -> None:
    """Directories are hidden behind one empty read-only tmpfs, files behind the null device."""
    for name in ("a", "b", "c"):
        (place / name).mkdir(exist_ok=True)
        (place / name / "secret").touch()
    (place / "file").write_text("secret")
    subject(place, ["a", "b", "c", "file"])
    assert [os.listdir(place / name) for name in ("a", "b", "c")] == [[], [], []]
    assert (place / "file").read_bytes() == b""
    with pytest.raises(OSError, match="Read-only"):
        (place / "a/new").touch()
    assert len({(place / name).stat().st_dev for name in ("a", "b", "c")}) == 1


@pytest.mark.rule("M16")
def test_masks_are_all_or_none(place: Path) -> None:
    """What is given for the null device must be it; else nothing stays hidden."""
    (place / "file").touch()
    with Root(place) as root, pytest.raises(mount.UnsafePathError, match="not the null device"):
        mount.mask_paths(root, ["a", "file"], null="/dev/zero")
    assert not mount.is_mount_point(place / "a")


@pytest.mark.rule("M15")
def test_masks_need_few_descriptors(place: Path) -> None:
    """Three hundred directories and as many files are hidden with room for 32 descriptors; or none, if one fails."""
    names = [f"{kind}/{number}" for number in range(300) for kind in ("directories", "files")]
    for name in names:
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).mkdir() if name.startswith("d") else (place / name).touch()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 32, before[1]))
    try:
        with Root(place) as root:
            with pytest.raises(OSError, match=r"."):
                mount.mask_paths(root, [*names, "x" * 300])
            assert len(MountTable.read().below(place)) == 1
            assert mount.mask_paths(root, names) == tuple(names)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(MountTable.read().below(place)) == 601


def fall_back_to_the_text(source: Path, target: Path) -> None:
    """What took a refusal of the new API for a reason to try the old one with the same text."""
    try:
        mount.mount_by_new_api(source, target, "none", "bind")
    except OSError:
        mount.force_mount(source, target, "none", "bind")


def by_any_road(source: Path, target: Path) -> None:
    """Ours."""
    mount.mount_by_any_road(source, target, "none", "bind")


@pytest.mark.rule("M17", ours=by_any_road, wrong=fall_back_to_the_text, raises=pytest.fail.Exception)
def test_refusal_of_the_new_api_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, subject: Callable[[Path, Path], None]
) -> None:
    """A step that fails, here the last one, ends in an error, and nothing is mounted by another road."""

    def refused(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(detached, "move_mount", refused)
    with pytest.raises(OSError, match="Invalid argument"):
        subject(place / "a", place / "b")
    assert not mount.is_mount_point(place / "b")


def ask_each_time(paths: Sequence[Path]) -> None:
    """What reads the table for each question."""
    for path in paths:
        table.find_in_text(table.read_mountinfo()[0], path)


def read_once(paths: Sequence[Path]) -> None:
    """Ours."""
    mounts = MountTable.read()
    for path in paths:
        mounts.find(path)


@pytest.mark.rule("M3", ours=read_once, wrong=ask_each_time)
def test_table_is_read_once_and_asked_often(
    place: Path, monkeypatch: pytest.MonkeyPatch, subject: Callable[[Sequence[Path]], None]
) -> None:
    """A hundred questions cost one reading."""
    readings: list[object] = []
    real = table.read_mountinfo

    def count(*arguments: object, **keywords: object) -> tuple[bytes, bool]:
        readings.append(arguments)
        return real(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "read_mountinfo", count)
    subject([place / "a" / str(number) for number in range(100)])
    assert len(readings) == 1
