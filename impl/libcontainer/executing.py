"""A further process in a container: its namespaces are joined, its cgroup entered, and its rights taken on.

Which namespaces are the container's is read from its first process, whose identity is checked once they are open: so
they are not those of a process that was given its pid later.

Source: setns(2); OCI runtime specification 1.3, config-linux.md, "Namespaces".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.libcontainer.config.records import Config, Process
from kernelproof.impl.libcontainer.controlgroups import EnterCgroup, UseAllCpus, find_cgroup, open_cgroup
from kernelproof.impl.libcontainer.facts import Host
from kernelproof.impl.libcontainer.namespaces import FILES
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.plan import is_late, path_of, plan_end
from kernelproof.impl.libcontainer.process.cloning import MakeProcess, MakeProcessByScout, MakeUndumpable
from kernelproof.impl.libcontainer.process.identity import Identity, open_process
from kernelproof.impl.libcontainer.process.joining import PREFIX, BecomeRoot, JoinNamespaces
from kernelproof.impl.libcontainer.process.program import (
    BecomeProgram,
    EnterDirectory,
    FindProgram,
)
from kernelproof.impl.libcontainer.process.streams import MakeSession, SendConsole, TakeStreams, UseTerminal
from kernelproof.impl.libcontainer.rootfs.console import OpenTerminal
from kernelproof.impl.libcontainer.rootfs.entering import EnterChroot
from kernelproof.impl.libcontainer.security.planning import Container, plan_security

_OUTER = ("user", "pid", "time")


def differing_kinds(pid: int, *, proc: str = "/proc") -> tuple[str, ...]:
    """The kinds of namespaces of a process that are not the caller's, in the order of joining.

    Raises:
        OSError: ENOENT, ESRCH: it is gone; EACCES: it may not be looked at.
    """
    found = []
    for kind, file in FILES.items():
        try:
            ours = os.stat(f"{proc}/self/ns/{file}")
        except FileNotFoundError:
            continue  # this kernel has no such namespaces
        theirs = os.stat(f"{proc}/{pid}/ns/{file}")
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            found.append(kind)
    return tuple(found)


class OpenContainer(Operation):
    """Opens the namespaces, or without a mount namespace the root, of a container's first process."""

    __slots__ = ("inode", "kinds", "pid", "start_time")
    stage = "host"
    inode: int
    kinds: tuple[str, ...]
    pid: int
    start_time: int

    def describe(self) -> str:
        """What will happen."""
        return f"open the namespaces of process {self.pid}: {', '.join(self.kinds)}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: ESRCH: the container is not running any more; EACCES.
        """
        for kind in self.kinds:
            site.descriptors[PREFIX + kind] = os.open(f"/proc/{self.pid}/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
        if "mount" not in self.kinds:
            site.descriptors["root"] = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        pidfd = open_process(Identity(self.pid, self.start_time, self.inode))
        if pidfd is None:
            raise ProcessLookupError(errno.ESRCH, "the container is not running any more", str(self.pid))
        os.close(pidfd)


class OpenCgroup(Operation):
    """Opens the container's cgroup, or one below it, for the new process to be born in."""

    __slots__ = ("name",)
    stage = "host"
    name: str

    def describe(self) -> str:
        """What will happen."""
        return f"open the cgroup {self.name}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            FileNotFoundError: the container has no such cgroup.
        """
        cgroup = find_cgroup(self.name)
        if cgroup is None:
            raise FileNotFoundError(errno.ENOENT, "the container has no such cgroup", self.name)
        site.found["cgroup"] = cgroup
        if cgroup.version == 2:
            site.found["cgroup directory"] = cgroup.directory.fileno()


class EnterCgroupOf(EnterCgroup):
    """Moves the process into the container's cgroup; where that can't have processes, into its first process's.

    Where the caller may not, and it is a scope of systemd, by systemd: a user alone can't move a process from elsewhere
    into what is below the user's own service.
    """

    __slots__ = ("pid",)
    pid: int

    def do(self, site: Site) -> None:
        """Does it; errors as EnterCgroup, where the first process's cgroup takes it neither; SystemdError."""
        try:
            super().do(site)
        except OSError as error:
            new = site.found["pid"]
            assert isinstance(new, int)
            if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):
                with Cgroup.of_process(self.pid) as cgroup:
                    cgroup.add(new)
            elif error.errno not in (errno.EACCES, errno.EPERM) or not attach_to_scope(site, new):
                raise


