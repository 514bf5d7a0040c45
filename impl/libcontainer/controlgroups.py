"""The container's cgroup: made before its process, entered at its birth, limited before its program, removed after it.

Source: OCI runtime specification 1.3, config-linux.md, "Control groups"; clone(2), CLONE_INTO_CGROUP.
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.layout import Layout, read_layout
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer import limiting
    from kernelproof.impl.libcontainer.config.resources import Resources
else:
    from kernelproof.impl._syscalls.late import Late

    limiting = Late("kernelproof.impl.libcontainer.limiting")


_RULES = "device rules"  # among the site's descriptors: the program about devices, loaded and attached nowhere


def cgroup_name(cgroups_path: str | None, identifier: str) -> str:
    """The path of a container's cgroup from the mount point of each hierarchy; `..` climbs nowhere.

    >>> cgroup_name("/a/../../b", "x"), cgroup_name("a", "x"), cgroup_name(None, "x")
    ('b', 'a', 'x')
    """
    return os.path.normpath("/" + (cgroups_path or identifier)).strip("/") or identifier


def open_cgroup(site: Site) -> Cgroup | None:
    """The container's cgroup, if it has one."""
    cgroup = site.found.get("cgroup")
    return cgroup if isinstance(cgroup, Cgroup) else None


class MakeCgroup(Operation):
    """Makes the container's cgroup. It may be there already, but nothing may be in it.

    `required`: whether a host without cgroups, or a caller that may make none, is an error.
    """

    __slots__ = ("name", "required")
    stage = "host"
    name: str
    required: bool

    def describe(self) -> str:
        """What will happen."""
        return f"make the cgroup {self.name}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            NoControllerError: no hierarchy is mounted, or a controller is missing.
            OSError: EBUSY: processes are in it already, or it is frozen; EACCES, EROFS: where one is required.
        """
        try:
            known = site.found.get("layout")
            layout = known if isinstance(known, Layout) else read_layout()
            existed = is_there(self.name, layout)
            cgroup = self._create(layout, existed=existed)
        except (NoControllerError, PermissionError) as error:
            refused = getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS, None)
            if self.required or not refused:
                raise
            return
        if existed:
            try:
                self._refuse_used(cgroup)
            except BaseException:
                cgroup.close()
                raise
        site.found["cgroup"] = cgroup
        site.found["cgroup was there"] = existed
        if cgroup.version == 2 and not existed:
            # Where cgroup.kill was used before, kernels from 6.18 to 7.2 kill what is born there; not what is moved.
            site.found["cgroup directory"] = cgroup.directory.fileno()

    def _refuse_used(self, cgroup: Cgroup) -> None:
        from kernelproof.impl.libcontainer.frozen import is_frozen  # measured: few are there before

        if cgroup.processes():
            raise OSError(errno.EBUSY, "processes are in the cgroup already", self.name)
        if is_frozen(self.name):
            frozen = OSError(errno.EBUSY, "the cgroup is frozen, and so would be what is made in it", self.name)
            frozen.add_note(Remedy("thaw it and those above it (cgroup.freeze, freezer.state)"))
            raise frozen

    def _create(self, layout: Layout, *, existed: bool) -> Cgroup:
        try:
            return Cgroup.create(self.name, layout)
        except OSError:
            if not existed:  # what failed may have come after it was made
                remove_cgroup(self.name)
            raise

    def undo(self, site: Site) -> None:
        """Removes it, unless it was there before."""
        cgroup = open_cgroup(site)
        if cgroup is not None:
            if not site.found.get("cgroup was there"):
                remove_cgroup(self.name)
            cgroup.close()


class EnterCgroup(Operation):
    """Moves the container's process into its cgroup, unless it was born in it."""

    __slots__ = ()
    stage = "host"

    def describe(self) -> str:
        """What will happen."""
        return "move the process into the cgroup, unless it was born there"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EBUSY: its children hold the controllers; ESRCH: the process is gone.
        """
        cgroup = open_cgroup(site)
        pid = site.found["pid"]
        assert isinstance(pid, int)
        if cgroup is not None and not site.found.get("in cgroup"):
            cgroup.add(pid)


class UseAllCpus(Operation):
    """Lets the process run on all CPUs of its cpuset, also if the runtime was bound to some.

    Since Linux 6.2 a process that enters a cpuset keeps to the CPUs that it was bound to before.
    """

    __slots__ = ()
    stage = "host"

    def describe(self) -> str:
        """What will happen."""
        return "let the process run on all CPUs of its cpuset"

    def do(self, site: Site) -> None:
        """Does it, in a cgroup; who has ended, or is another user's, stays as it is."""
        pid = site.found["pid"]
        assert isinstance(pid, int)
        if open_cgroup(site) is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if len(os.sched_getaffinity(pid)) < os.sysconf("SC_NPROCESSORS_ONLN"):
                from kernelproof.impl.cgroups.entering import use_all_cpus  # measured: few are bound

                use_all_cpus(pid)


class SetLimits(Operation):
    """Limits the container's cgroup, last before it is created: what makes a container may need more than it."""

    __slots__ = ("resources",)
    stage = "host"
    resources: Resources

    def describe(self) -> str:
        """What will happen."""
        asked = ", ".join(name for name, _ in self.resources.set_fields())
        return f"limit the cgroup: {asked}"

    def prepare(self, site: Site) -> None:
        """Loads what sets limits, and the program of the rules about devices, which is most of it."""
        cgroup = open_cgroup(site)
        loaded = None if cgroup is None else limiting.prepare_limits(self.resources, cgroup.version)
        if loaded is not None:
            site.descriptors[_RULES] = loaded

    def do(self, site: Site) -> None:
        """Does it; errors as limiting.set_limits."""
        cgroup = open_cgroup(site)
        if cgroup is None:
            return
        loaded = site.descriptors.pop(_RULES, None)
        try:
            limiting.set_limits(cgroup, self.resources, loaded=loaded)
        finally:
            if loaded is not None:
                os.close(loaded)


def is_there(name: str, layout: Layout) -> bool:
    """Whether a cgroup of this name is in one of the hierarchies."""
    return any(os.path.isdir(f"{one.mount_point}/{name}") for one in layout.hierarchies)


def remove_cgroup(name: str, timeout_seconds: float = 10.0) -> None:
    """Kills what is in a container's cgroup and removes it, with what is below.

    Raises:
        StillBusyError: something could not be killed.
        OSError: what the kernel refuses.
    """
    cgroup = find_cgroup(name)
    if cgroup is None:
        return
    with cgroup:
        if cgroup.processes() or cgroup.children():
            cgroup.kill(timeout_seconds)
        cgroup.remove(timeout_seconds)


def find_cgroup(name: str) -> Cgroup | None:
    """Opens the cgroup of a container; None where there is none."""
    try:
        return Cgroup.open(name)
    except (FileNotFoundError, NoControllerError):
        return None
