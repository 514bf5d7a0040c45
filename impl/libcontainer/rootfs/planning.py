"""From a configuration to the operations on its root filesystem, in the order in which they are done; pure.

    host    copies of mounts with other owners, while there is the right to make them
    init    propagation, the root, a procfs; the mounts as listed; terminal, devices and links
    root    sysctls, read-only mounts and paths, masks, a read-only root; into it, and its propagation

A container that joins a mount namespace has its mounts already, so nothing is planned. One without a mount namespace
shares those of the host: it is entered by chroot, and what would change the host's mounts is refused.
"""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.mount import MountFlag
from kernelproof.impl.libcontainer.operations import Operation
from kernelproof.impl.libcontainer.rootfs.binding import Bind, Remount
from kernelproof.impl.libcontainer.rootfs.devices import (
    DEFAULT_DEVICES,
    DEFAULT_LINKS,
    BindDevice,
    MakeDevice,
    MakeLink,
)
from kernelproof.impl.libcontainer.rootfs.entering import (
    EnterChroot,
    MakeDirectory,
    PivotRoot,
    RootPropagation,
    WriteSysctl,
)
from kernelproof.impl.libcontainer.rootfs.hiding import MaskPaths, ReadOnlyMount, ReadOnlyPaths, ReadOnlyRoot
from kernelproof.impl.libcontainer.rootfs.mounting import MountKernel, MountNew, MountTmpfs, is_read_only
from kernelproof.impl.libcontainer.rootfs.opening import BindRoot, IsolateMounts, OpenProcfs, OpenRoot, PrivateParent
from kernelproof.impl.libcontainer.rootfs.places import clean
from kernelproof.impl.libcontainer.rootfs.words import Wanted, parse_propagation, parse_words
from kernelproof.impl.mount.detached import can_set_attributes
from kernelproof.impl.mount.errors import OptionError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from kernelproof.impl.cgroups.layout import Hierarchy
    from kernelproof.impl.libcontainer.config.records import Config, Device, IdMapping, Mount

    Hierarchies = tuple[tuple[str, tuple[str, ...], str, str], ...]
    Node = tuple[str, str, int, int, int, int, int]

    class Host(Protocol):
        """The facts of the host that count here."""

        @property
        def hierarchies(self) -> tuple[Hierarchy, ...]:
            """The hierarchies of cgroups that are mounted; asked for only where the configuration mounts some."""

        @property
        def is_rootless(self) -> bool:
            """Whether the caller is not root on the host."""


_ISOLATED = {"shared": "", "private": "rprivate", "slave": "rslave", "unbindable": "rprivate"}
_WITHOUT_LABEL = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")
_NEVER_FILLED = ("proc", "sysfs", "cgroup", "cgroup2")
_MODE = 0o666  # of a device that says none


def plan_rootfs(config: Config, host: Host, bundle: str = "/") -> tuple[Operation, ...]:
    """Plan the root filesystem of a container.

    Args:
        config: its configuration.
        host: facts of the host.
        bundle: the absolute directory that relative paths of the host count from.

    Raises:
        OptionError: options of a mount that can't be meant, or something that needs a mount namespace without one.
        LookupError: the configuration has no root.
    """
    if config.root is None:
        raise LookupError("the configuration has no root")
    namespaces = {each.type: each.path for each in config.linux.namespaces}
    if namespaces.get("mount"):
        return ()
    path = clean(os.path.join(bundle, config.root.path))
    if "mount" not in namespaces:
        _refuse_mounts(config)
        sysctls = tuple(_sysctls(config))
        return (OpenRoot(path), *((OpenProcfs(),) if sysctls else ()), *sysctls, EnterChroot())
    asked = tuple(_ask(config, place, each, bundle) for place, each in enumerate(config.mounts))
    _load_what_is_rare(config)
    return (
        *_mapped_owners(config, asked, namespaces),
        *_copied_sources(host, asked, namespaces),
        *_beginning(config, path),
        *(_mount(config, host, asked, each, namespaces) for each in asked),
        *_terminal(config),
        *_devices(config, asked, may_make="user" not in namespaces and not host.is_rootless),
        *_console(config),
        *_directories(config),
        *_sysctls(config),
        *_hidden(config, asked),
        PivotRoot("move" if config.no_pivot_root else "auto"),
        *_propagation(config),
    )


