"""What this runtime knows: the features document of the specification. It tells of the build, not of the host.

Source: OCI runtime specification 1.3, features.md and features-linux.md.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.templates import VERSION


def describe_features() -> dict[str, object]:
    """The features as a JSON value; what is absent is unknown, which is another thing than false."""
    options = (*names.MOUNT_FLAGS, *names.MOUNT_RECURSIVE, *names.MOUNT_EXTENSIONS, *names.PROPAGATIONS)
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(names.HOOKS),
        "mountOptions": sorted(options),
        "annotations": {},
        # Annotations never change what is done.
        "potentiallyUnsafeConfigAnnotations": [],
        "linux": _describe_linux(),
    }


def _describe_linux() -> dict[str, object]:
    return {
        "namespaces": list(names.NAMESPACES),
        "capabilities": list(names.CAPABILITIES),
        "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": {
            "enabled": True,
            "actions": sorted(names.SECCOMP_ACTIONS),
            "operators": sorted(names.SECCOMP_OPERATORS),
            "archs": sorted(names.SECCOMP_ARCHITECTURES),
            "knownFlags": sorted(names.SECCOMP_FLAGS),
            "supportedFlags": sorted(names.SECCOMP_FLAGS),
        },
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
        "memoryPolicy": {"modes": list(names.MEMORY_POLICY_MODES), "flags": list(names.MEMORY_POLICY_FLAGS)},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }
