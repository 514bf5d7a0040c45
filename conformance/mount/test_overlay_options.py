"""overlayfs: layers and options that are taken, and those that are refused."""

from __future__ import annotations

import mmap
import os
import re
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.mount.overlays import Overlay, xattrs
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls

if TYPE_CHECKING:
    from kernelproof.conformance.mount.conftest import LineAt, Refusal
    from kernelproof.conformance.seen import Seen


def refused_data(overlay: Overlay, refusal: Refusal, seen: Seen, *options: str) -> str:
    """How options are refused, by the library and, recorded, by mount(2); without them the same layers are taken."""
    by_library = refusal(overlay.mount, *options)
    by_call = seen.errno_of(calls.mount, "overlay", overlay.merged, "overlay", 0, overlay.data(*options))
    assert by_library == by_call
    assert not options or refusal(overlay.mount) == "no error"
    return by_call


@behaviour("mount.overlay.metacopy-conflict-einval", subject="impl")
def test_metacopy_without_redirect(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """metacopy=on needs redirect_dir."""
    assert refused_data(overlay, refusal, seen, "metacopy=on", "redirect_dir=off") == "EINVAL"


@behaviour("mount.overlay.metacopy-nfs-export-conflict", subject="impl")
def test_metacopy_with_nfs_export(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """metacopy=on and nfs_export=on exclude each other."""
    assert refused_data(overlay, refusal, seen, "metacopy=on", "nfs_export=on") == "EINVAL"


@behaviour("mount.overlay.index-nfs-export-conflict", subject="impl")
def test_nfs_export_without_index(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """nfs_export=on needs the index."""
    assert refused_data(overlay, refusal, seen, "index=off", "nfs_export=on") == "EINVAL"


@behaviour("mount.overlay.no-upper-is-readonly", subject="impl")
def test_without_upper(overlay: Overlay, seen: Seen) -> None:
    """An overlay of lower layers alone can't be written."""
    with mount.mount_overlay([overlay.lower, overlay.second]) as made:
        made.attach(overlay.merged)
    assert mount.mount_of(overlay.merged).fstype == "overlay"
    assert seen.errno_of((overlay.merged / "file").touch) == "EROFS"


@behaviour("mount.overlay.lower-order", subject="impl")
def test_order_of_layers(overlay: Overlay, seen: Seen) -> None:
    """Of two lower layers the first is on top."""
    for layer in (overlay.lower, overlay.second):
        (layer / "file").write_text(layer.name)
    calls.mount("overlay", overlay.merged, "overlay", 0, f"lowerdir={overlay.second}:{overlay.lower}")
    assert seen((overlay.merged / "file").read_text()) == "second"
    mount.unmount(overlay.merged)
    with mount.mount_overlay([overlay.lower, overlay.second]) as made:
        made.attach(overlay.merged)
    assert (overlay.merged / "file").read_text() == "lower"


@behaviour("mount.overlay.workdir-same-fs", subject="impl")
def test_work_directory_elsewhere(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """Upper and work directory must be on one filesystem."""
    mount.mount("elsewhere", overlay.work, "tmpfs", "")
    assert refused_data(overlay, refusal, seen) == "EINVAL"


@behaviour("mount.overlay.upper-in-use-ebusy", subject="impl")
def test_upper_in_use(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """With index=on the upper directory of a mounted overlay is refused to a second one."""
    overlay.mount("index=on")
    (overlay.tree / "other").mkdir()
    (overlay.tree / "place").mkdir()
    other = overlay.tree / "other"
    again = refusal(mount.mount_overlay, [overlay.lower], upper=overlay.upper, work=other, options=["index=on"])
    assert again == "EBUSY"
    data = f"lowerdir={overlay.lower},upperdir={overlay.upper},workdir={overlay.tree}/other,index=on"
    assert seen.errno_of(calls.mount, "overlay", overlay.tree / "place", "overlay", 0, data) == "EBUSY"


@behaviour("mount.overlay.lower-shared", subject="impl")
def test_lower_is_shared(overlay: Overlay, seen: Seen) -> None:
    """Two overlays have one lower layer."""
    (overlay.lower / "file").write_text("both")
    for name in ("upper2", "work2", "merged2"):
        (overlay.tree / name).mkdir()
    overlay.mount()
    second = overlay.tree / "merged2"
    upper, work = overlay.tree / "upper2", overlay.tree / "work2"
    with mount.mount_overlay([overlay.lower], upper=upper, work=work) as made:
        made.attach(second)
    (second / "file").write_text("mine")
    assert seen([(path / "file").read_text() for path in (overlay.merged, second)]) == ["both", "mine"]


@behaviour("mount.overlay.colon-escape", subject="impl")
def test_colon_is_escaped(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """A colon in a layer's name is written with a backslash; without it two layers are named."""
    layer = overlay.tree / "a:b"
    layer.mkdir()
    (layer / "file").write_text("escaped")
    plain = f"lowerdir={layer}:{overlay.second}"
    assert refusal(calls.mount, "overlay", overlay.merged, "overlay", 0, plain) != "no error"
    calls.mount("overlay", overlay.merged, "overlay", 0, plain.replace("a:b", "a\\:b"))
    assert seen((overlay.merged / "file").read_text()) == "escaped"


@behaviour("mount.overlay.lowerdir-plus", subject="impl")
def test_layers_one_by_one(overlay: Overlay, seen: Seen) -> None:
    """Each "lowerdir+" is a layer below those before."""
    for layer in (overlay.lower, overlay.second):
        (layer / "file").write_text(layer.name)
        (layer / layer.name).touch()
    with mount.FsContext("overlay") as context:
        context.set_string("lowerdir+", str(overlay.second)).set_string("lowerdir+", str(overlay.lower))
        with context.create().mount() as made:
            made.attach(overlay.merged)
    assert sorted(os.listdir(overlay.merged)) == ["file", "lower", "second"]
    assert seen((overlay.merged / "file").read_text()) == "second"


@behaviour("mount.overlay.lowerdir-plus-colon-literal", subject="impl")
def test_colon_in_a_layer_of_its_own(overlay: Overlay, seen: Seen) -> None:
    """A colon in the value of "lowerdir+" is part of the name."""
    layer = overlay.tree / "a:b"
    layer.mkdir()
    (layer / "file").write_text("literal")
    with mount.FsContext("overlay") as context:
        context.set_string("lowerdir+", str(layer)).set_string("lowerdir+", str(overlay.second))
        with context.create().mount() as made:
            made.attach(overlay.merged)
    assert seen((overlay.merged / "file").read_text()) == "literal"


@behaviour("mount.overlay.volatile-refuses-remount", subject="impl")
def test_volatile_leaves_a_mark(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """After a volatile mount the directories are refused until the mark is removed."""
    overlay.mount("volatile")
    mount.unmount(overlay.merged)
    mark = overlay.work / "work/incompat/volatile"
    assert mark.is_dir()
    answers = [refusal(calls.mount, "overlay", overlay.merged, "overlay", 0, overlay.data())]
    for path in (mark / "dirty", mark, mark.parent):
        if path.is_dir():
            path.rmdir()
        elif path.exists():
            path.unlink()
    answers.append(refusal(overlay.mount))
    assert seen(answers) == ["EINVAL", "no error"]


@behaviour("mount.overlay.userxattr", subject="impl")
def test_marks_of_users(overlay: Overlay, seen: Seen) -> None:
    """With userxattr the marks are user attributes, and no trusted ones."""
    # On a filesystem that has both kinds.
    (overlay.lower / "dir").mkdir()
    (overlay.lower / "dir/file").touch()
    with mount.mount_overlay([overlay.lower], upper=overlay.upper, work=overlay.work, userxattr=True) as made:
        made.attach(overlay.merged)
    (overlay.merged / "dir/file").unlink()
    (overlay.merged / "dir").rmdir()
    (overlay.merged / "dir").mkdir()
    names = xattrs(overlay.upper / "dir")
    assert "user.overlay.opaque" in names
    assert seen([name for name in names if name.startswith("trusted.overlay.opaque")]) == []


@behaviour("mount.overlay.atime-lower-not-updated", subject="impl")
def test_lower_access_time_stays(overlay: Overlay, seen: Seen) -> None:
    """A read through the overlay leaves the lower file's time of access."""
    (overlay.lower / "file").write_text("x")
    os.utime(overlay.lower / "file", (1000, 2000))
    overlay.mount()
    assert (overlay.merged / "file").read_text() == "x"
    assert seen(int((overlay.lower / "file").stat().st_atime)) == 1000


@behaviour("mount.overlay.readonly-fd-not-refreshed", subject="impl")
def test_old_map_shows_no_change(overlay: Overlay, seen: Seen) -> None:
    """What was mapped before the copy-up does not show what is written after it."""
    (overlay.lower / "file").write_text("before")
    overlay.mount()
    with open(overlay.merged / "file", "rb") as file:
        shown = mmap.mmap(file.fileno(), 6, mmap.MAP_SHARED, mmap.PROT_READ)
        (overlay.merged / "file").write_text("after!")
        assert (overlay.merged / "file").read_text() == "after!"
        assert seen(bytes(shown)) == b"before"
        shown.close()


@behaviour("mount.overlay.st-dev-uniform", subject="impl")
def test_one_device(overlay: Overlay, line_at: LineAt, seen: Seen) -> None:
    """With all layers on one filesystem everything has the overlay's device number."""
    (overlay.lower / "dir").mkdir()
    (overlay.lower / "dir/file").touch()
    (overlay.upper / "other").touch()
    overlay.mount()
    names = (".", "dir", "dir/file", "other")
    numbers = {(overlay.merged / name).stat().st_dev for name in names}
    assert line_at(overlay.merged).fstype == "overlay"
    assert numbers != {overlay.tree.stat().st_dev}
    assert len(seen(numbers)) == 1


@behaviour("mount.overlay.metacopy-xattr", subject="impl")
def test_metacopy(overlay: Overlay, seen: Seen) -> None:
    """With metacopy=on a change of the mode copies no data, and marks the upper file."""
    (overlay.lower / "file").write_text("content")
    overlay.mount("metacopy=on")
    (overlay.merged / "file").chmod(0o600)
    assert (overlay.upper / "file").stat().st_blocks == 0
    assert (overlay.merged / "file").read_text() == "content"
    names = [name for name in os.listxattr(overlay.upper / "file") if name.endswith(".metacopy")]
    assert seen(names) == ["trusted.overlayfs.metacopy"]


@behaviour("mount.overlay.workdir-must-be-empty", subject="impl")
def test_work_directory_with_a_file(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """A work directory with something in it is refused."""
    (overlay.work / "file").touch()
    by_library = refusal(overlay.mount)
    mount.unmount_recursive(overlay.merged)
    assert seen.errno_of(calls.mount, "overlay", overlay.merged, "overlay", 0, overlay.data()) != "no error"
    assert by_library != "no error"


@behaviour("mount.overlay.lowerdir-plus-colon-shown", subject="impl")
def test_colon_as_it_is_shown(overlay: Overlay, seen: Seen) -> None:
    """A colon in a layer given by "lowerdir+" is shown as \\072."""
    layer = overlay.tree / "a:b"
    layer.mkdir()
    with mount.mount_overlay([layer, overlay.second]) as made:
        made.attach(overlay.merged)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        (line,) = [line for line in file if f" {overlay.merged} " in line]
    shown = re.search(r"/a([^a-z/]+)b", line.split(" - ")[1])
    assert shown is not None
    assert seen(shown[1]) == "\\072"
