"""Plans of mounts, filesystem contexts, roads and maps of IDs, as far as no kernel is needed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import FsConfig, MountAttribute, MountFlag
from kernelproof.impl.mount import FsContext, FsContextError, IdRange, OptionError, context, parse_options, roads
from kernelproof.impl.mount.idmapped import check_ranges
from kernelproof.impl.mount.overlays import join_layers, split_layers
from kernelproof.impl.mount.plans import FsOpen, MountSpec, MoveMount, OpenTree, SetAttr, describe_plan, plan_mounts

NONE, NO_FLAGS = MountAttribute(0), MountFlag(0)


# Plans.


def test_plan_of_a_root(tmp_path: Path) -> None:
    """Targets above others come first; a filesystem is made with its attributes, a bind gets them in a step."""
    (tmp_path / "file").touch()
    plan = plan_mounts(
        [
            MountSpec(str(tmp_path), "/proc/inner", "none", "rbind,rro,nodev,rprivate"),
            MountSpec(str(tmp_path / "file"), "etc/hosts", "none", "bind"),
            MountSpec("proc", "/proc", "proc", "nosuid,hidepid=2"),
        ]
    )
    assert plan == (
        OpenTree(str(tmp_path / "file"), False),
        MoveMount("etc/hosts", False),
        FsOpen("proc", "proc", parse_options("nosuid,hidepid=2"), MountAttribute.NOSUID),
        MoveMount("/proc", True),
        OpenTree(str(tmp_path), True),
        SetAttr(MountAttribute.NODEV, NONE, NO_FLAGS, False),
        SetAttr(MountAttribute.RDONLY, NONE, NO_FLAGS, True),
        SetAttr(NONE, NONE, MountFlag.PRIVATE, True),
        MoveMount("/proc/inner", True),
    )
    assert describe_plan(plan[2:], "/root").splitlines() == [
        "below /root:",
        "1. fsopen proc from 'proc' with hidepid=2, NOSUID",
        "2. move_mount to '/proc', a directory",
        f"3. open_tree {str(tmp_path)!r} and all below it",
        "4. mount_setattr: set NODEV",
        "5. mount_setattr: set RDONLY, recursive",
        "6. mount_setattr: make PRIVATE, recursive",
        "7. move_mount to '/proc/inner', a directory",
    ]


def test_plans_that_can_not_be(tmp_path: Path) -> None:
    """Two mounts at one place, a change of what is there, and a source that is missing are refused while planning."""
    for options in ("remount", "move"):
        with pytest.raises(OptionError, match="neither remounts nor moves"):
            plan_mounts([MountSpec("a", "/b", "none", options)])
    with pytest.raises(OptionError, match=r"two mounts at './b/': 'x' and 'y'"):
        plan_mounts([MountSpec("x", "/b", "tmpfs"), MountSpec("y", "./b/", "tmpfs")])
    with pytest.raises(FileNotFoundError):
        plan_mounts([MountSpec(str(tmp_path / "none"), "/b", "none", "bind")])


# Filesystem contexts.


class Filesystem:
    """Takes options in place of a kernel's; refuses one if told to, and says why."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.refused = ""
        self.messages: list[bytes] = []
        monkeypatch.setattr(context, "fsopen", lambda fstype: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        monkeypatch.setattr(context, "fsconfig", self._configure)
        monkeypatch.setattr(os, "read", self._read)

    def _configure(self, fd: int, command: FsConfig, key: str | None, value: object, aux: int) -> None:
        self.calls.append((command.name, key, value))
        if self.refused and self.refused in (key, command.name):
            raise OSError(errno.EINVAL, "Invalid argument")

    def _read(self, fd: int, size: int) -> bytes:
        if self.messages:
            return self.messages.pop(0)
        raise OSError(errno.ENODATA, "No data available")


@pytest.fixture
def filesystem(monkeypatch: pytest.MonkeyPatch) -> Filesystem:
    """A filesystem that takes all."""
    return Filesystem(monkeypatch)


def test_options_one_by_one(filesystem: Filesystem) -> None:
    """Words of the superblock are flags, others have a value or none; quotes round a value are not part of it."""
    options = 'ro,async,nosuid,size=64m,noswap,lower="/a,b",quote=",mode=,huge'
    with FsContext("tmpfs", source="scratch") as made:
        assert made.set_options(options) is made
        assert made.source == "scratch"
        assert made.create() is made
    assert filesystem.calls == [
        ("SET_STRING", "source", "scratch"),
        ("SET_FLAG", "ro", None),
        ("SET_FLAG", "async", None),
        ("SET_STRING", "size", "64m"),
        ("SET_FLAG", "noswap", None),
        ("SET_STRING", "lower", "/a,b"),
        ("SET_STRING", "quote", '",mode=,huge'),
        ("CMD_CREATE", None, None),
    ]  # fmt: skip


def test_refusal_has_the_words_of_the_filesystem(filesystem: Filesystem) -> None:
    """An error names the step and the option, and has what the filesystem said, now and before, each with its level."""
    filesystem.refused = "size"
    filesystem.messages = [b"w tmpfs: odd\n", b"e tmpfs: Bad value for 'size'\n", b"no level"]
    with FsContext("tmpfs", source="/nonexistent/source") as made:
        with pytest.raises(FsContextError) as error:
            made.set_options("size=x,mode=755")
        assert [(line, line.level) for line in made.log] == [
            ("tmpfs: odd", "warning"), ("tmpfs: Bad value for 'size'", "error"), ("no level", "info"),
        ]  # fmt: skip
    assert (error.value.errno, error.value.option, error.value.step) == (errno.EINVAL, "size", "set_string size")
    assert error.value.__notes__ == [
        "set_string size of tmpfs from '/nonexistent/source'",
        "warning: tmpfs: odd",
        "error: tmpfs: Bad value for 'size'",
        "info: no level",
        "the source does not exist: '/nonexistent/source'",
    ]
    assert len(filesystem.calls) == 2  # nothing after the option that was refused


def test_context_is_closed(filesystem: Filesystem) -> None:
    """A context is closed at the end of its block, when its source is refused, and once."""
    before = len(os.listdir("/dev/fd"))
    with FsContext("tmpfs") as made:
        assert made.fileno() >= 0
    assert made.fileno() == -1
    made.close()
    assert made.fileno() == -1
    filesystem.refused = "source"
    with pytest.raises(FsContextError):
        FsContext("tmpfs", source="x")
    assert len(os.listdir("/dev/fd")) == before


def test_options_that_are_no_filesystem_s(filesystem: Filesystem) -> None:
    """What binds, moves or remounts, and a value that would be cut, are refused before any call."""
    with FsContext("tmpfs") as made:
        for options in ("bind", "move", "remount", "o=" + "x" * 256):
            with pytest.raises(OptionError):
                made.set_options(options)
        assert filesystem.calls == []
        made.set_string("o", "x" * 255)


# Overlays.


def test_kernel_that_takes_no_layers_one_by_one(
    filesystem: Filesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that does not know the option for one layer gets all of them in one text."""
    monkeypatch.setattr(context, "fsmount", lambda fd, attributes: os.open(os.devnull, os.O_RDONLY))
    filesystem.refused = "lowerdir+"
    filesystem.messages = [b"e overlay: Unknown parameter 'lowerdir+'\n"]
    layers = [tmp_path / name for name in ("a", "b")]
    mount.mount_overlay(layers).close()
    assert filesystem.calls[-2:] == [
        ("SET_STRING", "lowerdir", f"{tmp_path}/a:{tmp_path}/b"),
        ("CMD_CREATE", None, None),
    ]


LONG = "lowerdir=" + ":".join([r"/a\:b", *(f"/{number:03}" for number in range(90))]) + "::/data"


def test_layers_of_a_long_text_are_given_one_by_one(filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `lowerdir` of more than 255 bytes is taken apart; other options follow as they are, a shorter one is left."""
    monkeypatch.setattr(context, "fsmount", lambda fd, attributes: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(roads, "set_attributes", lambda *_, **__: None)
    mount.mount_detached("o", "overlay", f"ro,nosuid,{LONG},upperdir=/u,workdir=/w,userxattr").close()
    assert filesystem.calls == [
        ("SET_STRING", "source", "o"),
        ("SET_STRING", "lowerdir+", "/a:b"),
        *(("SET_STRING", "lowerdir+", f"/{number:03}") for number in range(90)),
        ("SET_STRING", "datadir+", "/data"),
        ("SET_FLAG", "ro", None),
        ("SET_STRING", "upperdir", "/u"),
        ("SET_STRING", "workdir", "/w"),
        ("SET_FLAG", "userxattr", None),
        ("CMD_CREATE", None, None),
    ]
    filesystem.calls.clear()
    mount.mount_detached("o", "overlay", r"lowerdir=/a\:b:/c").close()
    assert filesystem.calls[1:-1] == [("SET_STRING", "lowerdir", r"/a\:b:/c")]


@pytest.mark.parametrize(
    ("fstype", "options", "refused"), [("overlay", LONG, "lowerdir+"), ("other", "o=" + "x" * 256, "")]
)
def test_value_that_is_too_long_is_left_to_the_classic_call(
    filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch, fstype: str, options: str, refused: str
) -> None:
    """Where a context can't be told a value, that is an error of its own, and mount(2) takes over if it can do all."""
    filesystem.refused = refused
    filesystem.messages = [b"e overlay: Unknown parameter 'lowerdir+'\n"]
    done = []
    monkeypatch.setattr(roads, "force_mount", lambda *arguments: done.append(arguments))
    monkeypatch.setattr(roads, "is_new_api_trusted", lambda: True)
    assert roads.mount_by_any_road("o", "/t", fstype, options) == ("mount", "")
    assert done == [("o", "/t", fstype, parse_options(options))]
    for words in (options, f"rnosuid,{options}"):
        filesystem.messages = [b"e overlay: Unknown parameter 'lowerdir+'\n"]
        with pytest.raises(mount.TooLongError, match="255 bytes"):
            mount.mount_detached("o", fstype, words)
    filesystem.messages = [b"e overlay: Unknown parameter 'lowerdir+'\n"]
    with pytest.raises(mount.TooLongError):
        roads.mount_by_any_road("o", "/t", fstype, f"rnosuid,{options}")


@pytest.mark.parametrize("text", ["", ":", "/a:", ":/a", "::/a", "/a::", "/a::/b:/c", "/a:::/b", "/a::/b::"])
def test_layers_that_are_none(text: str) -> None:
    """A layer without a name, and a lower one after those that are data-only, are refused."""
    with pytest.raises(OptionError, match="separated by a colon"):
        split_layers(text)


def test_layers_in_one_text(tmp_path: Path) -> None:
    """Layers stand by their names as long as these fit; by descriptors else, and where a comma would end the option."""
    names = [str(tmp_path / name) for name in ("one", "two", "a,b")]
    for name in names:
        os.mkdir(name)
    text = ":".join(names[:2])
    with ExitStack() as opened:
        assert join_layers(names[:2], opened, len(text)) == text
        for layers in (names[:2], names[2:]):
            joined = join_layers(layers, opened, len(text) - 1)
            assert joined.startswith("/proc/self/fd/")
            for name, layer in zip(joined.split(":"), layers, strict=True):
                assert os.path.samefile(name, layer)


# Roads.


@pytest.mark.parametrize(
    ("source", "fstype", "options", "said"),
    [
        (None, "none", "bind", "bind needs a source"),
        ("x", None, "ro", "needs a type"),
        (5, "tmpfs", "", "its source by name"),
        ("x", "tmpfs", "remount", "neither remount nor move"),
    ],
    ids=["no source", "no type", "descriptor", "remount"],
)
def test_what_makes_no_mount(source: str | int | None, fstype: str | None, options: str, said: str) -> None:
    """What can't be meant is refused before the kernel is asked."""
    with pytest.raises(OptionError, match=said):
        mount.mount_detached(source, fstype, options)


@pytest.mark.parametrize(
    ("road", "options", "late", "attributes_by"),
    [
        ("open_tree", "bind", False, ""),
        ("open_tree", "bind,ro", False, "mount_setattr"),
        ("open_tree", "bind,rw", True, "remount"),
        ("fsopen", "ro", False, ""),
        ("fsopen", "rro", False, "mount_setattr"),
        ("fsopen", "shared", True, "remount"),
    ],
)
def test_road_that_was_taken(road: str, options: str, late: bool, attributes_by: str) -> None:
    """A new filesystem has its attributes from the start; who set others, and propagation, is told."""
    made = SimpleNamespace(road=road)
    assert roads._road(made, parse_options(options), late) == (road, attributes_by)  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "kept"), [("bind,ro,shared", NONE), ("ro,shared", MountAttribute.RDONLY)])
def test_attributes_that_come_later(monkeypatch: pytest.MonkeyPatch, options: str, kept: MountAttribute) -> None:
    """Without mount_setattr a mount is made with what its maker can set, and the rest is left for a remount."""
    asked = []

    def detached(source: object, fstype: object, wanted: mount.Options) -> None:
        asked.append(wanted)
        if len(asked) == 1:
            raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(roads, "mount_detached", detached)
    monkeypatch.setattr(roads, "is_new_api_trusted", lambda: True)
    wanted = parse_options(options)
    assert roads.make("a", "tmpfs", wanted)[1]
    assert asked == [wanted, wanted._replace(attributes_set=kept, attributes_cleared=NONE, propagation=())]


@pytest.mark.parametrize(
    ("number", "options", "trusted"),
    [(errno.EPERM, "ro", True), (errno.ENOSYS, "rro", True), (errno.ENOSYS, "ro", False)],
    ids=["other error", "recursive", "old kernel"],
)
def test_no_second_try(monkeypatch: pytest.MonkeyPatch, number: int, options: str, trusted: bool) -> None:
    """A refusal, attributes of a tree, and a kernel whose calls are not trusted leave no other road."""

    def detached(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(roads, "mount_detached", detached)
    monkeypatch.setattr(roads, "is_new_api_trusted", lambda: trusted)
    with pytest.raises(OSError, match=os.strerror(number)):
        roads.make("a", "tmpfs", parse_options(options))


# Maps of IDs, and words of records.


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([], "0 ranges, 1 to 340"),
        ([IdRange(number, number, 1) for number in range(341)], "341 ranges"),
        ([IdRange(0, 0, 0)], "is empty"),
        ([IdRange(-1, 0, 1)], "is empty, or leaves"),
        ([IdRange(0, 2**32 - 1, 1)], "leaves 0 to 4294967294"),
        ([IdRange(2**32 - 2, 0, 2)], "leaves 0 to 4294967294"),
        ([IdRange(5, 100, 5), IdRange(0, 200, 6)], "overlap"),
        ([IdRange(0, 205, 5), IdRange(5, 200, 6)], "overlap"),
    ],
    ids=["none", "many", "empty", "negative", "no ID", "beyond", "on the filesystem", "through the mount"],
)
def test_maps_that_are_none(ranges: list[IdRange], said: str) -> None:
    """Where the kernel says EINVAL and no more, the range and the reason are told."""
    with pytest.raises(OptionError, match=said):
        check_ranges(ranges)


def test_maps_that_touch() -> None:
    """Ranges may touch on both sides, in any order, up to the last ID and the last range."""
    check_ranges([IdRange(5, 100, 5), IdRange(0, 105, 5), IdRange(2**32 - 2, 0, 1)])
    check_ranges([IdRange(number, number, 1) for number in range(340)])


@pytest.mark.parametrize(
    ("fstype", "subtype"), [("ext4", None), ("fuse.sshfs", "sshfs"), ("fuse.a.b", "a.b"), ("fuse.", None)]
)
def test_subtypes(make_mount: Callable[[str], mount.Mount], fstype: str, subtype: str | None) -> None:
    """What stands behind the first dot of a type is its subtype."""
    assert make_mount(fstype).subtype == subtype


@pytest.fixture
def make_mount() -> Callable[[str], mount.Mount]:
    """Makes a mount of a type."""
    return lambda fstype: mount.parse_mountinfo(f"1 0 0:1 / / rw - {fstype} x rw\n").mounts[0]
