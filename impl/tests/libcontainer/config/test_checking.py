"""Checks: each sentence of the specification that a configuration can break, broken once; and edges that hold."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.checking import check_config, parse_version
from kernelproof.impl.libcontainer.config.checking_linux import sysctl_parts
from kernelproof.impl.libcontainer.config.decoding import read_value
from kernelproof.impl.libcontainer.config.findings import Findings
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.config.templates import default_config, rootless_config


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


# What is changed, the path at which it is refused, a piece of the sentence.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "version-words": ({"ociVersion": "latest"}, "$.ociVersion", "semantic version"),
    "version-two-parts": ({"ociVersion": "1.3"}, "$.ociVersion", "semantic version"),
    "version-zero-before": ({"ociVersion": "01.3.0"}, "$.ociVersion", "semantic version"),
    "version-major-2": ({"ociVersion": "2.0.0"}, "$.ociVersion", "before 2"),
    "root-missing": ({"root": None}, "$.root", "required"),
    "root-empty": ({"root__path": ""}, "$.root.path", "needed"),
    "root-of-host": ({"root__path": "//"}, "$.root.path", "host's own root"),
    "cwd-relative": ({"process__cwd": "srv"}, "$.process.cwd", "absolute"),
    "args-empty": ({"process__args": []}, "$.process.args", "program"),
    "args-absent": ({"process__args": None}, "$.process.args", "program"),
    "program-empty": ({"process__args": [""]}, "$.process.args[0]", "empty"),
    "env-without-equals": ({"process__env": ["A=1", "B"]}, "$.process.env[1]", "NAME=value"),
    "env-without-name": ({"process__env": ["=1"]}, "$.process.env[0]", "NAME=value"),
    "uid-minus-one": ({"process__user__uid": 0xFFFFFFFF}, "$.process.user.uid", "can't be an ID"),
    "gid-minus-one": ({"process__user__gid": 0xFFFFFFFF}, "$.process.user.gid", "can't be an ID"),
    "gids-minus-one": ({"process__user__additionalGids": [1, 0xFFFFFFFF]}, "$.process.user.additionalGids[1]", "ID"),
    "umask": ({"process__user__umask": 0o1000}, "$.process.user.umask", "octal 0777"),
    "rlimit-unknown": (
        {"process__rlimits": [{"type": "RLIMIT_FILES", "hard": 1, "soft": 1}]},
        "$.process.rlimits[0].type",
        "no limit",
    ),
    "rlimit-twice": (
        {"process__rlimits": [{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}] * 2},
        "$.process.rlimits[1].type",
        "twice",
    ),
    "rlimit-soft-above": (
        {"process__rlimits": [{"type": "RLIMIT_CPU", "hard": 1, "soft": 2}]},
        "$.process.rlimits[0].soft",
        "above the hard limit",
    ),
    "oom-score": ({"process__oomScoreAdj": 1001}, "$.process.oomScoreAdj", "-1000 to 1000"),
    "console-size": ({"process__consoleSize": {"height": 65536, "width": 1}}, "$.process.consoleSize", "65535"),
    "scheduler-policy": ({"process__scheduler": {"policy": "SCHED_FAST"}}, "$.process.scheduler.policy", "policy"),
    "scheduler-flag": (
        {"process__scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}},
        "$.process.scheduler.flags[0]",
        "flag",
    ),
    "scheduler-nice": ({"process__scheduler": {"policy": "SCHED_OTHER", "nice": 20}}, "$.process.scheduler.nice", "19"),
    "scheduler-nice-of-fifo": (
        {"process__scheduler": {"policy": "SCHED_FIFO", "nice": 1}},
        "$.process.scheduler.nice",
        "no nice",
    ),
    "scheduler-priority-of-other": (
        {"process__scheduler": {"policy": "SCHED_OTHER", "priority": 1}},
        "$.process.scheduler.priority",
        "no priority",
    ),
    "scheduler-priority": (
        {"process__scheduler": {"policy": "SCHED_RR", "priority": 100}},
        "$.process.scheduler.priority",
        "0 to 99",
    ),
    "scheduler-runtime-of-other": (
        {"process__scheduler": {"policy": "SCHED_OTHER", "runtime": 1}},
        "$.process.scheduler.runtime",
        "only SCHED_DEADLINE",
    ),
    "scheduler-deadline": (
        {"process__scheduler": {"policy": "SCHED_DEADLINE", "runtime": 3, "deadline": 2}},
        "$.process.scheduler",
        "runtime <= deadline",
    ),
    "io-class": ({"process__ioPriority": {"class": "IOPRIO_CLASS_X"}}, "$.process.ioPriority.class", "class"),
    "io-level": (
        {"process__ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}},
        "$.process.ioPriority.priority",
        "0 to 7",
    ),
    "affinity": ({"process__execCPUAffinity": {"final": "a-b"}}, "$.process.execCPUAffinity.final", "ranges"),
    "affinity-backwards": (
        {"process__execCPUAffinity": {"initial": "3-1"}},
        "$.process.execCPUAffinity.initial",
        "back",
    ),
    "hostname-of-host": (
        {"hostname": "x", "linux__namespaces": kinds("pid", "mount", "network")},
        "$.hostname",
        "no UTS namespace",
    ),
    "domainname-of-host": (
        {"hostname": None, "domainname": "x", "linux__namespaces": kinds("mount")},
        "$.domainname",
        "no UTS namespace",
    ),
    "hostname-long": ({"hostname": "x" * 65}, "$.hostname", "64 bytes"),
    "mount-destination": ({"mounts": [{"destination": "", "type": "proc"}]}, "$.mounts[0].destination", "path"),
    "mount-source": ({"mounts": [{"destination": "/d", "options": ["rbind"]}]}, "$.mounts[0].source", "source"),
    "mount-type": ({"mounts": [{"destination": "/d"}]}, "$.mounts[0].type", "type is needed"),
    "mount-data-of-bind": (
        {"mounts": [{**BIND, "options": ["bind", "size=1m"]}]},
        "$.mounts[0].options[1]",
        "no options of a filesystem",
    ),
    "mount-copy": (
        {"mounts": [{"destination": "/d", "type": "proc", "options": ["tmpcopyup"]}]},
        "$.mounts[0].options",
        "only a tmpfs",
    ),
    "mount-one-mapping": ({"mounts": [{**BIND, "uidMappings": MAP}]}, "$.mounts[0]", "given together"),
    "mount-mapped-tmpfs": (
        {"mounts": [{"destination": "/d", "type": "tmpfs", "uidMappings": MAP, "gidMappings": MAP}]},
        "$.mounts[0].uidMappings",
        "only a bind",
    ),
    "hook-relative": ({"hooks": {"poststop": [{"path": "true"}]}}, "$.hooks.poststop[0].path", "absolute"),
    "hook-timeout": (
        {"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}},
        "$.hooks.prestart[0].timeout",
        "at least 1",
    ),
    "hook-env": ({"hooks": {"poststart": [{"path": "/x", "env": ["A"]}]}}, "$.hooks.poststart[0].env[0]", "NAME=value"),
    "annotation-key": ({"annotations": {"": "x"}}, '$.annotations[""]', "empty"),
    "namespace-unknown": ({"linux__namespaces": [*ALL, {"type": "net"}]}, "$.linux.namespaces[6].type", "no namespace"),
    "namespace-twice": ({"linux__namespaces": [*ALL, {"type": "pid"}]}, "$.linux.namespaces[6].type", "twice"),
    "namespace-path": (
        {"linux__namespaces": [*ALL[1:], {"type": "pid", "path": "ns/pid"}]},
        "$.linux.namespaces[5].path",
        "absolute",
    ),
    "user-without-maps": (
        {"linux__namespaces": USER, "linux__gidMappings": MAP},
        "$.linux.uidMappings",
        "needs mappings",
    ),
    "maps-without-user": ({"linux__uidMappings": MAP}, "$.linux.uidMappings", "no user namespace"),
    "map-empty": (
        {**MAPPED, "linux__uidMappings": [*MAP, {"containerID": 70000, "hostID": 1, "size": 0}]},
        "$.linux.uidMappings[1].size",
        "at least one",
    ),
    "map-beyond": (
        {**MAPPED, "linux__uidMappings": [*MAP, {"containerID": 70000, "hostID": 0xFFFFFFFF, "size": 1}]},
        "$.linux.uidMappings[1].hostID",
        "32 bits",
    ),
    "map-overlap-inside": (
        {**MAPPED, "linux__uidMappings": [*MAP, {"containerID": 65535, "hostID": 1, "size": 9}]},
        "$.linux.uidMappings[1]",
        "overlaps $.linux.uidMappings[0] inside",
    ),
    "map-overlap-outside": (
        {**MAPPED, "linux__gidMappings": [{"containerID": 70000, "hostID": 99999, "size": 2}, *MAP]},
        "$.linux.gidMappings[1]",
        "overlaps $.linux.gidMappings[0] outside",
    ),
    "maps-many": (
        {**MAPPED, "linux__uidMappings": [{"containerID": i, "hostID": i, "size": 1} for i in range(341)]},
        "$.linux.uidMappings",
        "340",
    ),
    "uid-not-mapped": ({**MAPPED, "process__user__uid": 65536}, "$.process.user.uid", "does not map"),
    "gids-not-mapped": (
        {**MAPPED, "process__user__additionalGids": [65536]},
        "$.process.user.additionalGids[0]",
        "does not map",
    ),
    "clock-without-time": (
        {"linux__timeOffsets": {"boottime": {"secs": 1}}},
        "$.linux.timeOffsets",
        "no time namespace",
    ),
    "clock-of-joined": (
        {"linux__namespaces": [*ALL, {"type": "time", "path": "/t"}], "linux__timeOffsets": {"boottime": {"secs": 1}}},
        "$.linux.timeOffsets",
        "joined",
    ),
    "clock-unknown": (
        {"linux__namespaces": TIME, "linux__timeOffsets": {"realtime": {"secs": 1}}},
        "$.linux.timeOffsets.realtime",
        "no clock",
    ),
    "clock-nanoseconds": (
        {"linux__namespaces": TIME, "linux__timeOffsets": {"monotonic": {"nanosecs": 10**9}}},
        "$.linux.timeOffsets.monotonic.nanosecs",
        "999999999",
    ),
    "masked-of-host": (
        {"hostname": None, "linux__namespaces": kinds("pid"), "linux__readonlyPaths": []},
        "$.linux.maskedPaths",
        "no mount namespace",
    ),
    "masked-relative": ({MASK: ["proc/kcore"]}, "$.linux.maskedPaths[0]", "absolute"),
    "propagation": ({"linux__rootfsPropagation": "rrslave"}, "$.linux.rootfsPropagation", "propagation"),
    "device-type": ({"linux__devices": [{**DEVICE, "type": "x"}]}, "$.linux.devices[0].type", "type of device"),
    "device-path": ({"linux__devices": [{**DEVICE, "path": "fuse"}]}, "$.linux.devices[0].path", "absolute"),
    "device-major": ({"linux__devices": [{**DEVICE, "major": 4096}]}, "$.linux.devices[0].major", "4095"),
    "device-minor": (
        {"linux__devices": [{"type": "b", "path": "/d", "major": 1}]},
        "$.linux.devices[0].minor",
        "required",
    ),
    "device-mode": ({"linux__devices": [{**DEVICE, "fileMode": 1 << 16}]}, "$.linux.devices[0].fileMode", "7777"),
    "interface-without-network": (
        {"linux__namespaces": kinds("mount", "uts"), "linux__netDevices": {"eth0": {}}},
        "$.linux.netDevices",
        "no network namespace",
    ),
    "interface-long": ({"linux__netDevices": {"x" * 16: {}}}, "$.linux.netDevices." + "x" * 16, "15 bytes"),
    "interface-slash": ({"linux__netDevices": {"eth0": {"name": "a/b"}}}, "$.linux.netDevices.eth0.name", "without /"),
    "interface-pattern": ({"linux__netDevices": {"eth0": {"name": "a%s"}}}, "$.linux.netDevices.eth0.name", "%d"),
    "interface-twice": (
        {"linux__netDevices": {"eth0": {"name": "a"}, "eth1": {"name": "a"}}},
        "$.linux.netDevices.eth1",
        "two interfaces",
    ),
    "sysctl-of-host": ({"linux__sysctl": {"vm.swappiness": "1"}}, '$.linux.sysctl["vm.swappiness"]', "no namespace"),
    "sysctl-hostname": ({"linux__sysctl": {"kernel.hostname": "x"}}, '$.linux.sysctl["kernel.hostname"]', "own"),
    "sysctl-ipc": (
        {"linux__namespaces": kinds("mount", "uts"), "linux__sysctl": {"kernel.shmmax": "1"}},
        '$.linux.sysctl["kernel.shmmax"]',
        "no ipc namespace",
    ),
    "sysctl-net": (
        {"linux__namespaces": kinds("mount", "uts"), "linux__sysctl": {"net/ipv4/ip_forward": "1"}},
        '$.linux.sysctl["net/ipv4/ip_forward"]',
        "no network namespace",
    ),
    "sysctl-climbs": ({"linux__sysctl": {"net/../vm/x": "1"}}, '$.linux.sysctl["net/../vm/x"]', "no key"),
    "personality": ({"linux__personality": {"domain": "BSD"}}, "$.linux.personality.domain", "personality"),
    "personality-flags": (
        {"linux__personality": {"domain": "LINUX", "flags": ["X"]}},
        "$.linux.personality.flags",
        "no fl",
    ),
    "memory-policy-mode": ({"linux__memoryPolicy": {"mode": "X", "nodes": "0"}}, "$.linux.memoryPolicy.mode", "mode"),
    "memory-policy-flag": (
        {"linux__memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}},
        "$.linux.memoryPolicy.flags[0]",
        "flag",
    ),
    "memory-policy-flags": (
        {"linux__memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": list(names.MEMORY_POLICY_FLAGS[:2])}},
        "$.linux.memoryPolicy.flags",
        "exclude",
    ),
    "memory-policy-no-nodes": (
        {"linux__memoryPolicy": {"mode": "MPOL_BIND"}},
        "$.linux.memoryPolicy.nodes",
        "needs nodes",
    ),
    "memory-policy-nodes": (
        {"linux__memoryPolicy": {"mode": "MPOL_LOCAL", "nodes": "0"}},
        "$.linux.memoryPolicy.nodes",
        "takes no nodes",
    ),
    "rdt-climbs": ({"linux__intelRdt": {"closID": ".."}}, "$.linux.intelRdt.closID", "one directory"),
    "rdt-lines": (
        {"linux__intelRdt": {"l3CacheSchema": "L3:0=f\nL2:0=f"}},
        "$.linux.intelRdt.l3CacheSchema",
        "one line",
    ),
    "rdt-memory": ({"linux__intelRdt": {"memBwSchema": "L3:0=f"}}, "$.linux.intelRdt.memBwSchema", "MB:"),
    "seccomp-action": (seccomp(defaultAction="ALLOW"), "$.linux.seccomp.defaultAction", "action"),
    "seccomp-errno-of-allow": (seccomp(defaultErrnoRet=1), "$.linux.seccomp.defaultErrnoRet", "has no errno"),
    "seccomp-errno": (rule(errnoRet=4096), "$.linux.seccomp.syscalls[0].errnoRet", "4095"),
    "seccomp-errno-of-kill": (
        rule(action="SCMP_ACT_KILL", errnoRet=1),
        "$.linux.seccomp.syscalls[0].errnoRet",
        "has no errno",
    ),
    "seccomp-architecture": (seccomp(architectures=["X86"]), "$.linux.seccomp.architectures[0]", "architecture"),
    "seccomp-flag": (seccomp(flags=["LOG"]), "$.linux.seccomp.flags[0]", "flag"),
    "seccomp-rule-action": (rule(action="KILL"), "$.linux.seccomp.syscalls[0].action", "action"),
    "seccomp-names": (rule(names=[]), "$.linux.seccomp.syscalls[0].names", "at least one"),
    "seccomp-operator": (
        rule(args=[{"index": 0, "value": 1, "op": "EQ"}]),
        "$.linux.seccomp.syscalls[0].args[0].op",
        "operator",
    ),
    "seccomp-index": (
        rule(args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]),
        "$.linux.seccomp.syscalls[0].args[0].index",
        "0 to 5",
    ),
    "seccomp-notify-all": (
        seccomp(defaultAction="SCMP_ACT_NOTIFY", **SOCKET),
        "$.linux.seccomp.defaultAction",
        "wait for the listener",
    ),
    "seccomp-notify-write": (
        seccomp(syscalls=[{**NOTIFY, "names": ["write"]}], **SOCKET),
        "$.linux.seccomp.syscalls[0].names",
        "first write",
    ),
    "seccomp-no-listener": (seccomp(syscalls=[NOTIFY]), "$.linux.seccomp.listenerPath", "needs a listener"),
    "seccomp-metadata": (seccomp(listenerMetadata="x"), "$.linux.seccomp.listenerMetadata", "no listener"),
    "seccomp-tsync": (
        seccomp(syscalls=[NOTIFY], flags=["SECCOMP_FILTER_FLAG_TSYNC"], **SOCKET),
        "$.linux.seccomp.flags",
        "listener",
    ),
    "seccomp-killable": (
        seccomp(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        "$.linux.seccomp.flags",
        "without a listener",
    ),
    "rule-type": (
        {"linux__resources__devices": [{"allow": True, "type": "x"}]},
        "$.linux.resources.devices[0].type",
        "character",
    ),
    "rule-access": (
        {"linux__resources__devices": [{"allow": True, "access": "rwx"}]},
        "$.linux.resources.devices[0].access",
        "rwm",
    ),
    "rule-major": (
        {"linux__resources__devices": [{"allow": True, "major": -2}]},
        "$.linux.resources.devices[0].major",
        "-1 for all",
    ),
    "memory-negative": (
        {"linux__resources__memory": {"limit": -2}},
        "$.linux.resources.memory.limit",
        "-1 for no limit",
    ),
    "memory-tcp": ({"linux__resources__memory": {"kernelTCP": -2}}, "$.linux.resources.memory.kernelTCP", "-1 for no"),
    "swap-alone": ({"linux__resources__memory": {"swap": 1}}, "$.linux.resources.memory.swap", "without a limit"),
    "swap-below": (
        {"linux__resources__memory": {"limit": 2, "swap": 1}},
        "$.linux.resources.memory.swap",
        "less than limit",
    ),
    "swappiness": (
        {"linux__resources__memory": {"swappiness": 101}},
        "$.linux.resources.memory.swappiness",
        "0 to 100",
    ),
    "burst": (
        {"linux__resources__cpu": {"quota": 1000, "burst": 1001}},
        "$.linux.resources.cpu.burst",
        "more than quota",
    ),
    "period": ({"linux__resources__cpu": {"period": 999}}, "$.linux.resources.cpu.period", "1000 to 1000000"),
    "quota": ({"linux__resources__cpu": {"quota": 999}}, "$.linux.resources.cpu.quota", "at least 1000"),
    "idle": ({"linux__resources__cpu": {"idle": 2}}, "$.linux.resources.cpu.idle", "0 or 1"),
    "cpus": ({"linux__resources__cpu": {"cpus": "0-4294967295"}}, "$.linux.resources.cpu.cpus", "ranges"),
    "mems": ({"linux__resources__cpu": {"mems": "0;1"}}, "$.linux.resources.cpu.mems", "ranges"),
    "pids": ({"linux__resources__pids": {"limit": -2}}, "$.linux.resources.pids.limit", "-1 for no limit"),
    "weight": ({"linux__resources__blockIO": {"weight": 9}}, "$.linux.resources.blockIO.weight", "10 to 1000"),
    "weight-device": (
        {"linux__resources__blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}},
        "$.linux.resources.blockIO.weightDevice[0]",
        "leafWeight",
    ),
    "throttle-device": (
        {"linux__resources__blockIO": {"throttleReadIOPSDevice": [{"major": 4096, "minor": 0, "rate": 1}]}},
        "$.linux.resources.blockIO.throttleReadIOPSDevice[0]",
        "numbers",
    ),
    "huge-page": (
        {"linux__resources__hugepageLimits": [{"pageSize": "2M", "limit": 1}]},
        "$.linux.resources.hugepageLimits[0].pageSize",
        "2MB",
    ),
    "rdma": ({"linux__resources__rdma": {"mlx5_1": {}}}, "$.linux.resources.rdma.mlx5_1", "hcaObjects"),
    "unified": (
        {"linux__resources__unified": {"../memory.max": "1"}},
        '$.linux.resources.unified["../memory.max"]',
        "cgroup itself",
    ),
    "priority-name": (
        {"linux__resources__network": {"priorities": [{"name": "", "priority": 1}]}},
        "$.linux.resources.network.priorities[0].name",
        "interface",
    ),
}


@pytest.mark.parametrize(("change", "path", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_hold_is_refused_where_it_stands(change: dict[str, Any], path: str, said: str) -> None:
    """One thing made wrong in a right configuration is one problem, at its path, with its rule."""
    problems = found(changed(**copy.deepcopy(change))).problems
    assert [problem.path for problem in problems] == [path]
    assert said in problems[0].rule + problems[0].remedy


TAKEN: dict[str, dict[str, Any]] = {
    "version-1.0.0": {"ociVersion": "1.0.0"},
    "version-dev": {"ociVersion": "1.0.2-dev"},
    "version-candidate": {"ociVersion": "1.0.0-rc5-dev"},
    "version-build": {"ociVersion": "1.2.1+dev"},
    "version-pre-1": {"ociVersion": "0.6.0-dev"},
    "process-missing": {"process": None},
    "uid-highest": {"process__user__uid": 0xFFFFFFFE},
    "umask-highest": {"process__user__umask": 0o777},
    "size-without-terminal": {"process__terminal": False, "process__consoleSize": {"height": 1 << 40, "width": 1}},
    "scheduler": {"process__scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}},
    "batch": {"process__scheduler": {"policy": "SCHED_BATCH", "nice": -20, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}},
    "affinity": {"process__execCPUAffinity": {"initial": "0-3, 7", "final": "1"}},
    "hostname-joined": {"linux__namespaces": kinds("mount", {"type": "uts", "path": "/u"})},
    "hostname-64": {"hostname": "x" * 64},
    "remount": {"mounts": [{"destination": "/d", "options": ["remount", "ro"]}]},
    "bind-recursive": {"mounts": [{**BIND, "options": ["rbind", "rro", "rslave", "nosymfollow", "defaults"]}]},
    "bind-mapped": {"mounts": [{**BIND, "uidMappings": MAP, "gidMappings": MAP, "options": ["bind", "ridmap"]}]},
    "copy": {"mounts": [{"destination": "/d", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]}]},
    "user": MAPPED,
    "user-joined": {"linux__namespaces": [*ALL, {"type": "user", "path": "/u"}]},
    "maps-in-pieces": {**MAPPED, "linux__uidMappings": [*MAP, {"containerID": 65536, "hostID": 165536, "size": 1}]},
    "maps-340": {**MAPPED, "linux__uidMappings": [{"containerID": i, "hostID": i, "size": 1} for i in range(340)]},
    "clocks": {"linux__namespaces": TIME, "linux__timeOffsets": {"boottime": {"secs": -1, "nanosecs": 999999999}}},
    "fifo": {"linux__devices": [{"type": "p", "path": "/f"}]},
    "device-mode": {"linux__devices": [{**DEVICE, "fileMode": 0o20666}]},
    "interfaces": {"linux__netDevices": {"eth0": {"name": "a%d"}, "eth1": {"name": "a%d"}, "é": {}}},
    "sysctl": {"linux__sysctl": {"kernel.shmmax": "1", "net/ipv4/conf/eth0.1/forwarding": "1", "fs.mqueue.x": "1"}},
    "memory-policy": {"linux__memoryPolicy": {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"]}},
    "notify": seccomp(syscalls=[NOTIFY], flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], **SOCKET),
    "notify-some-writes": seccomp(
        syscalls=[{**NOTIFY, "names": ["write"], "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}], **SOCKET
    ),
    "trace": rule(action="SCMP_ACT_TRACE", errnoRet=0xFFFF),
    "call-unknown": rule(names=["no_such_call_yet"]),
    "devices": {"linux__resources__devices": [{"allow": True, "type": "a", "access": "rwm", "major": -1}]},
    "no-limits": {"linux__resources__memory": {"limit": -1, "swap": -1}, "linux__resources__pids": {"limit": -1}},
    "pids-0": {"linux__resources__pids": {"limit": 0}},
    "cpu": {"linux__resources__cpu": {"quota": -1, "period": 0, "burst": 5, "cpus": "0-2,4", "shares": 0}},
    "huge-pages": {"linux__resources__hugepageLimits": [{"pageSize": "64KB", "limit": 1}]},
    "unified": {"linux__resources__unified": {"io.max": "259:0 rbps=1\n253:0 rbps=1"}},
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN)
def test_what_can_hold_is_taken(change: dict[str, Any]) -> None:
    """Each right thing, at the edges of what is right, is no problem."""
    assert found(changed(**copy.deepcopy(change))).problems == []


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"mounts": [{"destination": "proc", "type": "proc"}]}, "$.mounts[0].destination", "taken from /"),
        (
            {"mounts": [{"destination": "/d", "type": "tmpfs", "options": ["ro,nodev"]}]},
            "$.mounts[0].options[0]",
            "several",
        ),
        ({"hooks": {"prestart": [{"path": "/x"}]}}, "$.hooks.prestart", "deprecated"),
        (
            {"process__capabilities": {"bounding": ["CAP_FLY"]}},
            "$.process.capabilities.bounding[0]",
            "no capability of this name",
        ),
        (
            {"process__capabilities": {"effective": ["CAP_KILL"]}},
            "$.process.capabilities.effective[0]",
            "not in permitted",
        ),
        (
            {"process__capabilities": {"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}},
            "$.process.capabilities.ambient[0]",
            "permitted and inheritable",
        ),
        (
            {"linux__namespaces": [*ALL, {"type": "user", "path": "/u"}], "linux__gidMappings": MAP},
            "$.linux.gidMappings",
            "has its mappings already",
        ),
    ],
    ids=["destination", "options", "prestart", "capability", "effective", "ambient", "maps-and-path"],
)
def test_what_is_odd_is_a_warning(change: dict[str, Any], path: str, said: str) -> None:
    """What the specification allows, but means nothing or something else than it seems, is told and taken."""
    findings = found(changed(**change))
    assert findings.problems == []
    assert [warning.path for warning in findings.warnings] == [path]
    assert said in findings.warnings[0].rule


def test_a_misspelt_name_gets_a_proposal() -> None:
    """Where only capitals differ, the right name is proposed."""
    (problem,) = found(changed(linux__namespaces=[*ALL[1:], {"type": "PID"}])).problems
    assert problem.remedy == "Did you mean pid?"


def test_templates_hold() -> None:
    """What spec writes, for root and rootless, has neither problem nor warning."""
    for config in (default_config(), rootless_config(1000, 100), Config.minimal("/srv/root", ["true"])):
        findings = check_config(config)
        assert (findings.problems, findings.warnings) == ([], [])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.3.0", (1, 3, 0)),
        ("0.0.0", (0, 0, 0)),
        ("1.0.0-rc5-dev", (1, 0, 0)),
        ("1.0.0-alpha.1+build.7", (1, 0, 0)),
        ("1.0", None),
        ("1.0.0.0", None),
        ("v1.0.0", None),
        ("1.00.0", None),
        ("1.0.0-", None),
        ("1.0.0+", None),
        ("1.0.0-a..b", None),
        ("1.0.0-ä", None),
        ("١.0.0", None),  # noqa: RUF001 - a digit of another script
        ("1." + "9" * 5000 + ".0", None),
        ("", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_versions_are_semantic(text: str, numbers: tuple[int, int, int] | None) -> None:
    """Three numbers, a pre-release and build parts; nothing else is a version."""
    assert parse_version(text) == numbers


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("net.ipv4.ip_forward", ("net", "ipv4", "ip_forward")),
        ("net/ipv4/ip_forward", ("net", "ipv4", "ip_forward")),
        ("net.ipv4.conf.eth0/1.forwarding", ("net", "ipv4", "conf", "eth0.1", "forwarding")),
        ("net/ipv4/conf/eth0.1/forwarding", ("net", "ipv4", "conf", "eth0.1", "forwarding")),
        ("kernel", ("kernel",)),
    ],
)
def test_the_first_separator_of_a_sysctl_key_separates(key: str, parts: tuple[str, ...]) -> None:
    """Point and slash change roles with the one that comes first."""
    assert sysctl_parts(key) == parts