def _load_what_is_rare(config: Config) -> None:
    # In the new namespaces the files of these modules may be out of reach, and after the root is entered they are
    # the container's. They cost 4 ms, and most starts need none of them.
    propagation = config.linux.rootfs_propagation or ""
    if config.no_pivot_root or "shared" in propagation or not can_set_attributes():
        __import__("kernelproof.impl.mount.lookup")
        __import__("kernelproof.impl.mount.table")
    if any(each.type == "overlay" for each in config.mounts):
        __import__("kernelproof.impl.mount.overlays")


class _Asked:
    """One mount of the list, taken apart: what it says with defaults in their place."""

    __slots__ = ("destination", "kind", "maps", "place", "source", "wanted", "words")

    def __init__(self, place: int, mount: Mount, words: tuple[str, ...], wanted: Wanted, source: str) -> None:
        self.place = place
        self.words = words
        self.wanted = wanted
        self.source = source
        self.kind = mount.type or ""
        self.destination = clean(mount.destination)
        self.maps = (mount.uid_mappings, mount.gid_mappings)

    @property
    def is_remount(self) -> bool:
        return self.wanted.is_remount

    @property
    def is_mapped(self) -> bool:
        return self.wanted.is_bind and bool(self.wanted.mapped or self.maps[0] or self.maps[1])

    @property
    def is_new_and_read_only(self) -> bool:
        is_new = not self.wanted.is_bind and not self.is_remount and self.kind not in _NEVER_FILLED
        return is_new and is_read_only(self.wanted.options)


def _ask(config: Config, place: int, mount: Mount, bundle: str) -> _Asked:
    words = words_of(config, mount)
    try:
        wanted = parse_words(words)
        source = os.path.join(bundle, mount.source or "") if wanted.is_bind else mount.source or mount.type or ""
        asked = _Asked(place, mount, words, wanted, source)
        _check(asked, mount)
    except OptionError as error:
        error.add_note(f"mounts[{place}], {mount.destination}")
        raise
    return asked


def _check(asked: _Asked, mount: Mount) -> None:
    if asked.is_remount:
        return
    if asked.wanted.is_bind and not mount.source:
        raise OptionError("a bind mount needs a source")
    if not asked.wanted.is_bind and not asked.kind:
        raise OptionError("a mount needs a type, or bind or rbind among its options")
    if asked.wanted.copy_up and asked.kind != "tmpfs":
        raise OptionError(f"tmpcopyup is for a tmpfs, and this is {asked.kind}")


def words_of(config: Config, mount: Mount) -> tuple[str, ...]:
    """The words of a mount, with those that its type and the configuration add.

    >>> from kernelproof.impl.libcontainer.config.records import Config, Mount
    >>> words_of(Config("1.2.0"), Mount("/dev/pts", "devpts", options=("nosuid",)))
    ('nosuid', 'newinstance')
    """
    words = mount.options
    is_bind = "bind" in words or "rbind" in words
    if mount.type == "bind" and not is_bind:
        return ("bind", *words)
    if mount.type == "devpts" and "newinstance" not in words:
        words = (*words, "newinstance")
    label = config.linux.mount_label
    if label and mount.type not in _WITHOUT_LABEL and not is_bind:
        words = (*words, f'context="{label}"')
    return words


def _refuse_mounts(config: Config) -> None:
    linux = config.linux
    needs = {
        "mounts": config.mounts,
        "root.readonly": config.root is not None and config.root.readonly,
        "linux.maskedPaths": linux.masked_paths,
        "linux.readonlyPaths": linux.readonly_paths,
        "linux.rootfsPropagation": linux.rootfs_propagation,
        "process.terminal": config.process is not None and config.process.terminal,
    }
    asked = [name for name, value in needs.items() if value]
    if asked:
        raise OptionError(f"without a mount namespace {', '.join(asked)} would change the host: list one of type mount")


