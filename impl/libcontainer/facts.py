"""Facts of the host that a plan depends on, read once: so that planning itself touches nothing."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.layout import Hierarchy, Layout


class Host:
    """What is here.

    Attributes:
        uid: effective, of the runtime.
        capabilities: the runtime's permitted ones, a bit each.
        cgroup_version: 2, 1 (also where both are), 0 for none.
        security_modules: names of the Linux security modules that are on, in order.
        kinds: kinds of namespaces that this kernel has, by their files below /proc/self/ns.
        release: of the kernel, as uname(2) has it; for reports, not to decide by.
    """

    __slots__ = ("_layout", "capabilities", "cgroup_version", "kinds", "release", "security_modules", "uid")

    def __init__(
        self,
        uid: int = 0,
        capabilities: int = (1 << 41) - 1,
        cgroup_version: int = 2,
        security_modules: tuple[str, ...] = (),
        kinds: tuple[str, ...] = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"),
        release: str = "",
    ) -> None:
        self.uid = uid
        self.capabilities = capabilities
        self.cgroup_version = cgroup_version
        self.security_modules = security_modules
        self.kinds = kinds
        self.release = release
        self._layout: Layout | None = None

    @property
    def layout(self) -> Layout:
        """Which hierarchies of cgroups are mounted, read when it is asked for first.

        Raises:
            OSError: no procfs.
        """
        if self._layout is None:
            # Measured: 10 ms, and most containers mount no cgroups.
            from kernelproof.impl.cgroups.layout import read_layout

            self._layout = read_layout()
        return self._layout

    @property
    def known_layout(self) -> Layout | None:
        """The same if it was read by now."""
        return self._layout

    @property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """The hierarchies of cgroups that are mounted; errors as `layout`."""
        return self.layout.hierarchies

    @property
    def is_rootless(self) -> bool:
        """Whether the runtime lacks what root has: CAP_SYS_ADMIN over the host."""
        return not self.has(21)

    def has(self, capability: int) -> bool:
        """Whether the runtime has a capability, by its number."""
        return bool(self.capabilities >> capability & 1)


def parse_permitted(status: str) -> int:
    """The permitted capabilities of /proc/PID/status.

    Raises:
        ValueError: there is no such line.
    """
    for line in status.split("\n"):
        if line.startswith("CapPrm:"):
            return int(line[7:], 16)
    raise ValueError("no line CapPrm in /proc/self/status")


def read_host(*, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup", security: str = "/sys/kernel/security") -> Host:
    """Reads the facts.

    Raises:
        OSError: no procfs.
    """
    with open(f"{proc}/self/status", encoding="utf-8", errors="replace") as file:
        permitted = parse_permitted(file.read())
    kinds = tuple(sorted(name for name in os.listdir(f"{proc}/self/ns") if "_" not in name))
    return Host(
        os.geteuid(), permitted, _read_cgroup_version(cgroups), _read_modules(security), kinds, os.uname().release
    )


def _read_cgroup_version(path: str) -> int:
    # Of a hierarchy of version 2 each directory has this file; the root of a tmpfs with hierarchies below has not.
    if os.path.exists(f"{path}/cgroup.controllers"):
        return 2
    try:
        names = os.listdir(path)
    except OSError:
        return 0
    return 1 if any(os.path.exists(f"{path}/{name}/cgroup.procs") for name in names) else 0


def _read_modules(path: str) -> tuple[str, ...]:
    try:
        with open(f"{path}/lsm", encoding="utf-8") as file:
            return tuple(file.read().strip().split(","))
    except OSError:
        pass  # nobody has mounted securityfs: those that label programs are found otherwise
    found = ("selinux",) if os.path.exists("/sys/fs/selinux/enforce") else ()
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="utf-8") as file:
            return (*found, "apparmor") if file.read(1) == "Y" else found
    except OSError:
        return found
