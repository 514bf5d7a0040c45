"""overlayfs: layers by descriptor, data-only layers, other credentials, and layers and overlays with mapped IDs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.capabilities import capget, capset
from kernelproof.impl._syscalls.mount import AT_FDCWD, FsConfig, MoveMountFlag
from kernelproof.impl.mount import DetachedMount, IdRange, open_user_namespace

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import LineAt
    from kernelproof.conformance.mount.overlays import Overlay
    from kernelproof.conformance.seen import Seen

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
SHIFT = [IdRange(0, 100000, 1000)]


def begin() -> int:
    """A context of an overlay."""
    return calls.fsopen("overlay")


def finish(context: int, place: Path) -> None:
    """Create what a context says and attach it."""
    calls.fsconfig(context, FsConfig.CMD_CREATE)
    made = calls.fsmount(context)
    calls.move_mount(made, "", AT_FDCWD, place, MoveMountFlag.F_EMPTY_PATH)


def set_layer(context: int, key: str, path: Path) -> None:
    """Give a layer by descriptor."""
    calls.fsconfig(context, FsConfig.SET_FD, key, None, os.open(path, os.O_RDONLY | os.O_DIRECTORY))


@behaviour("mount.overlay.layers-by-fd")
def test_layers_by_descriptor(overlay: Overlay, line_at: LineAt, seen: Seen) -> None:
    """Lower layers, upper and work directory are taken by FSCONFIG_SET_FD, the first lower one on top."""
    for layer in (overlay.lower, overlay.second):
        (layer / "file").write_text(layer.name)
    context = begin()
    for key, path in (("lowerdir+", overlay.second), ("lowerdir+", overlay.lower)):
        set_layer(context, key, path)
    set_layer(context, "upperdir", overlay.upper)
    set_layer(context, "workdir", overlay.work)
    finish(context, overlay.merged)
    assert line_at(overlay.merged).fstype == "overlay"
    assert seen((overlay.merged / "file").read_text()) == "second"
    (overlay.merged / "new").touch()
    assert (overlay.upper / "new").exists()


@behaviour("mount.overlay.layers-by-fd-before-6-13")
def test_layers_by_descriptor_on_an_older_kernel(overlay: Overlay, seen: Seen) -> None:
    """A kernel that takes no layers by descriptor refuses FSCONFIG_SET_FD: EINVAL."""
    assert seen.errno_of(set_layer, begin(), "lowerdir+", overlay.lower) == "EINVAL"


def put_data_below(overlay: Overlay) -> None:
    """A file of the lower layer that has only a size, and its data in the second layer."""
    (overlay.second / "data").write_text("from below")
    file = overlay.lower / "file"
    file.touch()
    os.truncate(file, len("from below"))
    os.setxattr(file, "trusted.overlay.metacopy", b"")
    os.setxattr(file, "trusted.overlay.redirect", b"/data")


@behaviour("mount.overlay.data-only")
def test_data_only_layer(overlay: Overlay, seen: Seen) -> None:
    """What is behind "::" gives its data to a file that points there, and is seen nowhere itself."""
    put_data_below(overlay)
    calls.mount("overlay", overlay.merged, "overlay", 0, f"lowerdir={overlay.lower}::{overlay.second},metacopy=on")
    assert os.listdir(overlay.merged) == ["file"]
    assert seen((overlay.merged / "file").read_text()) == "from below"


@behaviour("mount.overlay.data-only-before-6-5")
def test_data_only_layer_on_an_older_kernel(overlay: Overlay, seen: Seen) -> None:
    """A kernel without data-only layers takes "::" for an empty name of a layer, and refuses it."""
    data = f"lowerdir={overlay.lower}::{overlay.second},metacopy=on"
    assert seen.errno_of(calls.mount, "overlay", overlay.merged, "overlay", 0, data) == "EINVAL"


@behaviour("mount.overlay.datadir-plus")
def test_data_only_layer_by_option(overlay: Overlay, seen: Seen) -> None:
    """datadir+ adds a data-only layer in the new mount API."""
    put_data_below(overlay)
    context = begin()
    for key, value in (("metacopy", "on"), ("lowerdir+", overlay.lower), ("datadir+", overlay.second)):
        calls.fsconfig(context, FsConfig.SET_STRING, key, value)
    finish(context, overlay.merged)
    assert os.listdir(overlay.merged) == ["file"]
    assert seen((overlay.merged / "file").read_text()) == "from below"


@behaviour("mount.overlay.data-only-without-metacopy")
def test_data_only_layer_alone(overlay: Overlay, seen: Seen) -> None:
    """A data-only layer needs no metacopy=on beside it."""
    put_data_below(overlay)
    calls.mount("overlay", overlay.merged, "overlay", 0, f"lowerdir={overlay.lower}::{overlay.second},metacopy=off")
    assert seen((overlay.merged / "file").read_text()) == "from below"


@behaviour("mount.overlay.override-creds")
def test_credentials_of_the_one_who_said_it(overlay: Overlay, in_child: InChild, seen: Seen) -> None:
    """What the process that set override_creds may not read, nobody reads through the overlay; the rest is read."""
    for name, mode in (("secret", 0o600), ("public", 0o644)):
        (overlay.lower / name).write_text("words")
        (overlay.lower / name).chmod(mode)
        os.chown(overlay.lower / name, 1000, 1000)
    for path in (overlay.lower, overlay.second):
        path.chmod(0o755)
    context = begin()
    for path in (overlay.lower, overlay.second):
        calls.fsconfig(context, FsConfig.SET_STRING, "lowerdir+", path)

    def say_it_with_less() -> None:
        effective, permitted, inheritable = capget()
        less = permitted & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
        capset(effective & less, less, inheritable)
        calls.fsconfig(context, FsConfig.SET_FLAG, "override_creds")

    in_child(say_it_with_less)
    finish(context, overlay.merged)
    assert (overlay.lower / "secret").read_text() == "words"
    answers = [seen.errno_of(os.open, overlay.merged / name, os.O_RDONLY) for name in ("secret", "public")]
    assert seen(answers) == ["EACCES", "no error"]


@behaviour("mount.overlay.override-creds-before-6-15")
def test_credentials_on_an_older_kernel(seen: Seen) -> None:
    """A kernel without override_creds refuses it: EINVAL."""
    assert seen.errno_of(calls.fsconfig, begin(), FsConfig.SET_FLAG, "override_creds") == "EINVAL"


@pytest.fixture
def owned(overlay: Overlay) -> Overlay:
    """An overlay whose lower layer has a file of user and group 5."""
    (overlay.lower / "file").touch()
    os.chown(overlay.lower / "file", 5, 5)
    return overlay


@behaviour("mount.overlay.id-mapped-lower")
def test_lower_layer_with_mapped_ids(owned: Overlay, tree: Path, seen: Seen) -> None:
    """Through a lower layer with mapped IDs a file of user 5 is user 100005's in the overlay."""
    with DetachedMount.copy(owned.lower) as made:
        made.set_attributes(userns_fd=open_user_namespace(SHIFT))
        made.attach(tree / "b")
    calls.mount("overlay", owned.merged, "overlay", 0, f"lowerdir={tree / 'b'}:{owned.second}")
    assert (owned.lower / "file").stat().st_uid == 5
    assert seen((owned.merged / "file").stat().st_uid) == 100005