def attach_to_scope(site: Site, pid: int) -> bool:
    """Has systemd move a process into the container's cgroup; False if that is no scope of its.

    Raises:
        NoControllerError, SystemdError, TimeoutError: as scopes.attach.
    """
    cgroup = open_cgroup(site)
    if cgroup is None or not any(part.endswith(".scope") for part in cgroup.name.split("/")):
        return False
    from kernelproof.impl.libcontainer.scopes import attach  # D-Bus: 20 modules that few need

    attach(cgroup.name, pid, is_user=os.geteuid() != 0)
    return True


class OpenOwnRoot(Operation):
    """Opens the root that the process has by now, for what is done below it."""

    __slots__ = ()
    stage = "init"

    def describe(self) -> str:
        """What will happen."""
        return "open the container's root from inside"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EMFILE.
        """
        site.descriptors["root"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class Told(Operation):
    """The runtime's last operation: from here on only the program's beginning is outstanding."""

    __slots__ = ()
    stage = "host"

    def describe(self) -> str:
        """What will happen."""
        return "note the process"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: the pid file can't be written.
        """
        record = site.found["record"]
        assert callable(record)
        record()


def plan_exec(
    config: Config,
    process: Process,
    host: Host,
    target: Identity,
    kinds: tuple[str, ...],
    *,
    cgroup: str = "",
    console_socket: str = "",
    streams: bool = False,
    identifier: str = "",
    bundle: str = "",
    preserved: int = 0,
) -> tuple[Operation, ...]:
    """The operations that start a process in a container.

    Args:
        config: of the container; of it counts what a process must not be without, such as its seccomp filter.
        process: what is started.
        host: facts.
        target: the container's first process.
        kinds: its namespaces that are not the runtime's.
        cgroup: name of the cgroup that is entered; empty for none.
        console_socket: gets the terminal's master.
        streams: whether standard streams come with the request.
        identifier, bundle: the container's, for its keyring and its seccomp agent.
        preserved: how many descriptors, from 3 on, the program gets.
    """
    # From inside a cgroup namespace nobody is born into a cgroup while its parent is outside of that (nsdelegate).
    ahead = tuple(kind for kind in kinds if kind != "cgroup") if any(kind in _OUTER for kind in kinds) else ()
    inner = tuple(kind for kind in kinds if kind not in ahead)
    security = plan_process_security(config, process, host, identifier, bundle, preserved)
    return (
        *(operation for operation in security if operation.stage == "host" and not is_late(operation)),
        OpenContainer(target.inode, kinds, target.pid, target.start_time),
        *((OpenCgroup(cgroup),) if cgroup else ()),
        MakeProcessByScout(True, ahead, None, (), "") if ahead else MakeProcess(()),
        EnterCgroupOf(target.pid),
        *(() if process.exec_cpu_affinity else (UseAllCpus(),)),  # else the kernel decides, by what was named
        *((TakeStreams(),) if streams else ()),
        MakeSession(),
        MakeUndumpable(),
        *(operation for operation in security if operation.stage == "init"),
        *((BecomeRoot(False),) if "user" in kinds else ()),
        *((JoinNamespaces(inner),) if inner else ()),
        *((EnterChroot(),) if "mount" not in kinds else ()),
        *((OpenOwnRoot(),) if "mount" in kinds else ()),
        *_terminal(process),
        *(operation for operation in security if operation.stage == "root"),
        FindProgram(process.cwd, process.args[0], path_of(process), process.user.uid),
        *((SendConsole(console_socket),) if console_socket else ()),
        *(operation for operation in security if is_late(operation)),
        Told(),
        EnterDirectory(False, process.cwd),
        *plan_end(security),
        BecomeProgram(process.args, process.env),
    )


def _terminal(process: Process) -> tuple[Operation, ...]:
    if not process.terminal:
        return ()
    size = process.console_size
    return (OpenTerminal(process.user.uid, size.height if size else 0, size.width if size else 0), UseTerminal())


def plan_process_security(
    config: Config, process: Process, host: Host, identifier: str = "", bundle: str = "", preserved: int = 0
) -> tuple[Operation, ...]:
    """What a process of the container may do, as for the first one, whose capabilities it has if it names none.

    The execution domain and the memory policy are its own, and who shares the container's filter shares its agent.
    """
    container = Container(identifier, bundle, preserved=preserved, is_exec=True)
    if process.capabilities is None and config.process is not None:
        process = process.replace(capabilities=config.process.capabilities)
    return plan_security(config.replace(process=process), host, container)
