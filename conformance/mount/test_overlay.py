"""overlayfs: what is seen of layers, and what is copied up."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.mount.overlays import Overlay, xattrs

if TYPE_CHECKING:
    from kernelproof.conformance.mount.conftest import Refusal
    from kernelproof.conformance.seen import Seen


@behaviour("mount.overlay.upper-hides-lower-file", subject="impl")
def test_upper_hides_lower(overlay: Overlay, seen: Seen) -> None:
    """A file of both layers is the upper one."""
    (overlay.lower / "file").write_text("lower")
    (overlay.upper / "file").write_text("upper")
    overlay.mount()
    assert seen((overlay.merged / "file").read_text()) == "upper"


@behaviour("mount.overlay.directories-merge", subject="impl")
def test_directories_merge(overlay: Overlay, seen: Seen) -> None:
    """A directory of both layers has the names of both."""
    for layer, name in ((overlay.lower, "one"), (overlay.upper, "two")):
        (layer / "dir").mkdir()
        (layer / "dir" / name).touch()
    overlay.mount()
    assert seen(sorted(os.listdir(overlay.merged / "dir"))) == ["one", "two"]


@behaviour("mount.overlay.upper-file-hides-lower-dir", subject="impl")
def test_file_hides_a_directory(overlay: Overlay, seen: Seen) -> None:
    """A file of the upper layer hides a directory of the lower one."""
    (overlay.lower / "name/dir").mkdir(parents=True)
    (overlay.upper / "name").write_text("file")
    overlay.mount()
    assert seen((overlay.merged / "name").read_text()) == "file"


@behaviour("mount.overlay.whiteout-device", subject="impl")
def test_removal_is_a_device(overlay: Overlay, seen: Seen) -> None:
    """A file that is removed stays in the lower layer, and is a device 0/0 in the upper one."""
    (overlay.lower / "file").write_text("lower")
    overlay.mount()
    (overlay.merged / "file").unlink()
    status = (overlay.upper / "file").lstat()
    assert (overlay.lower / "file").read_text() == "lower"
    assert seen([stat.S_ISCHR(status.st_mode), status.st_rdev]) == [True, 0]


@behaviour("mount.overlay.whiteout-hidden", subject="impl")
def test_device_hides(overlay: Overlay, seen: Seen) -> None:
    """A device 0/0 in the upper layer is not listed and hides the lower name."""
    (overlay.lower / "file").touch()
    (overlay.lower / "other").touch()
    os.mknod(overlay.upper / "file", 0o600 | stat.S_IFCHR, 0)
    overlay.mount()
    assert seen([os.listdir(overlay.merged), (overlay.merged / "file").exists()]) == [["other"], False]


def make_anew(overlay: Overlay, *options: str) -> None:
    """Remove a directory of the lower layer and make it again."""
    (overlay.lower / "dir").mkdir()
    (overlay.lower / "dir/file").touch()
    overlay.mount(*options)
    (overlay.merged / "dir/file").unlink()
    (overlay.merged / "dir").rmdir()
    (overlay.merged / "dir").mkdir()


@behaviour("mount.overlay.opaque-xattr", subject="impl")
def test_opaque_attribute(overlay: Overlay, seen: Seen) -> None:
    """A directory that was made anew has trusted.overlay.opaque "y" in the upper layer."""
    make_anew(overlay)
    assert seen(os.getxattr(overlay.upper / "dir", "trusted.overlay.opaque")) == b"y"


@behaviour("mount.overlay.opaque-hides-lower", subject="impl")
def test_opaque_directory_is_empty(overlay: Overlay, seen: Seen) -> None:
    """A directory that was made anew is empty."""
    make_anew(overlay)
    assert os.listdir(overlay.lower / "dir") == ["file"]
    assert seen(os.listdir(overlay.merged / "dir")) == []


@behaviour("mount.overlay.xattr-hidden", subject="impl")
def test_own_attributes_are_hidden(overlay: Overlay, seen: Seen) -> None:
    """The attributes that the overlay keeps in a layer are not seen through it."""
    make_anew(overlay)
    assert "trusted.overlay.opaque" in xattrs(overlay.upper / "dir")
    assert seen(xattrs(overlay.merged / "dir")) == []


@behaviour("mount.overlay.copy-up-on-write", subject="impl")
def test_write_copies_up(overlay: Overlay, seen: Seen) -> None:
    """Opening for writing copies a lower file up, which stays as it was."""
    (overlay.lower / "file").write_text("lower")
    overlay.mount()
    fd = os.open(overlay.merged / "file", os.O_WRONLY)
    texts = [(overlay.upper / "file").read_text()]
    os.write(fd, b"UP")
    os.close(fd)
    texts += [(layer / "file").read_text() for layer in (overlay.lower, overlay.merged)]
    assert seen(texts) == ["lower", "lower", "UPwer"]


@behaviour("mount.overlay.copy-up-on-chmod", subject="impl")
def test_chmod_copies_up(overlay: Overlay, seen: Seen) -> None:
    """A change of the mode copies the whole file when metacopy is off."""
    (overlay.lower / "file").write_text("content")
    overlay.mount("metacopy=off")
    (overlay.merged / "file").chmod(0o600)
    assert xattrs(overlay.upper / "file") in ([], ["trusted.overlay.origin"])
    assert seen((overlay.upper / "file").read_text()) == "content"


@behaviour("mount.overlay.copy-up-on-link", subject="impl")
def test_link_copies_up(overlay: Overlay, seen: Seen) -> None:
    """A hard link copies a lower file up."""
    (overlay.lower / "file").write_text("content")
    overlay.mount()
    os.link(overlay.merged / "file", overlay.merged / "link")
    assert seen([(overlay.upper / name).read_text() for name in ("file", "link")]) == ["content", "content"]


@behaviour("mount.overlay.copy-up-breaks-hardlinks", subject="impl")
def test_links_are_broken(overlay: Overlay, seen: Seen) -> None:
    """With index=off a write to one of two names of a lower file does not reach the other."""
    (overlay.lower / "one").write_text("before")
    os.link(overlay.lower / "one", overlay.lower / "two")
    overlay.mount("index=off")
    (overlay.merged / "one").write_text("after")
    assert seen([(overlay.merged / name).read_text() for name in ("one", "two")]) == ["after", "before"]


@behaviour("mount.overlay.rename-lower-dir-exdev", subject="impl")
def test_rename_of_a_directory(overlay: Overlay, refusal: Refusal, seen: Seen) -> None:
    """With redirect_dir=off a lower directory can't be renamed, a new one can."""
    (overlay.lower / "dir").mkdir()
    overlay.mount("redirect_dir=off")
    (overlay.merged / "new").mkdir()
    assert refusal(os.rename, overlay.merged / "new", overlay.merged / "newer") == "no error"
    assert seen.errno_of(os.rename, overlay.merged / "dir", overlay.merged / "other") == "EXDEV"


