"""What a container is, compared with what its configuration asks: read from /proc and its cgroup while it lives.

    for finding in verify(state, config): print(finding)

An empty answer says that the process is as it was meant to be: ids, groups, capabilities, namespaces, no_new_privs,
seccomp, mounts, masked paths, limits, descriptors. It is no guarantee about what the program does with all that.

Source: proc_pid_status(5); proc_pid_mountinfo(5); capabilities(7).
"""

from __future__ import annotations

import os
import stat

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl.cgroups.conversions import round_down_to_page
from kernelproof.impl.cgroups.formats import V1_UNLIMITED_BYTES
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.libcontainer.config.names import CAPABILITIES
from kernelproof.impl.libcontainer.config.records import Config, Process
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.limiting import limits_of
from kernelproof.impl.libcontainer.namespaces import FILES, Division
from kernelproof.impl.libcontainer.process.identity import open_process
from kernelproof.impl.libcontainer.process.waiting import is_waiting
from kernelproof.impl.libcontainer.running import read_config
from kernelproof.impl.libcontainer.state import State, StateDirectory, WrongStatusError
from kernelproof.impl.mount.point import mount_id_of_fd
from kernelproof.impl.mount.records import format_attributes
from kernelproof.impl.mount.resolve import Root
from kernelproof.impl.mount.table import MountTable
from kernelproof.impl.mount.walk import path_in_root

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.impl.cgroups.writes import Write
    from kernelproof.impl.libcontainer.config import records
    from kernelproof.impl.libcontainer.config.records import IdMapping
    from kernelproof.impl.mount.records import Mount

_NULL = os.makedev(1, 3)
# Of these the type that is asked for is the one that is shown, whatever road led there.
_TYPES = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay"))
_SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "ambient": "CapAmb",
}


class Finding:
    """One thing that is not as it was asked.

    Attributes:
        what: the JSON path of the configuration that asks for it.
        asked: what it asks.
        found: what is.
    """

    __slots__ = ("asked", "found", "what")

    def __init__(self, what: str, asked: object, found: object) -> None:
        self.what = what
        self.asked = asked
        self.found = found

    def __str__(self) -> str:
        return f"{self.what}: {self.asked} was asked, {self.found} is"

    def __repr__(self) -> str:
        return f"Finding({self.what!r}, {self.asked!r}, {self.found!r})"


