"""Checks of what is Linux's alone: namespaces, ID maps, devices, kernel parameters, filters, limits."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.checking_linux import sysctl_parts
from kernelproof.impl.tests.libcontainer.config.configurations import (
    ALL,
    DEVICE,
    MAP,
    MAPPED,
    MASK,
    NOTIFY,
    SOCKET,
    TIME,
    USER,
    changed,
    found,
    kinds,
    rule,
    seccomp,
)

# What is changed, the path at which it is refused, a piece of the sentence.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
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
