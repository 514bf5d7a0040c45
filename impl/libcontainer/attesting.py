"""What a container is, compared with what its configuration asks: read from /proc and its cgroup while it lives.

    for finding in verify(state, config): print(finding)

An empty answer says that the process is as it was meant to be: ids, capabilities, namespaces, no_new_privs, seccomp,
mounts, limits, descriptors. It is no guarantee about what the program does with all that.

Source: proc_pid_status(5); proc_pid_mountinfo(5); capabilities(7).
"""

from __future__ import annotations

import os

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

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

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
        outside = next(
            (
                one.host_id + asked - one.container_id
                for one in maps
                if one.container_id <= asked < one.container_id + one.size
            ),
            asked,
        )
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
        if more:
            yield Finding(f"$.process.capabilities.{field}", sorted(wanted), sorted(have))


_GAINED = ("effective", "permitted")


def names_of(mask: int) -> frozenset[str]:
    """The names of the capabilities of a mask."""
    return frozenset(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)


def _mounts(pid: int, config: Config, proc: str) -> Iterator[Finding]:
    if not Division(config.linux.namespaces).is_private("mount"):
        return
    with open(f"{proc}/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    options = {line[4]: line[5].split(",") for line in lines}
    for place, mount in enumerate(config.mounts):
        if mount.destination not in options:
            yield Finding(f"$.mounts[{place}].destination", mount.destination, "no mount point")
        elif "ro" in mount.options and "ro" not in options[mount.destination]:
            yield Finding(f"$.mounts[{place}].options", "ro", ",".join(options[mount.destination]))
    if config.root is not None and config.root.readonly and "ro" not in options.get("/", ()):
        yield Finding("$.root.readonly", True, False)


def _limits(state: State, config: Config) -> Iterator[Finding]:
    if config.linux.resources is None or not state.cgroup:
        return
    cgroup = find_cgroup(state.cgroup)
    if cgroup is None:
        yield Finding("$.linux.resources", "limits", "no cgroup")
        return
    with cgroup:
        limits = limits_of(config.linux.resources, cgroup.version)
        # A limit that is set as asked needs no write.
        if limits == Limits():
            return
        for step in cgroup.plan(limits, check_usage=False):
            write = step.write
            directory = cgroup.directory_of(step.controller) if step.controller else cgroup.directory
            seen = (directory.read_or_none(write.file) or "").strip()
            if seen != write.value.strip():
                yield Finding(f"$.linux.resources ({write.file})", write.value.strip(), seen)


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