def parse_status(text: str) -> dict[str, str]:
    """The lines of /proc/PID/status by name."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def verify(state: State, config: Config, *, waits: bool = False, proc: str = "/proc") -> tuple[Finding, ...]:
    """Compares a running container's first process with its configuration.

    Args:
        waits: whether its program has yet to begin: user, rights and filter, which it gets then, are not compared.
        proc: where procfs is.

    Returns:
        What is not as asked; nothing if all is.

    Raises:
        WrongStatusError: it does not run.
        OSError: it ended meanwhile, or may not be looked at.
    """
    pidfd = open_process(state.process)
    if pidfd is None:
        raise WrongStatusError(f"container {state.id!r} does not run: nothing can be compared")
    try:
        pid = state.process.pid
        with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
            status = parse_status(file.read())
        found = [*_namespaces(pid, config, proc), *_mounts(pid, config, proc), *_limits(state, config)]
        if config.process is not None and not waits:
            found += _process(config.process, config, status)
            found += _groups(config.process, config, status, may_lose=_may_set_groups(pid, proc))
        found += _descriptors(pid, proc)
        return tuple(found)
    finally:
        os.close(pidfd)


def verify_container(directory: StateDirectory) -> tuple[Finding, ...]:
    """As `verify`, of the container whose state directory this is; StateError if that is damaged."""
    return verify(directory.read_state(), read_config(directory), waits=is_waiting(directory.fd))


def _namespaces(pid: int, config: Config, proc: str) -> Iterator[Finding]:
    division = Division(config.linux.namespaces)
    for kind, file in FILES.items():
        if not os.path.exists(f"{proc}/self/ns/{file}"):
            continue
        shared = os.stat(f"{proc}/self/ns/{file}").st_ino == os.stat(f"{proc}/{pid}/ns/{file}").st_ino
        if shared == division.is_private(kind):
            asked, seen = ("one of its own", "the host's") if shared else ("the host's", "one of its own")
            yield Finding(f"$.linux.namespaces[{kind}]", asked, seen)


def _process(process: Process, config: Config, status: dict[str, str]) -> Iterator[Finding]:
    for name, asked, maps in (
        ("Uid", process.user.uid, config.linux.uid_mappings),
        ("Gid", process.user.gid, config.linux.gid_mappings),
    ):
        outside = _outside(asked, maps)
        ids = {int(word) for word in status[name].split()}
        if process.user.lookup is None and ids != {outside}:
            yield Finding(f"$.process.user.{name.lower()}", outside, sorted(ids))
    if process.no_new_privileges != (status.get("NoNewPrivs") == "1"):
        yield Finding("$.process.noNewPrivileges", process.no_new_privileges, status.get("NoNewPrivs") == "1")
    if (config.linux.seccomp is not None) != (status.get("Seccomp") == "2"):
        yield Finding("$.linux.seccomp", config.linux.seccomp is not None, status.get("Seccomp"))
    granted = process.granted()
    for field, line in _SETS.items():
        wanted = frozenset(getattr(granted, field))
        have = names_of(int(status[line], 16))
        # What the program file's own rights, or being root, add at its exec is bounded by the bounding set.
        more = have - wanted - (frozenset(granted.bounding) if field in _GAINED else frozenset())
        # The bounding set alone is nobody's to gain or lose at an exec. What is not ours either was not to be had.
        less = (wanted - have) & _own_bounding() if field == "bounding" else frozenset()
        if more or less:
            yield Finding(f"$.process.capabilities.{field}", sorted(wanted), sorted(have))


def _own_bounding() -> frozenset[str]:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        return names_of(int(parse_status(file.read())["CapBnd"], 16))


def _outside(number: int, maps: tuple[IdMapping, ...]) -> int:
    inside = (one for one in maps if one.container_id <= number < one.container_id + one.size)
    return next((one.host_id + number - one.container_id for one in inside), number)


def _groups(process: Process, config: Config, status: dict[str, str], *, may_lose: bool) -> Iterator[Finding]:
    if process.user.lookup is not None:
        return
    wanted = {_outside(gid, config.linux.gid_mappings) for gid in process.user.additional_gids}
    have = {int(word) for word in status["Groups"].split()}
    # Where groups can't be set, nobody has lost those of the runtime's caller.
    if wanted - have or (may_lose and have - wanted):
        yield Finding("$.process.user.additionalGids", sorted(wanted), sorted(have))


def _may_set_groups(pid: int, proc: str) -> bool:
    with open(f"{proc}/{pid}/setgroups", encoding="ascii") as file:
        return file.read().strip() == "allow"


_GAINED = ("effective", "permitted")


def names_of(mask: int) -> frozenset[str]:
    """The names of the capabilities of a mask."""
    return frozenset(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)


class Place:
    """What a path of the container leads to.

    Attributes:
        mount: what is mounted there, the topmost; None where nothing is.
        device: the number of a character device, else 0.
    """

    __slots__ = ("device", "mount")

    def __init__(self, mount: Mount | None, device: int = 0) -> None:
        self.mount = mount
        self.device = device


def _mounts(pid: int, config: Config, proc: str) -> Iterator[Finding]:
    if not Division(config.linux.namespaces).is_private("mount"):
        return
    table = MountTable.read(pid, proc=proc)
    with Root(f"{proc}/{pid}/root") as root:
        yield from compare_mounts(config, lambda path: _look(root, table, path))


def _look(root: Root, table: MountTable, path: str) -> Place | None:
    try:
        fd = root.open(path)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        mount = table.by_id.get(mount_id_of_fd(fd))
        if mount is not None and mount.mount_point != path_in_root(root.fd, fd):
            mount = None
        return Place(mount, status.st_rdev if stat.S_ISCHR(status.st_mode) else 0)
    finally:
        os.close(fd)


def compare_mounts(config: Config, look: Callable[[str], Place | None]) -> Iterator[Finding]:
    """Compares mounts, masked paths and the root with what is there.

    Args:
        config: what was asked.
        look: what a path leads to, links of the image followed inside the root; None where it leads nowhere.
    """
    masks = [look(path) for path in config.linux.masked_paths]
    hidden = {mask.mount for mask in masks if mask is not None}
    places = [look(mount.destination) for mount in config.mounts]
    for number, (mount, place) in enumerate(zip(config.mounts, places, strict=True)):
        top = place.mount if place is not None else None
        later = config.mounts[number + 1 :]
        if top is None:
            if not any(_is_below(mount.destination, other.destination) for other in later):
                yield Finding(f"$.mounts[{number}].destination", mount.destination, "no mount point")
        elif top not in hidden and not any(other is not None and other.mount == top for other in places[number + 1 :]):
            yield from _compare_mount(f"$.mounts[{number}]", mount, top)
    for number, mask in enumerate(masks):
        if mask is not None and mask.device != _NULL and (mask.mount is None or mask.mount.fstype != "tmpfs"):
            yield Finding(f"$.linux.maskedPaths[{number}]", config.linux.masked_paths[number], "not masked")
    yield from _compare_root(config, look("/"))


def _compare_mount(at: str, mount: records.Mount, top: Mount) -> Iterator[Finding]:
    is_bind = bool({"bind", "rbind"} & set(mount.options))
    if not is_bind and mount.type in _TYPES and top.fstype != mount.type:
        yield Finding(f"{at}.type", mount.type, top.fstype)
    elif "ro" in mount.options and not top.attributes & MountAttribute.RDONLY:
        yield Finding(f"{at}.options", "ro", ",".join(format_attributes(top.attributes)))


def _compare_root(config: Config, place: Place | None) -> Iterator[Finding]:
    if config.root is None or not config.root.readonly:
        return
    if place is None or place.mount is None or not place.mount.attributes & MountAttribute.RDONLY:
        yield Finding("$.root.readonly", True, False)


def _is_below(path: str, above: str) -> bool:
    return _clean(path).startswith(_clean(above).rstrip("/") + "/")


def _clean(path: str) -> str:
    return os.path.normpath(f"/{path.lstrip('/')}")


def _limits(state: State, config: Config) -> Iterator[Finding]:
    if config.linux.resources is None or not state.cgroup:
        return
    cgroup = find_cgroup(state.cgroup)
    if cgroup is None:
        yield Finding("$.linux.resources", "limits", "no cgroup")
        return
    with cgroup:
        limits = limits_of(config.linux.resources, cgroup.version)
        if any(kind == "scope" for kind, _ in state.undo):
            from kernelproof.impl.libcontainer.scopes import scope_limits  # D-Bus: 20 modules that few need

            limits = scope_limits(limits, cgroup.directory.read_or_none("cpu.max"))
        # A limit that is set as asked needs no write.
        if limits == Limits():
            return
        for step in cgroup.plan(limits, check_usage=False):
            write = step.write
            directory = cgroup.directory_of(step.controller) if step.controller else cgroup.directory
            seen = (directory.read_or_none(write.file) or "").strip()
            if not is_kept(write, seen, os.sysconf("SC_PAGE_SIZE")):
                yield Finding(f"$.linux.resources ({write.file})", write.value.strip(), seen)


def is_kept(write: Write, seen: str, page_bytes: int) -> bool:
    """Whether a file says what was written: as it is, as whole pages, as a line among others, or as no limit at all."""
    wanted = write.value.strip()
    if seen == wanted:
        return True
    if wanted.isdigit() and seen.isdigit() and write.limit.endswith("_bytes"):
        return int(seen) == round_down_to_page(int(wanted), page_bytes)
    if wanted == "-1":
        return seen.isdigit() and int(seen) >= V1_UNLIMITED_BYTES
    if write.file == "memory.oom_control":
        return write.undo == wanted
    words = wanted.split()
    return len(words) > 1 and any(set(words) <= set(line.split()) for line in seen.splitlines())


def _descriptors(pid: int, proc: str) -> Iterator[Finding]:
    # A program opens what it likes; what it was given is below this number and what it opens is its own.
    ours = os.stat("/")
    for fd in os.listdir(f"{proc}/{pid}/fd"):
        try:
            seen = os.stat(f"{proc}/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if (seen.st_dev, seen.st_ino) == (ours.st_dev, ours.st_ino):
            yield Finding("descriptors", "none of the host's directories", f"{fd} is the host's root")
