"""From a configuration to the operations that give the process its final shape. Pure: nothing is read or touched.

The order, and why:

    labels, OOM score, keyring        they are written through procfs, or shared with the host's user
    hard limits raised, scheduling    they need rights that go next; the execution domain comes before any filter
    bounding set                      needs CAP_SETPCAP
    user                              keeps what is permitted
    capabilities                      without no_new_privs CAP_SYS_ADMIN is kept for the two steps that need it then
    no_new_privs, Landlock            nothing is mounted or labelled after it
    limits, descriptors               a small limit would hit this interpreter
    filter                            prepared here, loaded right before the program
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.security.capabilities import (
    SYS_ADMIN,
    FinishCapabilities,
    ForbidNewPrivileges,
    LimitCapabilities,
    SetCapabilities,
    mask_of,
)
from kernelproof.impl.libcontainer.security.descriptors import CloseOnExec
from kernelproof.impl.libcontainer.security.identity import BecomeUser, FindUser, SetUmask, check_id

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Capabilities, Config, Process
    from kernelproof.impl.libcontainer.facts import Host

_UMASK = 0o022  # what other runtimes set where the configuration says nothing
_SYS_RESOURCE = 24


class Container:
    """What is known of the container beside its configuration.

    Attributes:
        id: its name.
        bundle: absolute path of its bundle, for a seccomp agent.
        new_keyring: whether it gets a session keyring of its own.
        preserved: how many descriptors, from 3 on, the program gets.
        is_exec: whether the process enters a container that is there.
    """

    __slots__ = ("bundle", "id", "is_exec", "new_keyring", "preserved")

    def __init__(
        self,
        identifier: str = "",
        bundle: str = "",
        *,
        new_keyring: bool = True,
        preserved: int = 0,
        is_exec: bool = False,
    ) -> None:
        self.id = identifier
        self.bundle = bundle
        self.new_keyring = new_keyring
        self.preserved = preserved
        self.is_exec = is_exec


class LoadFilter(Operation):
    """Loads the filter that is ready, before the program: hooks inside the container are not to escape it."""

    __slots__ = ()
    stage = "final"

    def describe(self) -> str:
        """What will happen."""
        return "load the filter of system calls before the hooks"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            LookupError: no filter was made ready.
            OSError: as seccomp(2).
        """
        load = site.found.pop("filter", None)
        if not callable(load):
            raise LookupError("no filter is ready: FilterCalls comes first")
        load()


def plan_security(config: Config, host: Host, container: Container) -> tuple[Operation, ...]:
    """Return the operations for `process`, `linux.seccomp` and what else of a configuration shapes the process.

    Raises:
        ValueError: a name that nobody knows, a label of a security module that is not on, a filter that can't be
            compiled, an id out of range, no process.
    """
    process = config.process
    if process is None:
        raise ValueError("process: there is none to be shaped")
    # In a user namespace CAP_SYS_RESOURCE is worth nothing here; the runtime may have it.
    outside = host.has(_SYS_RESOURCE) and any(each.type == "user" for each in config.linux.namespaces)
    before, load = _plan_filter(config, container, keeps=not process.no_new_privileges)
    confined = _plan_landlock(config)
    # Without no_new_privs both need CAP_SYS_ADMIN, which the program is perhaps not to have.
    kept = 0 if process.no_new_privileges or not (load or confined) else 1 << SYS_ADMIN
    return (
        *before,
        *_plan_labels(process, host),
        *_plan_oom(process, host, outside=outside),
        *_plan_keyring(container),
        *_plan_hard_limits(process, outside=outside),
        *_plan_scheduling(config, process, is_exec=container.is_exec),
        SetUmask(_UMASK if process.user.umask is None else process.user.umask),
        *_plan_user(process, kept),
        *((ForbidNewPrivileges(),) if process.no_new_privileges else ()),
        *confined,
        *_plan_limits(process),
        CloseOnExec(3 + container.preserved),
        *(load or ((FinishCapabilities(),) if kept else ())),
    )


def _plan_user(process: Process, kept: int) -> tuple[Operation, ...]:
    user = process.user
    if user.lookup is None:
        for number, what in ((user.uid, "process.user.uid"), (user.gid, "process.user.gid")):
            check_id(number, what)
        for place, number in enumerate(user.additional_gids):
            check_id(number, f"process.user.additionalGids[{place}]")
    find = (FindUser(user.lookup),) if user.lookup is not None else ()
    bounding, permitted, effective, inheritable, ambient = _sets(process.granted())
    return (
        *find,
        LimitCapabilities(bounding),
        BecomeUser(user.lookup is not None, user.gid, user.additional_gids, user.uid),
        SetCapabilities(ambient, effective, inheritable, kept, permitted),
    )