@behaviour("mount.overlay.redirect-xattr", subject="impl")
def test_redirect(overlay: Overlay, seen: Seen) -> None:
    """With redirect_dir=on a lower directory is renamed, and the upper one says where it was."""
    (overlay.lower / "dir").mkdir()
    (overlay.lower / "dir/file").touch()
    overlay.mount("redirect_dir=on")
    os.rename(overlay.merged / "dir", overlay.merged / "other")
    assert os.listdir(overlay.merged / "other") == ["file"]
    assert seen(os.getxattr(overlay.upper / "other", "trusted.overlay.redirect")) == b"dir"


@behaviour("mount.overlay.metacopy-removed-on-write", subject="impl")
def test_metacopy_ends_with_a_write(overlay: Overlay, seen: Seen) -> None:
    """A file of which only the metadata was copied gets its data, and loses the mark, when it is opened for writing."""
    (overlay.lower / "file").write_text("content")
    overlay.mount("metacopy=on")
    (overlay.merged / "file").chmod(0o600)
    mark = [name for name in xattrs(overlay.upper / "file") if name.endswith("metacopy")]
    assert len(mark) == 1
    os.close(os.open(overlay.merged / "file", os.O_WRONLY))
    assert (overlay.upper / "file").read_text() == "content"
    assert mark[0] not in seen(xattrs(overlay.upper / "file"))