def map_overlay(overlay: Overlay, place: Path) -> None:
    """Attach a copy of a mounted overlay with mapped IDs."""
    with DetachedMount.copy(overlay.merged) as made:
        made.set_attributes(userns_fd=open_user_namespace(SHIFT))
        made.attach(place)


@behaviour("mount.overlay.id-mapped-itself")
def test_overlay_with_mapped_ids(owned: Overlay, tree: Path, seen: Seen) -> None:
    """An overlay's own mount takes a map: a file of user 5 is user 100005's, and what that user makes is user 5's."""
    owned.mount()
    map_overlay(owned, tree / "b")
    assert seen([(path / "file").stat().st_uid for path in (owned.merged, tree / "b")]) == [5, 100005]
    os.chown(tree / "b/file", 100007, 100007)
    assert (owned.upper / "file").stat().st_uid == 7


@behaviour("mount.overlay.id-mapped-itself-before")
def test_overlay_with_mapped_ids_on_an_older_kernel(owned: Overlay, tree: Path, seen: Seen) -> None:
    """A kernel without mapped overlays refuses the map: EINVAL."""
    owned.mount()
    assert mount.mount_of(owned.merged).fstype == "overlay"
    assert seen.errno_of(map_overlay, owned, tree / "b") == "EINVAL"
