"""container.json of 2014: generations B to E become the record of today, A is refused; either form is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.jsontext import parse
from kernelproof.impl.libcontainer.config.legacy import REASON_A, convert_legacy, generation, is_legacy, parse_legacy
from kernelproof.impl.libcontainer.config.legacy_writing import dump_legacy
from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.config.reading import parse_config
from kernelproof.impl.libcontainer.config.records import (
    Config,
    Cpu,
    Device,
    DeviceRule,
    Memory,
    Mount,
    Namespace,
    Network,
    Rlimit,
    Root,
    Route,
    User,
)
from kernelproof.impl.libcontainer.config.templates import default_config

FIXTURES = Path(__file__).parents[4] / "fixtures/libcontainer/legacy"
FILES = ("b", "b-readme", "c", "d", "e")
FIVE = {"mount", "uts", "ipc", "pid", "network"}


def fixture(name: str) -> str:
    """The text of a recorded file."""
    return (FIXTURES / f"{name}.json").read_text()


def read(name: str) -> Config:
    """A recorded file as a configuration that runs a shell."""
    return parse_legacy(fixture(name), name, ("sh",))


def problems(**members: object) -> dict[str, str]:
    """Path and rule of what is wrong with a file of these members."""
    with pytest.raises(ConfigError) as caught:
        parse_legacy(json.dumps(members), args=("sh",))
    return {problem.path: problem.rule for problem in caught.value.problems}


@pytest.mark.rule("K+6")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("a", "A"), ("b", "B"), ("b-readme", "B"), ("c", "C"), ("d", "D"), ("e", "E")],
    ids=lambda value: value,
)
def test_generations_are_told_apart_by_their_shapes(name: str, kind: str) -> None:
    """Lists, maps and keys decide, not a version: there was none."""
    value = parse(fixture(name))
    assert isinstance(value, dict)
    assert generation(value) == kind
    assert is_legacy(value)
    assert not is_legacy(parse(default_config().dump()))


@pytest.mark.rule("K+6")
def test_generation_a_is_refused_with_the_reason() -> None:
    """A list of capabilities beside a list of namespaces meant what to drop: it is not read as what to keep."""
    with pytest.raises(ConfigError) as caught:
        parse_legacy(fixture("a"))
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [("$.capabilities", REASON_A)]


@pytest.mark.rule("K+6")
def test_capabilities_alone_are_refused_as_ambiguous() -> None:
    """Without namespaces, a list of capabilities may mean either; with a map it is what to keep."""
    assert problems(capabilities=["MKNOD"]) == {"$.capabilities": REASON_A}
    config = parse_legacy('{"namespaces": {"NEWNS": true}, "capabilities": ["MKNOD"]}')
    assert config.process is not None
    assert config.process.capabilities is not None
    assert config.process.capabilities.bounding == ("CAP_MKNOD",)


@pytest.mark.rule("K+6")
@pytest.mark.parametrize("name", FILES)
def test_each_generation_means_the_same_container(name: str) -> None:
    """Host name, environment and namespaces come out the same from all shapes."""
    config = read(name)
    assert config.hostname == "koye"
    assert {namespace.type for namespace in config.linux.namespaces} == FIVE
    assert config.root == Root(".", readonly=name == "e")
    assert config.process is not None
    assert config.process.args == ("sh",)
    assert config.process.env[-1]


@pytest.mark.rule("K+6")
@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("b", {"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}),
        ("b-readme", {"CAP_SETPCAP", "CAP_SYS_ADMIN", "CAP_MKNOD"}),
        ("c", {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYSLOG"}),
        ("d", {*names.CAPABILITIES} - {"CAP_MKNOD"}),
        ("e", {*names.CAPABILITIES} - {"CAP_CHOWN", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"}),
    ],
)
def test_masks_and_keep_lists_leave_the_right_capabilities(name: str, dropped: set[str]) -> None:
    """False in a mask is dropped, absent is kept; of a keep-list, only what is listed is kept."""
    process = read(name).process
    assert process is not None
    assert process.capabilities is not None
    assert {*names.CAPABILITIES} - {*process.capabilities.bounding} == dropped
    assert process.capabilities.permitted == process.capabilities.effective == process.capabilities.bounding
    assert process.capabilities.inheritable == ()


def test_details_of_generation_c() -> None:
    """User, directory, restrictions, networks, limits and mounts of C have their place in the record."""
    config = read("c")
    assert config.process is not None
    assert (config.process.user, config.process.cwd) == (User(lookup="bob:staff"), "/srv")
    assert config.process.apparmor_profile == "docker-default"
    assert config.networks == (
        Network("loopback", mtu=1500),
        Network("veth", "docker0", "veth", None, "172.17.42.2/16", "172.17.42.1", 1500),
    )
    assert config.linux.cgroups_path == "/docker/docker-koye"
    assert config.linux.resources is not None
    assert config.linux.resources.memory == Memory(5248000)
    assert config.linux.resources.cpu == Cpu(quota=50000, period=100000)
    assert config.linux.resources.devices == (DeviceRule(allow=True, type="a", access="rwm"),)
    assert config.linux.masked_paths == ("/proc/kcore",)
    assert config.mounts[0].destination == "/dev"
    assert config.mounts[-1] == Mount("/data", "bind", "/srv/data", ("rbind", "rw", "private"))


def test_details_of_generations_b_d_and_e() -> None:
    """Defaults that changed: B reserved what it limited, had no tmpfs on /dev; D and E have routes, devices, limits."""
    b, d, e = read("b"), read("d"), read("e")
    assert b.linux.resources is not None
    assert b.linux.resources.memory == Memory(5248000, 5248000, 2 * 5248000)
    assert [mount.destination for mount in b.mounts] == ["/proc", "/sys", "/dev/shm", "/dev/pts", "/data"]
    assert d.routes == (Route(None, None, "172.17.42.1", "eth0"), Route("192.168.0.0/24", "", None, "eth0"))
    assert d.linux.devices == (Device("c", "/dev/null", 1, 3, 0o666),)
    assert d.linux.resources is not None
    assert d.linux.resources.devices[-1] == DeviceRule(allow=True, type="c", major=136, access="rwm")
    assert e.process is not None
    assert e.process.rlimits == (Rlimit("RLIMIT_NOFILE", 1024, 1024),)
    assert e.mounts[-1].options == ("rbind", "rw", "slave")
    assert "ro" in e.mounts[2].options


def test_a_network_namespace_is_joined_by_its_path() -> None:
    """netns of either shape becomes the namespace with a path; with NEWNET beside it, it is an error."""
    for network in ({"type": "netns", "context": {"nspath": "/n"}}, {"type": "netns", "ns_path": "/n"}):
        config = parse_legacy(json.dumps({"namespaces": {"NEWNS": True}, "networks": [network]}))
        assert Namespace("network", "/n") in config.linux.namespaces
        assert "$.networks[0]" in problems(namespaces={"NEWNET": True}, networks=[network])


MAP: dict[str, Any] = {"namespaces": {"NEWNS": True}}


@pytest.mark.parametrize("key", ["context", "mount_config"])
def test_label_of_mounts_is_kept(key: str) -> None:
    """The label of a container's files comes from either place where a generation had it."""
    config = parse_legacy(json.dumps({**MAP, key: {"mount_label": "system_u:object_r:files_t:s0"}}))
    assert config.linux.mount_label == "system_u:object_r:files_t:s0"
    assert parse_legacy(json.dumps(MAP)).linux.mount_label is None


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"namespaces": {"NEWFOO": True}}, "$.namespaces.NEWFOO"),
        ({"namespaces": ["NEWFOO"]}, "$.namespaces[0]"),
        ({"namespaces": {"NEWNS": 1}}, "$.namespaces.NEWNS"),
        ({"namespaces": 5}, "$.namespaces"),
        ({"namespaces": [{"enabled": True}]}, "$.namespaces[0]"),
        ({"namespaces": [{"key": "NEWNS", "enabled": True, "value": 5}]}, "$.namespaces[0].value"),
        ({"capabilities_mask": {"FLY": False}}, "$.capabilities_mask.FLY"),
        ({**MAP, "capabilities": ["CAP_MKNOD"]}, "$.capabilities[0]"),
        ({**MAP, "capabilities": [1]}, "$.capabilities[0]"),
        ({**MAP, "environment": ["A"]}, "$.environment[0]"),
        ({**MAP, "networks": [{"type": "veth"}]}, "$.networks[0].bridge"),
        ({**MAP, "networks": [{"type": "netns"}]}, "$.networks[0].context.nspath"),
        ({**MAP, "networks": [{"type": "bus"}]}, "$.networks[0].type"),
        ({**MAP, "mounts": [{"type": "nfs"}]}, "$.mounts[0].type"),
        ({**MAP, "mounts": [{"type": "bind", "source": "/x"}]}, "$.mounts[0].destination"),
        ({**MAP, "device_nodes": [{"type": 100, "path": "/dev/x"}]}, "$.device_nodes[0].type"),
        ({**MAP, "rlimits": [{"type": 16}]}, "$.rlimits[0].type"),
        ({**MAP, "cgroups": {"memory": "1"}}, "$.cgroups.memory"),
        ({**MAP, "cgroups": {"freezer": "FROZEN"}}, "$.cgroups.freezer"),
        ({**MAP, "cgroups": {"unit_properties": [["After", "x"]]}}, "$.cgroups.unit_properties[0]"),
        ({**MAP, "hostname": "x"}, "$.hostname (as config.json)"),
        ({"namespaces": {"NEWUSER": True, "NEWNS": True}}, "$.linux.uidMappings (as config.json)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_was_ignored_or_fatal_then_is_a_problem_now(members: dict[str, Any], path: str) -> None:
    """Unknown names, wrong types, what cannot be: each is refused at its path in the file, and nothing is weakened."""
    assert path in problems(**members)


def test_unknown_keys_are_reported() -> None:
    """Keys of no generation are warnings."""
    _, wrong, odd = convert_legacy({**MAP, "host_name": "x", "context": {"a": "b"}, "cgroups": {"slice": "s.slice"}})
    assert wrong == []
    assert {warning.path for warning in odd} == {"$.host_name", "$.context.a", "$.cgroups.slice"}


@pytest.mark.rule("K+6")
@pytest.mark.parametrize("name", ["c", "d", "e"])
def test_a_container_json_is_written_again(name: str) -> None:
    """What generation E can say is written as E, and means the same when it is read."""
    config = read(name)
    text = dump_legacy(config)
    assert generation(json.loads(text)) == "E"
    assert parse_legacy(text, args=("sh",)) == config


@pytest.mark.rule("K+6")
@pytest.mark.parametrize("name", FILES)
def test_a_container_json_is_written_as_config_json(name: str) -> None:
    """Each generation becomes a config.json, read by our own reader to the equal record."""
    config = read(name)
    assert parse_config(config.dump(own=True), own=True) == config


@pytest.mark.rule("K+6")
def test_what_2014_cannot_say_is_refused_place_by_place() -> None:
    """A configuration with what did not exist then is not written; each such place is named, and none else."""
    with pytest.raises(ConfigError) as caught:
        dump_legacy(read("b"))
    assert [problem.path for problem in caught.value.problems] == ["$.mounts[0]"]
    config = read("e")
    assert config.process is not None
    later = config.replace(
        process=config.process.replace(no_new_privileges=True),
        linux=config.linux.replace(namespaces=(*config.linux.namespaces, Namespace("cgroup"))),
    )
    with pytest.raises(ConfigError) as caught:
        dump_legacy(later)
    assert [problem.path for problem in caught.value.problems] == [
        "$.process.noNewPrivileges",
        "$.linux.namespaces[5]",
    ]


def test_no_json_is_one_problem() -> None:
    """Broken text and documents that are no object are refused."""
    with pytest.raises(ConfigError, match="cut off"):
        parse_legacy('{"hostname": ')
    with pytest.raises(ConfigError, match="an object is needed"):
        parse_legacy("[]")
