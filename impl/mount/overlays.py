"""Overlay mounts: many layers, any names, layers by descriptor, and errors that name their cause.

    with mount_overlay(["/lower2", "/lower1"], upper="/upper", work="/work") as mounted:
        mounted.attach("/merged")

Layers are given to the kernel one by one (`lowerdir+`, Linux 6.8), where a colon or comma in a name is nothing special.
Elsewhere they are one text, with these escaped; if that is longer than the kernel takes, layers are named by
descriptors, and if it is still too long, that is said before the call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from errno import EINVAL
from typing import NamedTuple, TypeAlias

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.context import LONGEST_STRING, FsContext, unquoted
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import FsContextError, OptionError, TooLongError
from kernelproof.impl.mount.locked import find_locked_children, shortened
from kernelproof.impl.mount.lookup import mount_of
from kernelproof.impl.mount.options import Options
from kernelproof.impl.mount.table import MountTable, Path

Layer: TypeAlias = "Path | int"
_DEEPEST = 2  # overlays on overlays (FILESYSTEM_MAX_STACK_DEPTH in include/linux/fs.h)
MOST_LAYERS = 500  # OVL_MAX_STACK in fs/overlayfs/params.h
_NO_ATTRIBUTES = MountAttribute(0)
_NO_OPTIONS = Options()
_Attempt: TypeAlias = "Callable[[FsContext, OverlaySpec, ExitStack], bool]"


class OverlaySpec(NamedTuple):
    """What an overlay is made of.

    Attributes:
        lower: directories or descriptors of directories, the uppermost first.
        upper: what is written to; None makes it read-only, and then there must be two layers.
        work: an empty directory on the filesystem of `upper`.
        options: further options, as `metacopy=on`.
        userxattr: marks are user.overlay.* and not trusted.overlay.*: for user namespaces (Linux 5.11).
        data_only: layers below all others, from which only contents are taken (Linux 6.8).
    """

    lower: tuple[Layer, ...]
    upper: Layer | None = None
    work: Layer | None = None
    options: tuple[str, ...] = ()
    userxattr: bool = False
    data_only: tuple[Layer, ...] = ()


def check_spec(spec: OverlaySpec) -> None:
    """Refuse what no kernel takes.

    Raises:
        OptionError: no layer, too many of them, or an upper directory without work directory or the reverse.
    """
    if not spec.lower:
        raise OptionError("overlay: at least one lower layer")
    if len(spec.lower) + len(spec.data_only) > MOST_LAYERS:
        raise OptionError(f"overlay: {len(spec.lower) + len(spec.data_only)} layers, at most {MOST_LAYERS}")
    if (spec.upper is None) != (spec.work is None):
        raise OptionError("overlay: upper and work belong together")
    if spec.upper is None and len(spec.lower) + len(spec.data_only) < 2:
        raise OptionError("overlay: without upper at least two lower layers")


def mount_overlay(
    lower: Sequence[Layer],
    *,
    upper: Layer | None = None,
    work: Layer | None = None,
    options: Sequence[str] = (),
    userxattr: bool = False,
    data_only: Sequence[Layer] = (),
    source: str = "overlay",
    attributes: MountAttribute = _NO_ATTRIBUTES,
) -> DetachedMount:
    """Return an overlay that is attached nowhere.

    Args:
        lower, upper, work, options, userxattr, data_only: see OverlaySpec.
        source: a word for the table.
        attributes: per-mount attributes.

    Raises:
        FsContextError: the kernel refused a layer or the whole; the log, and notes on causes that can be seen.
        OSError: ENODEV the kernel has no overlay; EPERM; ENOSYS before Linux 5.2.
        OptionError: as check_spec; TooLongError layers too many for one text on a kernel that takes no other form.

    Source: filesystems/overlayfs.rst of the kernel.
    """
    spec = OverlaySpec(tuple(lower), upper, work, tuple(options), userxattr, tuple(data_only))
    check_spec(spec)
    return _mount(spec, source, attributes, (_one_by_one, _in_one_text))


def mount_long_overlay(source: Path | None, options: Options, attributes: MountAttribute) -> DetachedMount:
    """Return the overlay that options as for `mount -o` describe, attached nowhere; its layers are given one by one.

    Raises:
        FsContextError, OSError: as mount_overlay.
        OptionError: a `lowerdir` that is no list of layers; TooLongError before Linux 6.8, or another value is too
            long: mount(2) takes a page for all of them.
    """
    lower: tuple[str, ...] = ()
    data_only: tuple[str, ...] = ()
    others = []
    for word in options.data_words:
        key, _, value = word.partition("=")
        if key == "lowerdir":
            lower, data_only = split_layers(unquoted(value))
        else:
            others.append(word)
    spec = OverlaySpec(lower, data_only=data_only)
    return _mount(spec, source, attributes, (_one_by_one,), options._replace(data=",".join(others)))


def _mount(
    spec: OverlaySpec,
    source: Path | None,
    attributes: MountAttribute,
    attempts: Sequence[_Attempt],
    more: Options = _NO_OPTIONS,
) -> DetachedMount:
    for attempt in attempts:
        with ExitStack() as opened, FsContext("overlay", source=source) as context:
            try:
                if not attempt(context, spec, opened):
                    continue
                _set_rest(context, spec, opened, commas=attempt is _one_by_one)
                return context.set_options(more).create().mount(attributes)
            except FsContextError as error:
                # A filesystem without the new API of its own takes any word, and refuses the whole without a log.
                legacy = not error.log or any("Legacy" in line for line in error.log)
                if attempt is _one_by_one and error.errno == EINVAL and legacy:
                    continue
                for cause in find_causes(spec):
                    error.add_note(cause)
                raise
    raise TooLongError(
        f"overlay: a value has at most {LONGEST_STRING} bytes, and this kernel takes no layers one by one (Linux 6.8 "
        f"does); mount(2) takes a page for all of them"
    )


def _one_by_one(context: FsContext, spec: OverlaySpec, opened: ExitStack) -> bool:
    """Give layers one by one; False if the kernel does not know how."""
    layers = [("lowerdir+", layer) for layer in spec.lower] + [("datadir+", layer) for layer in spec.data_only]
    for place, (key, layer) in enumerate(layers):
        try:
            context.set_string(key, name_of(layer, opened, LONGEST_STRING))
        except FsContextError as error:
            unknown = place == 0 and any("nknown parameter" in line for line in error.log)
            if error.errno == EINVAL and (unknown or any("Legacy" in line for line in error.log)):
                return False
            raise
    return True


def _in_one_text(context: FsContext, spec: OverlaySpec, opened: ExitStack) -> bool:
    if spec.data_only:
        raise OptionError("overlay: this kernel takes no data-only layers one by one (Linux 6.8 does)")
    context.set_string("lowerdir", join_layers(spec.lower, opened))
    return True


def join_layers(layers: Sequence[Layer], opened: ExitStack, limit: int = LONGEST_STRING) -> str:
    """Return layers as the value of `lowerdir`, by descriptors if that is what makes them fit.

    Raises:
        TooLongError: they are too many for one value.
    """
    text = ":".join(escape_layer(name_of(layer, opened, 4096, commas=False)) for layer in layers)
    if len(os.fsencode(text)) <= limit:
        return text
    text = ":".join(name_of(layer, opened, 0) for layer in layers)
    if len(text) <= limit:
        return text
    raise TooLongError(
        f"overlay: {len(layers)} layers make {len(text)} bytes of lowerdir, and a value has at most {limit}; kernels "
        f"since Linux 6.8 take them one by one"
    )


def escape_layer(name: str) -> str:
    """Return a layer's name with backslash and colon escaped for `lowerdir`.

    >>> escape_layer("/a:b")
    '/a\\\\:b'
    """
    return name.replace("\\", "\\\\").replace(":", "\\:")


def split_layers(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    r"""Return the layers of a value of `lowerdir`, and those after `::`, which are data-only.

    Raises:
        OptionError: a layer without a name.

    Source: filesystems/overlayfs.rst of the kernel, Multiple lower layers and Data-only lower layers.

    >>> split_layers(r"/a\:b:/c::/d")
    (('/a:b', '/c'), ('/d',))
    """
    layers = [""]
    is_escaped = False
    for character in text:
        if is_escaped or character not in "\\:":
            layers[-1] += character
            is_escaped = False
        elif character == ":":
            layers.append("")
        else:
            is_escaped = True
    end = layers.index("") if "" in layers else len(layers)
    lower, between, data_only = layers[:end], layers[end::2], layers[end + 1 :: 2]
    if not lower or any(between) or not all(data_only) or len(between) != len(data_only):
        raise OptionError(f"overlay: layers are separated by a colon, data-only ones by two: lowerdir={text}")
    return tuple(lower), tuple(data_only)


def name_of(layer: Layer, opened: ExitStack, limit: int, *, commas: bool = True) -> str:
    """Return a path to a layer that is not longer than that: its own, or that of a descriptor that stays open.

    Without `commas` a name that holds one is never given: before Linux 6.5 it would end the option.
    """
    if not isinstance(layer, int):
        text = os.path.abspath(layer)
        if len(os.fsencode(text)) <= limit and (commas or "," not in text):
            return text
        layer = os.open(text, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, layer)
    return f"/proc/self/fd/{layer}"


def _set_rest(context: FsContext, spec: OverlaySpec, opened: ExitStack, *, commas: bool) -> None:
    if spec.upper is not None and spec.work is not None:
        context.set_string("upperdir", name_of(spec.upper, opened, LONGEST_STRING, commas=commas))
        context.set_string("workdir", name_of(spec.work, opened, LONGEST_STRING, commas=commas))
    if spec.userxattr:
        context.set_flag("userxattr")
    context.set_options(spec.options)


def find_causes(spec: OverlaySpec) -> list[str]:
    """Return what is wrong with the layers, as far as it can be seen: the kernel's errno alone has many meanings."""
    causes = []
    for layer in (*spec.lower, *spec.data_only, *(each for each in (spec.upper, spec.work) if each is not None)):
        shown = layer if isinstance(layer, int) else os.fspath(layer)
        try:
            if not os.path.isdir(layer):
                causes.append(f"no directory: {shown!r}")
                continue
            found = mount_of(layer)
        except (OSError, LookupError):
            causes.append(f"can't be looked at: {shown!r}")
            continue
        if found.fstype == "overlay" and overlay_depth(found.super_options) >= _DEEPEST:
            causes.append(f"{shown!r} is on an overlay that lies on an overlay: the kernel stacks {_DEEPEST}, not more")
    if spec.upper is not None and spec.work is not None and not _are_on_one_mount(spec.upper, spec.work):
        causes.append("upper and work are not on one mount")
    return causes or _causes_below(spec)


def _causes_below(spec: OverlaySpec) -> list[str]:
    # In a user namespace only: so they are told where nothing else is wrong.
    causes = []
    for layer in (*spec.lower, *spec.data_only, *([] if spec.upper is None else [spec.upper])):
        names = []
        with suppress(OSError):
            names = find_locked_children(layer)
        if names:
            causes.append(
                f"mounted below {layer!s}: {', '.join(shortened([repr(name) for name in names]))}. "
                f"What came from a mount namespace of another user namespace is locked, and the kernel makes no layer "
                f"of what it hides: give a directory without mounts below it"
            )
    return causes


def _are_on_one_mount(upper: Layer, work: Layer) -> bool:
    try:
        return mount_of(upper).id == mount_of(work).id
    except (OSError, LookupError):
        return True


def overlay_depth(super_options: Sequence[str]) -> int:
    """Return how many overlays lie on each other, this one counted, as far as its options and the table tell."""
    table = MountTable.read()
    deepest = 1
    for option in super_options:
        key, _, value = option.partition("=")
        if key in ("lowerdir", "lowerdir+", "upperdir"):
            for name in value.split(":"):
                if name.startswith("/") and table.find(name).fstype == "overlay":
                    deepest = max(deepest, 2)
    return deepest