def _beginning(config: Config, path: str) -> Iterator[Operation]:
    propagation = config.linux.rootfs_propagation or "rslave"
    parse_propagation(propagation)
    isolated = _ISOLATED[propagation.removeprefix("r")]
    if isolated:
        yield IsolateMounts(isolated)
    yield OpenRoot(path)
    if not isolated:
        yield PrivateParent(path)
    yield BindRoot(path)
    yield OpenProcfs()


def _propagation(config: Config) -> Iterator[Operation]:
    if config.linux.rootfs_propagation:
        yield RootPropagation(config.linux.rootfs_propagation)


def _mount(
    config: Config, host: Host, all_asked: tuple[_Asked, ...], asked: _Asked, namespaces: dict[str, str | None]
) -> Operation:
    destination, kind, words = asked.destination, asked.kind, asked.words
    if asked.is_remount:
        return Remount(destination, words)
    if asked.is_mapped:
        from kernelproof.impl.libcontainer.rootfs.mapped import AttachMapped  # seldom, and it costs a millisecond

        return AttachMapped(destination, words)
    if asked.wanted.is_bind:
        return Bind(destination, asked.source, words)
    if kind in ("cgroup", "cgroup2"):
        return _cgroups(asked, host, namespaces)
    if kind in ("proc", "sysfs"):
        owns_network = "user" not in namespaces or "network" in namespaces
        substitute = "/sys" if kind == "sysfs" and not owns_network else ""
        return MountKernel(destination, kind, asked.source, words, substitute)
    late = asked.is_new_and_read_only and _is_filled_later(config, all_asked, asked)
    if kind == "tmpfs":
        return MountTmpfs(destination, asked.source, words, late)
    return MountNew(destination, kind, asked.source, words, late)


def _is_filled_later(config: Config, all_asked: tuple[_Asked, ...], asked: _Asked) -> bool:
    below = asked.destination.rstrip("/") + "/"
    later = [each.destination for each in all_asked[asked.place + 1 :]]
    devices = ["/dev/null", *(clean(each.path) for each in config.linux.devices)]
    return any(each.startswith(below) for each in (*later, *devices))


def _cgroups(asked: _Asked, host: Host, namespaces: dict[str, str | None]) -> Operation:
    from kernelproof.impl.libcontainer.rootfs.cgroups import MountCgroup2, MountCgroups1  # only where it is asked for

    hierarchies = host.hierarchies
    unified = next((each for each in hierarchies if each.version == 2), None)
    # A hierarchy may be mounted in several places: the first will do.
    old = {(each.name, each.controllers): each for each in reversed(hierarchies) if each.version == 1}
    if asked.kind == "cgroup" and (old or unified is None):
        tree = tuple((each.name, each.controllers, each.mount_point, each.root) for each in reversed(old.values()))
        return MountCgroups1(asked.destination, asked.words, tree, "cgroup" in namespaces)
    mount_point, root = (unified.mount_point, unified.root) if unified else ("", "/")
    how = "fresh" if "cgroup" in namespaces else "whole"
    if how == "whole" and "user" in namespaces:
        how = "masked" if host.is_rootless else "own"
    return MountCgroup2(asked.destination, asked.words, mount_point, root, how)


def _mapped_owners(config: Config, asked: tuple[_Asked, ...], namespaces: dict[str, str | None]) -> Iterator[Operation]:
    for each in asked:
        if not each.is_mapped or each.is_remount:
            continue
        from kernelproof.impl.libcontainer.rootfs.mapped import MapOwners  # seldom

        uids, gids = each.maps
        userns = "" if uids or gids else namespaces.get("user") or ""
        if not uids and not gids and not userns:
            uids, gids = config.linux.uid_mappings, config.linux.gid_mappings
        if not userns and not (uids and gids):
            raise OptionError(
                f"mounts[{each.place}], {each.destination}: owners are mapped by both uidMappings and gidMappings, or "
                f"by those of the container's user namespace"
            )
        recursive = each.wanted.mapped == "ridmap" or bool(each.wanted.options.flags & MountFlag.REC)
        yield MapOwners(each.destination, each.source, recursive, _ranges(uids), _ranges(gids), userns)


