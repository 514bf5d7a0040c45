"""Whose a container's cgroup is: its user's, where the container has been given one to write in.

Source: OCI runtime specification 1.3, config-linux.md, "Cgroup ownership"; cgroup-v2, "Delegation".
"""

from __future__ import annotations

import os

from kernelproof.impl.cgroups.delegation import delegate
from kernelproof.impl.libcontainer.controlgroups import open_cgroup
from kernelproof.impl.libcontainer.operations import Operation, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Config


class GiveCgroup(Operation):
    """Gives the cgroup, and the files of it that the kernel lists for that, to a user; its limits stay the host's."""

    __slots__ = ("uid",)
    stage = "host"
    uid: int

    def describe(self) -> str:
        """What will happen."""
        return f"give the cgroup to user {self.uid}"

    def do(self, site: Site) -> None:
        """Does it; on version 1, which knows no delegation, nothing.

        Raises:
            OSError: EPERM: no right to.
        """
        cgroup = open_cgroup(site)
        if cgroup is not None and cgroup.version == 2:
            delegate(cgroup.directory, self.uid, os.fstat(cgroup.directory.fileno()).st_gid)


def plan_owner(config: Config) -> tuple[Operation, ...]:
    """Gives the cgroup to the process's user, as far as the specification lets a runtime do that.

    It does where the container has a new cgroup namespace, and a mount of it that can be written.
    """
    linux, process = config.linux, config.process
    if process is None or process.user.lookup is not None:
        return ()
    kinds = {one.type: one.path for one in linux.namespaces}
    if "cgroup" not in kinds or kinds["cgroup"]:
        return ()
    if not any(one.type in ("cgroup", "cgroup2") and is_writable(one.options) for one in config.mounts):
        return ()
    uid = process.user.uid
    if "user" in kinds:
        maps = linux.uid_mappings  # of a namespace of a path they may be unknown
        outside = [one.host_id + uid - one.container_id for one in maps if 0 <= uid - one.container_id < one.size]
        if not outside:
            return ()
        uid = outside[0]
    return (GiveCgroup(uid),) if uid != 0 else ()


def is_writable(options: tuple[str, ...]) -> bool:
    """Whether a mount with these options can be written to: of `ro` and `rw` the last one holds."""
    words = [word for word in options if word in ("ro", "rw")]
    return not words or words[-1] == "rw"
