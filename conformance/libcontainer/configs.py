"""What is asked for: configurations of containers, and their parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
PTS = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}

_NONE: Mapping[str, object] = MappingProxyType({})


def config(
    *args: str, process: Mapping[str, object] = _NONE, linux: Mapping[str, object] = _NONE, **members: object
) -> dict[str, Any]:
    """A config.json: a program in namespaces of its own; `process`, `linux` and other members change it."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": process_of(*args, **process),
        "mounts": [PROC, DEV],
        "linux": {"namespaces": namespaces(*KINDS), **linux},
        **members,
    }


def process_of(*args: str, **members: object) -> dict[str, Any]:
    """A `process`: a program of root's; `members` change it."""
    return {"cwd": "/", "args": list(args), "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **members}


def namespaces(*kinds: str, **paths: object) -> list[dict[str, object]]:
    """`namespaces` of a configuration: new ones, then those that are joined by path."""
    new: list[dict[str, object]] = [{"type": kind} for kind in kinds]
    return new + [{"type": kind, "path": str(path)} for kind, path in paths.items()]


def namespaces_but(kind: str, **paths: object) -> list[dict[str, object]]:
    """New namespaces of all kinds but one, and those that are joined by path."""
    return namespaces(*(each for each in KINDS if each != kind), **paths)


def tmpfs(at: str, *options: str) -> dict[str, object]:
    """A mount of memory."""
    return {"destination": at, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def bind(source: str | Path, at: str, *options: str) -> dict[str, object]:
    """A bind mount; `options` replace `bind`."""
    return {"destination": at, "type": "none", "source": str(source), "options": list(options) or ["bind"]}


def rehearsed(*args: str) -> dict[str, Any]:
    """A config.json with most of what the tests ask for one at a time."""
    process = {
        "capabilities": {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective")},
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}],
    }
    linux = {
        "maskedPaths": ["/proc/kcore", "/data"],
        "readonlyPaths": ["/proc/sys"],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["uselib", "sysfs"], "action": "SCMP_ACT_ERRNO"}],
        },
    }
    return config(*args, process=process, linux=linux, hostname="rehearsed")
