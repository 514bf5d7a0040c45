"""The places of a cgroup: which hierarchies it is in, opened or made in each of them, and unmade if a step fails."""

from __future__ import annotations

import errno

from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.directory import Directory, Path, split_name
from kernelproof.impl.cgroups.layout import Hierarchy, Layout

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import ExitStack, contextmanager
    from functools import partial
    from typing import NamedTuple

    from kernelproof.impl.cgroups import ending
    from kernelproof.impl.cgroups.controllers import cpuset
else:
    from kernelproof.impl._syscalls.late import Late
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.unwinding import ExitStack, contextmanager, partial

    ending = Late("kernelproof.impl.cgroups.ending")
    cpuset = Late("kernelproof.impl.cgroups.controllers.cpuset")

TIMEOUT_SECONDS = 0.15  # how long a task that is just being made may be refused, see `entering`


class Place(NamedTuple):
    """A hierarchy, the cgroup's directory in it, and its path from the mount point."""

    hierarchy: Hierarchy
    directory: Directory
    name: str


def choose_hierarchies(layout: Layout) -> tuple[Hierarchy, ...]:
    """Of a hybrid layout those of version 1: the unified one has what they leave, mostly nothing. cpuset is first."""
    if len(layout.hierarchies) == 1:
        return layout.hierarchies
    first = [hierarchy for hierarchy in layout.hierarchies if hierarchy.version == 1]
    unified = layout.unified
    if unified is not None and not first:
        return (unified,)
    seen: set[tuple[tuple[str, ...], str]] = set()
    chosen = []
    for hierarchy in sorted(first, key=lambda one: (one.is_read_only, one.root != "/")):
        key = (tuple(sorted(hierarchy.controllers)), hierarchy.name)
        if key not in seen:
            seen.add(key)
            chosen.append(hierarchy)
    return tuple(sorted(chosen, key=lambda one: "cpuset" not in one.controllers))  # it must have CPUs first


def wanted_hierarchies(hierarchies: tuple[Hierarchy, ...], controllers: Iterable[str] | None) -> tuple[Hierarchy, ...]:
    """Those that have one of the controllers; all, where none is named and on version 2."""
    if controllers is None or (hierarchies and hierarchies[0].version == 2):  # no other is beside it
        return hierarchies
    layout = Layout(hierarchies)
    return tuple(dict.fromkeys(layout.hierarchy(controller) for controller in controllers))


def open_place(hierarchy: Hierarchy, name: Path) -> Place:
    """Open a cgroup in one hierarchy; errors as `Directory.open`."""
    return Place(hierarchy, Directory.open(hierarchy, name), "/" + "/".join(split_name(name)))


@contextmanager
def open_chain(place: Place) -> Iterator[tuple[Directory, ...]]:
    """The cgroup of a place, its parent, and so on up to the mounted root, for the block of a `with`.

    Raises:
        OSError: ENOENT: one of them was removed.
    """
    parts = split_name(place.name)
    with ExitStack() as opened:
        directory = opened.enter_context(Directory.open(place.hierarchy))
        chain = [directory]
        for part in parts:
            directory = opened.enter_context(directory.child(part))
            chain.append(directory)
        yield tuple(reversed(chain))


def open_places(name: Path, hierarchies: tuple[Hierarchy, ...], *, required: bool) -> list[Place]:
    """Open a cgroup in each hierarchy that has it. Raises: OSError: ENOENT: none has."""
    places, refused = [], None
    with ExitStack() as undo:
        for hierarchy in hierarchies:
            try:
                place = open_place(hierarchy, name)
            except FileNotFoundError as error:
                refused = error
                continue
            undo.callback(place.directory.close)
            places.append(place)
        if not places and required and refused is not None:
            raise refused
        undo.pop_all()
    return places


def make_places(name: Path, hierarchies: Iterable[Hierarchy], controllers: Iterable[str] | None) -> list[Place]:
    """Make a cgroup and those above it in each hierarchy, with controllers; what was done is undone if a step fails."""
    # Lists, and a stack only when something failed: two stacks would be a tenth of what all of this takes.
    undo: list[Callable[[], object]] = []  # what takes back what was made and enabled, the last first
    opened: list[Directory] = []  # what that needs
    try:
        return [_make_place(hierarchy, name, controllers, undo, opened) for hierarchy in hierarchies]
    except BaseException:
        with ExitStack() as back:
            for step in undo:
                back.callback(step)
            raise
    finally:
        _close_all(opened)


def _make_place(
    hierarchy: Hierarchy,
    name: Path,
    controllers: Iterable[str] | None,
    undo: list[Callable[[], object]],
    opened: list[Directory],
) -> Place:
    parts = split_name(name)
    directory = Directory.open(hierarchy)
    for part in parts:
        opened.append(directory)
        if hierarchy.version == 2:
            _enable(directory, controllers, undo)
        directory = _make_child(directory, part, hierarchy, undo)
    undo.append(directory.close)
    return Place(hierarchy, directory, "/" + "/".join(parts))


def _close_all(directories: list[Directory]) -> None:
    # All of them, also if the closing of one fails.
    while directories:
        try:
            directories.pop().close()
        except BaseException:
            _close_all(directories)
            raise


def _enable(directory: Directory, controllers: Iterable[str] | None, undo: list[Callable[[], object]]) -> None:
    wanted = tuple(controllers) if controllers is not None else directory.controllers()
    try:
        new = enabling.enable(directory, wanted)
    except OSError as error:
        if controllers is None and error.errno in (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP):
            return  # nobody asked for one by name: what can't be had is not there
        raise
    if new:
        undo.append(partial(enabling.disable, directory, new))


def _make_child(directory: Directory, part: str, hierarchy: Hierarchy, undo: list[Callable[[], object]]) -> Directory:
    try:
        child = directory.make(part)
    except FileExistsError:
        child = directory.child(part)
    else:
        undo.append(lambda: ending.remove(directory, part, 0.0))
    if hierarchy.version == 1 and "cpuset" in hierarchy.controllers:
        for write in cpuset.plan_inherited(child.read_or_none, directory.read_or_none):
            child.write(write.file, write.value)
    return child