def _sets(asked: Capabilities) -> tuple[int, int, int, int, int]:
    # Names that nobody knows, and what can't be ambient, are told by the check of the configuration, and left out here.
    names = (asked.bounding, asked.permitted, asked.effective, asked.inheritable, asked.ambient)
    bounding, permitted, effective, inheritable, ambient = (mask_of(each)[0] for each in names)
    return bounding, permitted, effective, inheritable, ambient & permitted & inheritable


def _plan_filter(
    config: Config, container: Container, *, keeps: bool
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    policy = config.linux.seccomp
    if policy is None:
        return (), ()
    # Measured: 3 ms with its tables, and many containers have no filter.
    from kernelproof.impl.libcontainer.security.filtering import ConnectListener, FilterCalls
    from kernelproof.impl.libcontainer.security.seccomp import compile_seccomp

    program = compile_seccomp(policy)
    state: tuple[tuple[str, object], ...] = (
        ("ociVersion", config.oci_version),
        ("id", container.id),
        ("status", "running" if container.is_exec else "created"),
        ("bundle", container.bundle),
        ("annotations", config.annotations),
    )
    load = FilterCalls(program.flags, keeps, policy.listener_metadata or "", state, program.words)
    before = (ConnectListener(policy.listener_path),) if program.notifies else ()
    return before, (load,)


def _plan_landlock(config: Config) -> tuple[Operation, ...]:
    if config.landlock is None:
        return ()
    from kernelproof.impl.libcontainer.security.landlock import Confine, check_policy  # only who asks pays for it

    check_policy(config.landlock)
    return (Confine(config.landlock),)


def _plan_labels(process: Process, host: Host) -> tuple[Operation, ...]:
    found: list[Operation] = []
    profile = process.apparmor_profile
    if not (profile or process.selinux_label):
        return ()
    from kernelproof.impl.libcontainer.security.labels import (  # only who asks pays for it
        APPARMOR,
        SELINUX,
        UNCONFINED,
        LabelProgram,
    )

    if profile and (APPARMOR in host.security_modules or profile != UNCONFINED):
        found.append(LabelProgram(profile, APPARMOR))
    if process.selinux_label:
        found.append(LabelProgram(process.selinux_label, SELINUX))
    for each in found:
        assert isinstance(each, LabelProgram)
        if each.module not in host.security_modules:
            on = ", ".join(host.security_modules) or "none that can be seen"
            field = "apparmorProfile" if each.module == APPARMOR else "selinuxLabel"
            raise ValueError(
                f"process.{field}: {each.module} is not on here (security modules: {on}): "
                f"boot with lsm=…,{each.module}, or leave {each.label!r} out"
            )
    return tuple(found)


def _plan_oom(process: Process, host: Host, *, outside: bool) -> tuple[Operation, ...]:
    if process.oom_score_adj is None:
        return ()
    # Only who asks pays for it.
    from kernelproof.impl.libcontainer.security.limits import AdjustOomScore, AdjustOomScoreOutside

    if outside:
        return (AdjustOomScoreOutside(process.oom_score_adj),)
    return (AdjustOomScore(process.oom_score_adj, host.is_rootless),)


def _plan_keyring(container: Container) -> tuple[Operation, ...]:
    if not (container.new_keyring and container.id):
        return ()
    from kernelproof.impl.libcontainer.security.keyring import JoinKeyring  # only who asks pays for it

    return (JoinKeyring(f"_ses.{container.id}"),)


def _plan_hard_limits(process: Process, *, outside: bool) -> tuple[Operation, ...]:
    if not process.rlimits:
        return ()
    # Only who asks pays for it.
    from kernelproof.impl.libcontainer.security.limits import RaiseLimit, RaiseLimitOutside, number_of

    names = [each.type for each in process.rlimits]
    for name in names:
        number_of(name)
        if names.count(name) > 1:
            raise ValueError(f"process.rlimits: {name} stands there twice")
    kind = RaiseLimitOutside if outside else RaiseLimit
    return tuple(kind(each.hard, each.type) for each in process.rlimits)


def _plan_limits(process: Process) -> tuple[Operation, ...]:
    if not process.rlimits:
        return ()
    from kernelproof.impl.libcontainer.security.limits import SetLimit  # only who asks pays for it

    return tuple(SetLimit(each.hard, each.type, each.soft) for each in process.rlimits)


def _plan_scheduling(config: Config, process: Process, *, is_exec: bool) -> tuple[Operation, ...]:
    affinity = process.exec_cpu_affinity if is_exec else None
    wanted = (process.scheduler, process.io_priority, config.linux.memory_policy, config.linux.personality, affinity)
    if not any(wanted):
        return ()
    from kernelproof.impl.libcontainer.security.schedules import plan_schedules  # only who asks pays for it

    return plan_schedules(config, process, affinity)
