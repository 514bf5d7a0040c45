"""Writing and comparing: what is absent stays out, what differs is named by its place."""

from __future__ import annotations

import json

import pytest

from kernelproof.impl.libcontainer.config.own import Landlock, Network
from kernelproof.impl.libcontainer.config.reading import parse_config
from kernelproof.impl.libcontainer.config.records import Capabilities, Config, Mount, Process, Root
from kernelproof.impl.libcontainer.config.templates import default_config, rootless_config
from kernelproof.impl.libcontainer.config.writing import Difference


def differences(left: Config, right: Config) -> list[tuple[str, str, str]]:
    """The differences as plain triples."""
    return [(found.path, found.left, found.right) for found in left.compare(right)]


def test_a_minimal_configuration_has_what_a_program_needs() -> None:
    """Config.minimal names root and program; fields of the process can be otherwise; it is taken as it is."""
    config = Config.minimal("/srv/root", ["sh", "-c", "true"], cwd="/srv", env=("A=b",))
    assert config.root == Root("/srv/root")
    assert config.process is not None
    assert (config.process.args, config.process.cwd, config.process.env) == (("sh", "-c", "true"), "/srv", ("A=b",))
    assert config.process.no_new_privileges
    assert not config.process.terminal
    assert parse_config(config.dump()) == config
    with pytest.raises(TypeError, match="workdir"):
        Config.minimal("/", ["sh"], workdir="/")


def test_dump_is_json_for_people_or_on_one_line() -> None:
    """Four blanks a level and a newline at the end, or nothing superfluous."""
    config = default_config()
    assert config.dump().startswith('{\n    "ociVersion": "1.3.0",\n')
    assert config.dump().endswith("}\n")
    assert "\n" not in config.dump(None)
    assert json.loads(config.dump(None)) == json.loads(config.dump())


@pytest.mark.parametrize(
    "own",
    [{"networks": (Network("loopback"),)}, {"landlock": Landlock(4)}, {"no_pivot_root": True}],
    ids=lambda own: next(iter(own)),
)
def test_what_the_specification_has_not_is_written_only_on_request(own: dict[str, object]) -> None:
    """A config.json for others never lacks silently what was asked for: it is an error, or it is written."""
    config = default_config().replace(**own)
    with pytest.raises(ValueError, match=next(iter(own))):
        config.dump()
    assert parse_config(config.dump(own=True), own=True) == config


def test_equal_configurations_have_no_differences() -> None:
    """compare is empty for what means the same."""
    assert differences(default_config(), default_config()) == []


def test_a_difference_is_named_by_its_place() -> None:
    """Values, absent members and members that only one has, in the order of the left configuration."""
    left = Config("1.3.0", process=Process("/", ("sh",), ("A=1",)), annotations=(("a.b", "1"),))
    right = Config("1.3.0", process=Process("/srv", ("sh", "-l"), ("A=2",), terminal=True))
    assert differences(left, right) == [
        ("$.process.cwd", '"/"', '"/srv"'),
        ("$.process.args[1]", "", '"-l"'),
        ("$.process.env[0]", '"A=1"', '"A=2"'),
        ("$.process.terminal", "", "true"),
        ("$.annotations", '{"a.b":"1"}', ""),
    ]
    assert str(Difference("$.x", "", "1")) == "$.x: nothing | 1"


def test_an_entry_more_is_one_difference() -> None:
    """In lists of other lengths, what both begin and end with is not told again."""
    mounts = (Mount("/a", "tmpfs"), Mount("/b", "tmpfs"), Mount("/c", "tmpfs"))
    left, right = Config("1.0", mounts=mounts), Config("1.0", mounts=(mounts[0], mounts[2]))
    assert differences(left, right) == [("$.mounts[1]", '{"destination":"/b","type":"tmpfs"}', "")]


def test_spec_writes_what_the_documents_list() -> None:
    """A terminal with sh, three capabilities, 1024 files, seven mounts, six namespaces; read-only root."""
    config = default_config()
    assert config.process is not None
    assert (config.process.terminal, config.process.args) == (True, ("sh",))
    kept = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    assert config.process.capabilities == Capabilities(bounding=kept, effective=kept, permitted=kept)
    assert [mount.destination for mount in config.mounts] == [
        *("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup")
    ]
    assert {space.type for space in config.linux.namespaces} == {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    assert config.linux.masked_paths
    assert config.linux.readonly_paths


def test_spec_for_users_without_rights() -> None:
    """The caller is root inside; no network namespace, limits, cgroup mount, group of terminals; /sys is bound."""
    config = rootless_config(1000, 100)
    assert [(entry.container_id, entry.host_id, entry.size) for entry in config.linux.uid_mappings] == [(0, 1000, 1)]
    assert [(entry.container_id, entry.host_id, entry.size) for entry in config.linux.gid_mappings] == [(0, 100, 1)]
    assert {space.type for space in config.linux.namespaces} == {"pid", "ipc", "uts", "mount", "cgroup", "user"}
    assert config.linux.resources is None
    by_place = {mount.destination: mount for mount in config.mounts}
    assert "/sys/fs/cgroup" not in by_place
    assert by_place["/sys"].source == "/sys"
    assert {"rbind", "ro"} <= set(by_place["/sys"].options)
    assert "gid=5" not in by_place["/dev/pts"].options
