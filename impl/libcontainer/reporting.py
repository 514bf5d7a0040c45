"""What this kernel and this user can do, as values: what is there, what is not, and why; before anything is started.

    for ability in capabilities_report(read_host()): print(ability)

A start refuses what it can't do; nothing is left out silently. What it may leave out, because the configuration lets it
(a Landlock policy that is not strict, a cgroup that nobody asked for), is in `granted`.

Source: proc_sys_user(5), proc_sys_kernel(5); landlock(7); seccomp(2); cgroups(7).
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.facts import Host
from kernelproof.impl.libcontainer.namespaces import FILES
from kernelproof.impl.libcontainer.process.maps import remedy
from kernelproof.impl.libcontainer.security.kernel_actions import read_actions

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

_ADMIN, _RESOURCE, _SETUID = 21, 24, 7
_HELPERS = ("newuidmap", "newgidmap")
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin")


class Ability:
    """One thing that a container may ask for.

    Attributes:
        name: such as "namespace time".
        granted: whether it can be had.
        reason: why not, and what helps; or how.
    """

    __slots__ = ("granted", "name", "reason")

    def __init__(self, name: str, granted: bool, reason: str = "") -> None:
        self.name = name
        self.granted = granted
        self.reason = reason

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ability) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __repr__(self) -> str:
        return f"Ability({self.name!r}, {self.granted}, {self.reason!r})"

    def __str__(self) -> str:
        return f"{self.name}: {'yes' if self.granted else 'no'}" + (f" ({self.reason})" if self.reason else "")

    def values(self) -> tuple[str, bool, str]:
        """The three fields."""
        return self.name, self.granted, self.reason


def capabilities_report(host: Host, *, sys: str = "/proc/sys", abi: int | None = None) -> tuple[Ability, ...]:
    """What can be had here.

    Args:
        host: facts.
        sys: where kernel parameters are.
        abi: version of Landlock's interface; asked of the kernel by default.
    """
    return (
        *_namespaces(host, sys),
        _maps(host),
        Ability("cgroups", host.cgroup_version != 0, f"version {host.cgroup_version}" if host.cgroup_version else ""),
        Ability(
            "landlock", (version := _landlock(abi)) > 0, f"interface {version}" if version else "not in this kernel"
        ),
        Ability("seccomp", (actions := read_actions(sys)) != (), ", ".join(actions) or "not in this kernel"),
        *(Ability(f"label {name}", name in host.security_modules) for name in ("apparmor", "selinux")),
        Ability("raise hard limits", host.has(_RESOURCE), "" if host.has(_RESOURCE) else "CAP_SYS_RESOURCE is missing"),
    )


def _namespaces(host: Host, sys: str) -> Iterator[Ability]:
    for kind, file in FILES.items():
        if file not in host.kinds:
            yield Ability(f"namespace {kind}", False, "not in this kernel")
            continue
        limit = _read(f"{sys}/user/max_{file}_namespaces")
        if limit == "0":
            yield Ability(f"namespace {kind}", False, f"{sys}/user/max_{file}_namespaces is 0")
        elif kind == "user" and _is_restricted(host, sys):
            yield Ability("namespace user", False, remedy(f"{sys}/kernel/apparmor_restrict_unprivileged_userns"))
        else:
            inside = kind != "user" and not host.has(_ADMIN)
            yield Ability(f"namespace {kind}", True, "with a user namespace" if inside else "")


def _is_restricted(host: Host, sys: str) -> bool:
    return not host.has(_ADMIN) and _read(f"{sys}/kernel/apparmor_restrict_unprivileged_userns") == "1"


def _maps(host: Host) -> Ability:
    if host.has(_SETUID):
        return Ability("map many ids", True)
    missing = [name for name in _HELPERS if not any(os.access(f"{place}/{name}", os.X_OK) for place in _DIRECTORIES)]
    return Ability("map many ids", not missing, f"{', '.join(missing)} missing" if missing else "by newuidmap")


def _landlock_ability(version: int) -> Ability:
    return Ability("landlock", version > 0, f"interface {version}" if version else "not in this kernel")


def _landlock(abi: int | None) -> int:
    if abi is not None:
        return abi
    from kernelproof.impl.libcontainer.security.landlock import read_abi  # only who asks for the report pays for it

    return read_abi()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def granted(config: Config, host: Host, *, sys: str = "/proc/sys", abi: int | None = None) -> tuple[Ability, ...]:
    """What a configuration asks for, each granted or refused, with the reason; in the report's order."""
    asked = {f"namespace {one.type}" for one in config.linux.namespaces}
    if config.linux.uid_mappings and sum(one.size for one in config.linux.uid_mappings) > 1:
        asked.add("map many ids")
    if config.linux.resources is not None:
        asked.add("cgroups")
    if config.landlock is not None:
        asked.add("landlock")
    if config.linux.seccomp is not None:
        asked.add("seccomp")
    if config.process is not None:
        asked |= {"label apparmor"} if config.process.apparmor_profile else set()
        asked |= {"label selinux"} if config.process.selinux_label else set()
    return tuple(one for one in capabilities_report(host, sys=sys, abi=abi) if one.name in asked)
