"""Whether this host has what a configuration asks for: from facts, nothing is looked up.

Labels of security modules are refused where they are planned, as what may stand for them depends on more.

Source: OCI runtime specification 1.3, config-linux.md: "Namespaces", "Unified", "IntelRdt"; config.md, "Mounts".
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.findings import Findings
from kernelproof.impl.libcontainer.config.problems import ConfigError

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import Protocol

    from kernelproof.impl.libcontainer.config.records import Config

    class Facts(Protocol):
        """What is asked of the facts: `facts.Host` has it."""

        cgroup_version: int
        kinds: tuple[str, ...]

        @property
        def is_rootless(self) -> bool:
            """Whether the runtime lacks what root has."""


# Kind in the configuration -> its file below /proc/self/ns.
_FILES = {"mount": "mnt", "network": "net"}


def check_host(config: Config, host: Facts) -> Findings:
    """What a host can't give."""
    found = Findings()
    linux = config.linux
    for index, namespace in enumerate(linux.namespaces):
        if _FILES.get(namespace.type, namespace.type) not in host.kinds:
            rule = "this kernel has no such namespaces"
            found.wrong(f"$.linux.namespaces[{index}].type", namespace.type, rule, "It was built without them")
    if linux.resources is not None and linux.resources.unified and host.cgroup_version == 1:
        rule = "files of cgroup v2 can't be written: this host has version 1"
        found.wrong("$.linux.resources.unified", None, rule, "Use memory, cpu, pids …")
    if linux.intel_rdt is not None:
        found.wrong("$.linux.intelRdt", None, "resctrl is not used by this runtime", "Remove it")
    if host.is_rootless:
        for index, mount in enumerate(config.mounts):
            if mount.uid_mappings or "idmap" in mount.options or "ridmap" in mount.options:
                rule = "only root can map the IDs of a mount"
                found.wrong(f"$.mounts[{index}]", mount.destination, rule, "Map them in the user namespace")
    return found


def refuse_host(config: Config, host: Facts) -> None:
    """Refuses a configuration that this host can't run.

    Raises:
        ConfigError: all that is missing.
    """
    found = check_host(config, host)
    if found.problems:
        raise ConfigError("this host", found.problems)