def _copied_sources(host: Host, asked: tuple[_Asked, ...], namespaces: dict[str, str | None]) -> Iterator[Operation]:
    if "user" not in namespaces or host.is_rootless:
        return
    from kernelproof.impl.libcontainer.rootfs.sources import CopySource  # only with a user namespace

    known = set()
    for each in asked:
        key = (each.destination, each.source)
        if each.wanted.is_bind and not each.is_mapped and not each.is_remount and key not in known:
            known.add(key)
            yield CopySource(each.destination, bool(each.wanted.options.flags & MountFlag.REC), each.source)


def _ranges(mappings: tuple[IdMapping, ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((each.container_id, each.host_id, each.size) for each in mappings)


def _terminal(config: Config) -> Iterator[Operation]:
    process = config.process
    if process is not None and process.terminal:
        from kernelproof.impl.libcontainer.rootfs.console import OpenTerminal  # only with a terminal

        size = process.console_size
        yield OpenTerminal(process.user.uid, size.height if size else 0, size.width if size else 0)


def _console(config: Config) -> Iterator[Operation]:
    if config.process is not None and config.process.terminal:
        from kernelproof.impl.libcontainer.rootfs.console import BindConsole  # as above

        yield BindConsole("/dev/console")


def _devices(config: Config, asked: tuple[_Asked, ...], *, may_make: bool) -> Iterator[Operation]:
    is_bound = any(each.destination == "/dev" and each.wanted.is_bind for each in asked)
    for node in _wanted_devices(config):
        path, kind, *numbers = node[:4]
        if is_bound and path.startswith("/dev/"):
            continue  # the host's /dev is not for us to change
        yield MakeDevice(*node) if may_make or kind == "p" else BindDevice(path, kind, *numbers)
    destinations = {each.destination for each in asked}
    if not is_bound and "/proc" in destinations:
        for path, target in DEFAULT_LINKS:
            yield MakeLink(path, target, False)
    if not is_bound and "/dev/pts" in destinations:
        yield MakeLink("/dev/ptmx", "pts/ptmx", True)


def _wanted_devices(config: Config) -> tuple[Node, ...]:
    wanted: dict[str, Node] = {path: (path, "c", major, minor, _MODE, 0, 0) for path, major, minor in DEFAULT_DEVICES}
    for each in config.linux.devices:
        path = clean(each.path)
        if path != "/dev/ptmx":  # a link to the own devpts
            wanted[path] = _node(path, each)
    return tuple(wanted.values())


def _node(path: str, device: Device) -> Node:
    mode = _MODE if device.file_mode is None else device.file_mode & 0o7777
    kind = "c" if device.type == "u" else device.type
    return (path, kind, device.major or 0, device.minor or 0, mode, device.uid or 0, device.gid or 0)


def _directories(config: Config) -> Iterator[Operation]:
    if config.process is not None and config.process.cwd not in ("", "/"):
        yield MakeDirectory(config.process.cwd)


def _sysctls(config: Config) -> Iterator[Operation]:
    for key, value in config.linux.sysctl:
        yield WriteSysctl(key, value)


def _hidden(config: Config, asked: tuple[_Asked, ...]) -> Iterator[Operation]:
    for each in asked:
        if each.is_new_and_read_only and _is_filled_later(config, asked, each):
            yield ReadOnlyMount(each.destination)
    if config.linux.readonly_paths:
        yield ReadOnlyPaths(config.linux.readonly_paths)
    if config.linux.masked_paths:
        yield MaskPaths(config.linux.masked_paths)
    if config.root is not None and config.root.readonly:
        yield ReadOnlyRoot()
