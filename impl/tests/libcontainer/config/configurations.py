"""Configurations of the tests: a right one, changed at a place, and parts that stand in many."""

from __future__ import annotations

import json
from typing import Any

from kernelproof.impl.libcontainer.config.checking import check_config
from kernelproof.impl.libcontainer.config.decoding import read_value
from kernelproof.impl.libcontainer.config.findings import Findings
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.config.templates import default_config


def found(value: dict[str, Any]) -> Findings:
    """What the checks find in a JSON configuration that can be read."""
    reading = read_value(value, Config)
    assert reading.problems == []
    assert isinstance(reading.record, Config)
    return check_config(reading.record)


def changed(**members: object) -> dict[str, Any]:
    """The template of `spec` with members set, by names such as process__user__uid."""
    value: dict[str, Any] = json.loads(default_config().dump())
    for name, member in members.items():
        *parents, last = name.split("__")
        place: Any = value
        for parent in parents:
            place = place.setdefault(parent, {})
        if member is None:
            del place[last]
        else:
            place[last] = member
    return value


def kinds(*listed: object) -> list[dict[str, object]]:
    """A list of namespaces: names, or whole entries."""
    return [entry if isinstance(entry, dict) else {"type": entry} for entry in listed]


ALL = kinds("pid", "network", "ipc", "uts", "mount", "cgroup")
USER = [*ALL, {"type": "user"}]
TIME = [*ALL, {"type": "time"}]
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
MAPPED = {"linux__namespaces": USER, "linux__uidMappings": MAP, "linux__gidMappings": MAP}
BIND = {"destination": "/d", "source": "/s", "options": ["bind"]}
DEVICE = {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW"}
NOTIFY = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
SOCKET = {"listenerPath": "/run/agent.sock"}
MASK = "linux__maskedPaths"


def seccomp(**members: object) -> dict[str, Any]:
    """A filter that allows all, with members set."""
    return {"linux__seccomp": {**ALLOW, **members}}


def rule(**members: object) -> dict[str, Any]:
    """A filter with one rule."""
    return seccomp(syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **members}])
