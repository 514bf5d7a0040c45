"""Mounts as a plan: what is to be done as values, printed before it is done, and undone if it fails halfway.

plan = plan_mounts([
    MountSpec("proc", "proc", "proc", "nosuid,noexec,nodev"),
    MountSpec("/srv/data", "data", "none", "rbind,rro"),
])
print("\\n".join(step.describe() for step in plan))
with Root("/rootfs") as root:
    perform_mounts(plan, root)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise

from kernelproof.impl._syscalls.libc import flag_names
from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag
from kernelproof.impl.mount.detached import DetachedMount, set_attributes
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import Options, parse_options
from kernelproof.impl.mount.point import mount_id
from kernelproof.impl.mount.resolve import Root, create_mount_point_in_root
from kernelproof.impl.mount.roads import detach_at, new_filesystem
from kernelproof.impl.mount.walk import ensure_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from typing import NamedTuple, TypeAlias

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_NO_ATTRIBUTES = MountAttribute(0)


class MountSpec(NamedTuple):
    """What is wanted: as an entry of fstab, with the target relative to a root."""

    source: str
    target: str
    fstype: str
    options: str = ""


class OpenTree(NamedTuple):
    """Copy a mount: open_tree(2)."""

    source: str
    recursive: bool

    def describe(self) -> str:
        """The step in words."""
        return f"open_tree {self.source!r}{' and all below it' if self.recursive else ''}"


class FsOpen(NamedTuple):
    """Make a filesystem: fsopen(2), fsconfig(2), fsmount(2)."""

    fstype: str
    source: str
    options: Options
    attributes: MountAttribute

    def describe(self) -> str:
        """The step in words."""
        data = f" with {self.options.data}" if self.options.data else ""
        return f"fsopen {self.fstype} from {self.source!r}{data}, {flag_names(MountAttribute, self.attributes)}"


class SetAttr(NamedTuple):
    """Change attributes of what the step before made: mount_setattr(2)."""

    set: MountAttribute
    clear: MountAttribute
    propagation: MountFlag
    recursive: bool

    def describe(self) -> str:
        """The step in words."""
        parts = []
        if self.set:
            parts.append(f"set {flag_names(MountAttribute, self.set)}")
        if self.clear:
            parts.append(f"clear {flag_names(MountAttribute, self.clear)}")
        if self.propagation:
            parts.append(f"make {flag_names(MountFlag, self.propagation)}")
        return f"mount_setattr: {', '.join(parts)}{', recursive' if self.recursive else ''}"


class MoveMount(NamedTuple):
    """Attach what the steps before made: move_mount(2)."""

    target: str
    is_directory: bool

    def describe(self) -> str:
        """The step in words."""
        return f"move_mount to {self.target!r}, a {'directory' if self.is_directory else 'file'}"


Step: TypeAlias = OpenTree | FsOpen | SetAttr | MoveMount


def plan_mounts(specs: Iterable[MountSpec]) -> tuple[Step, ...]:
    """Plan mounts, in an order in which none hides one that was asked for: a target above others comes first.

    Nothing is mounted. A source that is bound is looked at, to see whether it is a file.

    Raises:
        OptionError: a spec asks for `remount` or `move`; or two have one target.
        OSError: ENOENT a source to bind does not exist.
    """
    ordered = sorted(specs, key=lambda spec: _parts(spec.target))
    for before, after in pairwise(ordered):
        if _parts(before.target) == _parts(after.target):
            raise OptionError(f"two mounts at {after.target!r}: {before.source!r} and {after.source!r}")
    return tuple(step for spec in ordered for step in _steps(spec))


def _parts(target: str) -> tuple[str, ...]:
    return tuple(part for part in target.split("/") if part not in ("", "."))


def _steps(spec: MountSpec) -> list[Step]:
    wanted = parse_options(spec.options)
    if wanted.flags & (MountFlag.REMOUNT | MountFlag.MOVE):
        raise OptionError(f"a plan makes mounts, and neither remounts nor moves: {spec}")
    steps: list[Step] = []
    is_directory = True
    if wanted.flags & MountFlag.BIND:
        is_directory = os.path.isdir(spec.source)
        if not is_directory:
            os.stat(spec.source)
        steps.append(OpenTree(spec.source, bool(wanted.flags & MountFlag.REC)))
        if wanted.attributes_set or wanted.attributes_cleared:
            steps.append(SetAttr(wanted.attributes_set, wanted.attributes_cleared, MountFlag(0), False))
    else:
        steps.append(FsOpen(spec.fstype, spec.source, wanted, wanted.attributes_set))
    if wanted.is_recursive:
        steps.append(SetAttr(wanted.recursive_set, wanted.recursive_cleared, MountFlag(0), True))
    for each in wanted.propagation:
        recursive = bool(each & MountFlag.REC)
        steps.append(SetAttr(_NO_ATTRIBUTES, _NO_ATTRIBUTES, each & ~MountFlag.REC, recursive))
    return [*steps, MoveMount(spec.target, is_directory)]


def perform_mounts(plan: Sequence[Step], root: Root) -> tuple[str, ...]:
    """Do what a plan says, below a root; if a step fails, all mounts of the plan are taken off again.

    Returns:
        The targets, in order.

    Raises:
        OSError, FsContextError, UnsafePathError: of the first step that failed, with a note that says which it was.
    """
    done: list[str] = []
    with ExitStack() as opened, ExitStack() as undo:
        current: DetachedMount | None = None
        for place, step in enumerate(plan, 1):
            try:
                current = _perform(step, current, root, opened, undo)
            except OSError as error:
                error.add_note(f"step {place} of {len(plan)}: {step.describe()}")
                raise
            if isinstance(step, MoveMount):
                done.append(step.target)
        undo.pop_all()
    return tuple(done)


def _perform(
    step: Step, current: DetachedMount | None, root: Root, opened: ExitStack, undo: ExitStack
) -> DetachedMount | None:
    if isinstance(step, OpenTree):
        return _kept(DetachedMount.copy(step.source, recursive=step.recursive), opened)
    if isinstance(step, FsOpen):
        return _kept(new_filesystem(step.source, step.fstype, step.options, step.attributes), opened)
    if current is None:
        raise OptionError(f"a plan begins with what it mounts, and not with: {step.describe()}")
    if isinstance(step, SetAttr):
        set_attributes(
            current.fd, set=step.set, clear=step.clear, propagation=step.propagation, recursive=step.recursive
        )
        return current
    _attach(step, current, root, undo)
    return None


def _kept(made: DetachedMount, opened: ExitStack) -> DetachedMount:
    opened.callback(made.close)
    return made


def _attach(step: MoveMount, current: DetachedMount, root: Root, undo: ExitStack) -> None:
    place = create_mount_point_in_root(root, step.target, is_directory=step.is_directory)
    try:
        current.attach(place)
    finally:
        os.close(place)
    undo.callback(detach_at, root, step.target, mount_id(current.fd, unique=False))
    ensure_in_root(root.fd, current.fd)
    current.close()  # a plan of many mounts must not need a descriptor for each


def describe_plan(plan: Sequence[Step], root: Path = "/") -> str:
    """Return a plan as text, one step a line."""
    return "\n".join(
        [f"below {os.fspath(root)}:", *(f"{place}. {step.describe()}" for place, step in enumerate(plan, 1))]
    )
