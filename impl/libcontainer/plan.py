"""From a configuration and facts of the host to the operations of a start, in order. Pure: nothing is read or touched.

    for operation in plan_container(config, host, request).operations:
        print(operation.stage, operation.describe())

The order, and why: the cgroup is there before the process, which is born in it; a user namespace is mapped before other
namespaces are made, so that they belong to it; network ends and hooks of the host come when the namespaces are there
and nothing is mounted; mounts before the root is entered; the program is found before the container counts as created;
the process waits with all its rights and takes its final shape after the start, limits of its own last.
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config.checking_host import refuse_host
from kernelproof.impl.libcontainer.config.records import Config, Hooks, Process
from kernelproof.impl.libcontainer.controlgroups import EnterCgroup, MakeCgroup, SetLimits, UseAllCpus, cgroup_name
from kernelproof.impl.libcontainer.facts import Host
from kernelproof.impl.libcontainer.namespaces import Division
from kernelproof.impl.libcontainer.network.planning import plan_network
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.process.cloning import MakeProcess, MakeProcessByScout, MakeUndumpable
from kernelproof.impl.libcontainer.process.joining import BecomeRoot, JoinNamespaces, MakeNamespaces, OpenNamespaces
from kernelproof.impl.libcontainer.process.naming import SetNames
from kernelproof.impl.libcontainer.process.program import (
    DEFAULT_PATH,
    Announce,
    BecomeProgram,
    EnterDirectory,
    FindProgram,
    environment,
)
from kernelproof.impl.libcontainer.process.streams import MakeSession, SendConsole, TakeStreams, UseTerminal
from kernelproof.impl.libcontainer.rootfs.planning import plan_rootfs
from kernelproof.impl.libcontainer.security.descriptors import CloseOnExec
from kernelproof.impl.libcontainer.security.planning import Container, LoadFilter, plan_security

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernelproof.impl.libcontainer.process import rendezvous
    from kernelproof.impl.libcontainer.process.maps import WriteIdMaps
else:
    from kernelproof.impl._syscalls.late import Late

    rendezvous = Late("kernelproof.impl.libcontainer.process.rendezvous")

_OUTER = ("user", "pid", "time")  # kinds that a process can be born in only


class Request:
    """How a container is to be started, beside its configuration.

    Attributes:
        id: its name.
        bundle: absolute path of its bundle.
        waits: whether it waits for a `start` after this process has ended; else the program begins at once.
        console_socket: path of the socket that gets the terminal's master.
        streams: whether standard streams come with the request.
        no_pivot, no_new_keyring: as the options of these names.
        preserved: how many descriptors, from 3 on, the program gets.
        notifies: whether the program gets a socket for READY=1.
        cgroup_manager: who makes the cgroup: cgroupfs, systemd or, for none at all, disabled.
    """

    __slots__ = (
        "bundle",
        "cgroup_manager",
        "console_socket",
        "id",
        "no_new_keyring",
        "no_pivot",
        "notifies",
        "preserved",
        "streams",
        "waits",
    )

    def __init__(
        self,
        identifier: str,
        bundle: str,
        *,
        waits: bool = True,
        console_socket: str = "",
        streams: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserved: int = 0,
        cgroup_manager: str = "cgroupfs",
        notifies: bool = False,
    ) -> None:
        self.id = identifier
        self.bundle = bundle
        self.waits = waits
        self.console_socket = console_socket
        self.streams = streams
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.preserved = preserved
        self.cgroup_manager = cgroup_manager
        self.notifies = notifies


class Recorded(Operation):
    """Writes the container's state: from here on it is created, and anybody can start, kill or delete it."""

    __slots__ = ()
    stage = "host"

    def describe(self) -> str:
        """What will happen."""
        return "write the state: created"

    def prepare(self, site: Site) -> None:
        """Finds out who the process is."""
        identify = site.found["identify"]
        assert callable(identify)
        identify()

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ENOSPC, EROFS: the state or the pid file can't be written.
        """
        record = site.found["record"]
        assert callable(record)
        record()


def root_path(config: Config, bundle: str) -> str:
    """The absolute path of the root filesystem, which counts from the bundle.

    Raises:
        ValueError: the configuration has none.
    """
    if config.root is None:
        raise ValueError("root: a container has a root filesystem")
    return os.path.normpath(os.path.join(bundle, config.root.path))


def hook_document(config: Config, request: Request) -> dict[str, object]:
    """The state that hooks get, without status and pid."""
    return {"id": request.id, "bundle": request.bundle, "annotations": dict(config.annotations)}


def plan_container(config: Config, host: Host, request: Request) -> tuple[Operation, ...]:
    """The operations that start a container.

    Raises:
        ValueError: the configuration has no root; or no process, and the program is to begin at once.
        ConfigError: it asks for what this host lacks.
    """
    refuse_host(config, host)
    process = config.process
    if process is None:
        if not request.waits:
            raise ValueError("process: there is nothing to run: the configuration has none")
        process = Process("/")  # for what waits in its place
        config = config.replace(process=process)
    division = Division(config.linux.namespaces)
    hooks = config.hooks or Hooks()
    document = hook_document(config, request)
    rooms = plan_rooms(config, host, request)
    cgroup, entering, limits = plan_cgroup(config, host, request)
    notify, binding = plan_notify(request)

    def hooked(kind: str) -> tuple[Operation, ...]:
        wanted = getattr(hooks, _HOOK_FIELDS[kind])
        if not wanted:
            return ()
        from kernelproof.impl.libcontainer.hooks import plan_hooks  # measured: 1 ms, and most containers have none

        if kind == "startContainer":  # it runs in the container: the runtime's environment is none of its business
            wanted = tuple(hook if hook.env is not None else hook.replace(env=process.env) for hook in wanted)
        return plan_hooks(kind, wanted, document)

    return (
        *cgroup,
        *notify,
        *(operation for operation in rooms if operation.stage == "host" and not is_late(operation)),
        *((rendezvous.OpenRendezvous(),) if request.waits else ()),
        *plan_birth(config, host, division, entering, streams=request.streams),
        *(operation for operation in rooms if is_late(operation)),
        *plan_names(config),
        *hooked("prestart"),
        *hooked("createRuntime"),
        *(operation for operation in rooms if operation.stage == "init"),
        *binding,
        *hooked("createContainer"),
        *(operation for operation in rooms if operation.stage == "root"),
        *((UseTerminal(),) if process.terminal else ()),
        *((FindProgram(process.cwd, process.args[0], path_of(process), process.user.uid),) if process.args else ()),
        *((SendConsole(request.console_socket),) if request.console_socket else ()),
        *limits,
        Recorded(),
        *plan_start(config, process, request, rooms, hooked("startContainer")),
    )


def plan_start(
    config: Config, process: Process, request: Request, rooms: tuple[Operation, ...], hooked: tuple[Operation, ...]
) -> tuple[Operation, ...]:
    """From the wait for the start to the program; without a program, the wait is all there is.

    Args:
        hooked: the hooks that come right before the program.
    """
    if not process.args:
        from kernelproof.impl.libcontainer.process.idling import RefuseStart  # measured: hardly any has none

        return (RefuseStart(),)
    return (
        *((rendezvous.AwaitStart(),) if request.waits else ()),
        EnterDirectory(True, process.cwd),
        *plan_end(rooms),
        *((LoadFilter(),) if hooked and config.linux.seccomp is not None else ()),
        *hooked,
        BecomeProgram(process.args, process.env),
    )


_HOOK_FIELDS = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
}


def plan_names(config: Config) -> tuple[Operation, ...]:
    """The names of a container's host."""
    if config.hostname is None and config.domainname is None:
        return ()
    return (SetNames(config.domainname, config.hostname),)


