"""Checks: each sentence of the specification that a configuration can break, broken once; and edges that hold.

What is Linux's alone is in `test_checking_linux`.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config.checking import check_config, parse_version
from kernelproof.impl.libcontainer.config.records import Config
from kernelproof.impl.libcontainer.config.templates import default_config, rootless_config
from kernelproof.impl.tests.libcontainer.config.configurations import (
    ALL,
    BIND,
    DEVICE,
    MAP,
    MAPPED,
    NOTIFY,
    SOCKET,
    TIME,
    changed,
    found,
    kinds,
    rule,
    seccomp,
)

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
            {"process__capabilities": {"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]}},
            "$.process.capabilities.ambient",
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