def plan_end(rooms: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The operations of the last stage; the program is announced before a filter is loaded that may forbid it."""
    final = [operation for operation in rooms if operation.stage == "final"]
    place = next((number for number, one in enumerate(final) if isinstance(one, CloseOnExec)), len(final) - 1)
    return (*final[: place + 1], Announce(), *final[place + 1 :])


def path_of(process: Process) -> str:
    """Where a program is looked for that is named without a slash."""
    return environment(process.env).get("PATH", DEFAULT_PATH)


def is_late(operation: Operation) -> bool:
    """Whether an operation of the host needs the container's namespaces, and so its process."""
    return operation.stage == "host" and bool(getattr(operation, "late", False))


def plan_cgroup(config: Config, host: Host, request: Request) -> tuple[tuple[Operation, ...], ...]:
    """The cgroup of a container: how it is made before the process, how the process enters it, how it is limited."""
    linux = config.linux
    resources = linux.resources
    if request.cgroup_manager == "disabled":
        return (), (), ()
    if request.cgroup_manager == "systemd":
        from kernelproof.impl.libcontainer.scopes import plan_scope  # measured: 20 modules that few need

        entered, limited = plan_scope(linux, request.id, is_user=host.uid != 0)
        return (), (*entered, *_plan_owner(config)), limited
    required = linux.cgroups_path is not None or (resources is not None and resources.values() != ())
    made = MakeCgroup(cgroup_name(linux.cgroups_path, request.id), required)
    entered = (EnterCgroup(), UseAllCpus(), *_plan_owner(config))
    return (made,), entered, (SetLimits(resources),) if resources is not None else ()


def _plan_owner(config: Config) -> tuple[Operation, ...]:
    if all("ro" in one.options for one in config.mounts if one.type in ("cgroup", "cgroup2")):
        return ()
    from kernelproof.impl.libcontainer.owning import plan_owner  # measured: few may write in their cgroup

    return plan_owner(config)


def plan_notify(request: Request) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """The socket for READY=1: made by the runtime, bound inside."""
    if not request.notifies:
        return (), ()
    from kernelproof.impl.libcontainer.notifying import BindNotify, MakeNotify  # measured: few are services of systemd

    return (MakeNotify(not request.waits),), (BindNotify(),)


def plan_birth(
    config: Config, host: Host, division: Division, entering: tuple[Operation, ...], *, streams: bool
) -> tuple[Operation, ...]:
    """The process and its namespaces.

    A new user or PID namespace alone is made by the clone itself. Where one of those that a process can be born in only
    is of a path, or a time namespace is made, or something is joined besides a new user namespace, a scout goes ahead.
    """
    joined = tuple(kind for kind, _ in division.joined)
    outer_joined = tuple(kind for kind in joined if kind in _OUTER)
    maps = plan_maps(config, host) if "user" in division.new else None
    # What host rights allow must be joined before the user namespace is joined or made.
    before_user = ("user" in joined or (maps is not None and host.uid == 0)) and "mount" not in joined
    scouted = bool(outer_joined) or "time" in division.new or ("user" in division.new and before_user and bool(joined))
    if scouted:
        first = joined if before_user else outer_joined
        outer_new = tuple(kind for kind in division.new if kind in _OUTER)
        birth: tuple[Operation, ...] = (MakeProcessByScout(False, first, maps, outer_new, format_offsets(config)),)
    else:
        first = ()
        birth = (MakeProcess(tuple(kind for kind in ("user", "pid") if kind in division.new)),)
        birth = (*birth, maps) if maps is not None else birth
    inner_joined = tuple(kind for kind in joined if kind not in first)
    inner_new = tuple(kind for kind in division.new if kind not in _OUTER)
    return (
        *((OpenNamespaces(division.joined),) if joined else ()),
        *birth,
        *(plan_agreement(config) if "user" in joined else ()),
        *entering,
        *((TakeStreams(),) if streams else ()),
        MakeSession(),
        *((BecomeRoot(maps is None or maps.groups),) if maps is not None or "user" in joined else ()),
        *((JoinNamespaces(inner_joined),) if inner_joined else ()),
        *((MakeNamespaces(inner_new),) if inner_new else ()),
        MakeUndumpable(),
    )


def plan_agreement(config: Config) -> tuple[Operation, ...]:
    """How the ID maps of a user namespace that is joined are compared with the configuration's, if it has any."""
    linux = config.linux
    if not linux.uid_mappings and not linux.gid_mappings:
        return ()
    from kernelproof.impl.libcontainer.process.agreeing import CompareIdMaps  # measured: few join a user namespace

    return (CompareIdMaps(linux.gid_mappings, linux.uid_mappings),)


def plan_maps(config: Config, host: Host) -> WriteIdMaps:
    """How the IDs of a new user namespace are mapped: by us with rights or for us alone, else by helpers."""
    from kernelproof.impl.libcontainer.process.maps import WriteIdMaps  # measured: few have a user namespace

    linux = config.linux
    privileged = host.has(7) and host.has(6)  # CAP_SETUID, CAP_SETGID
    alone = all(sum(one.size for one in maps) <= 1 for maps in (linux.uid_mappings, linux.gid_mappings))
    helper = not privileged and not alone
    return WriteIdMaps(linux.gid_mappings, privileged or helper, helper, linux.uid_mappings)


def format_offsets(config: Config) -> str:
    """The text of /proc/PID/timens_offsets."""
    return "".join(
        [f"{clock} {offset.secs} {offset.nanosecs}\n" for clock, offset in sorted(config.linux.time_offsets)]
    )


def plan_rooms(config: Config, host: Host, request: Request) -> tuple[Operation, ...]:
    """What the root filesystem, the network and security ask for, each in its order."""
    if request.no_pivot:
        config = config.replace(no_pivot_root=True)
    container = Container(
        request.id, request.bundle, new_keyring=not request.no_new_keyring, preserved=request.preserved
    )
    return (
        *plan_network(config, host),
        *plan_rootfs(config, host, request.bundle),
        *plan_security(config, host, container),
    )


def describe(operations: tuple[Operation, ...]) -> list[str]:
    """A plan as lines for people, each with its stage."""
    return [f"{operation.stage:5} {operation.describe()}" for operation in operations]


def stages(operations: tuple[Operation, ...]) -> Mapping[str, int]:
    """How many operations each stage has."""
    counts: dict[str, int] = {}
    for operation in operations:
        counts[operation.stage] = counts.get(operation.stage, 0) + 1
    return counts
