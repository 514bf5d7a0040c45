"""Reading a configuration: all problems at once with path, value, rule and remedy; unknown keys are reported."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.impl.libcontainer.config import decoding, jsontext, own, reading, records, resources
from kernelproof.impl.libcontainer.config.decoding import read_value
from kernelproof.impl.libcontainer.config.legacy import parse_legacy
from kernelproof.impl.libcontainer.config.problems import MOST_SHOWN, ConfigError, Problem, shorten
from kernelproof.impl.libcontainer.config.reading import load_config, load_process, parse_config, parse_resources
from kernelproof.impl.libcontainer.config.record import Record
from kernelproof.impl.libcontainer.config.records import Config, IdMapping, Namespace, Process
from kernelproof.impl.libcontainer.config.templates import default_config
from kernelproof.impl.libcontainer.config.writing import dump, to_value

LEAST: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
}

FILTER = {"defaultAction": "SCMP_ACT_ALLOW"}


def changed(path: str, value: object) -> dict[str, Any]:
    """The least configuration with one member set: `process.cwd`; the objects on the way are made."""
    made = copy.deepcopy(LEAST)
    *parents, last = path.split(".")
    place: Any = made
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return made


def refused(value: object) -> tuple[Problem, ...]:
    """The problems of a configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(value))
    return caught.value.problems


def test_all_problems_are_told_at_once() -> None:
    """Wrong types, missing fields and values that can't be stand in one error, in the order of the document's kinds."""
    value = {
        "ociVersion": "2.0.0",
        "process": {"cwd": "x", "args": [], "env": ["A"], "user": {"uid": "0"}},
        "root": {},
        "mounts": [{"type": "proc"}],
    }
    assert {problem.path for problem in refused(value)} == {
        "$.ociVersion",
        "$.process.cwd",
        "$.process.args",
        "$.process.env[0]",
        "$.process.user.uid",
        "$.root.path",
        "$.mounts[0].destination",
    }


def test_a_problem_has_path_value_rule_and_remedy() -> None:
    """A problem is a record of four texts, and a sentence."""
    (problem,) = refused(changed("process.cwd", "srv"))
    assert problem.as_record() == {
        "path": "$.process.cwd",
        "value": '"srv"',
        "rule": "an absolute path is needed",
        "remedy": "Write /srv",
    }
    assert str(problem) == '$.process.cwd is "srv": an absolute path is needed. Write /srv'


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("process", [], "an object is needed, not an array"),
        ("process.args", "sh", "an array is needed, not a string"),
        ("process.terminal", 1, "true or false is needed, not a number"),
        ("process.user.uid", "0", "an integer is needed, not a string"),
        ("process.user.uid", True, "an integer is needed, not a boolean"),
        ("process.user.uid", -1, "it must be 0 to 4294967295 (uint32)"),
        ("process.user.uid", 1 << 32, "it must be 0 to 4294967295 (uint32)"),
        ("process.user.uid", 1.0, "an integer is needed, not a number with fraction or exponent"),
        ("process.oomScoreAdj", 1e2, "an integer is needed, not a number with fraction or exponent"),
        ("hostname", 5, "a string is needed, not a number"),
        ("hostname", "a\0b", "NUL"),
        ("hostname", "\ud800", "half a surrogate"),
        ("annotations", [], "an object is needed, not an array"),
        ("annotations.a", 1, "a string is needed, not a number"),
        ("mounts", {"a": 1}, "an array is needed, not an object"),
        ("linux.resources.memory.limit", 1 << 63, "(int64)"),
        ("linux.resources.blockIO.weight", 1 << 16, "(uint16)"),
        ("linux.sysctl", {"net.ipv4.ip_forward": 1}, "a string is needed, not a number"),
        ("process.cwd", None, "it is required"),
    ],
)
def test_a_wrong_type_names_the_place_and_what_is_needed(path: str, value: object, rule: str) -> None:
    """A value of another type, out of its integer's range, or with a character no call can take, is the one problem."""
    problems = refused(changed(path, value))
    assert len(problems) == 1
    assert rule in problems[0].rule
    assert problems[0].path.startswith(f"$.{path}")


def test_integers_survive_in_their_full_range() -> None:
    """uint64 and int64 come through to the last bit."""
    value = changed("process.rlimits", [{"type": "RLIMIT_NOFILE", "hard": (1 << 64) - 1, "soft": (1 << 64) - 1}])
    value["linux"] = {"resources": {"cpu": {"shares": (1 << 64) - 1}, "memory": {"limit": (1 << 63) - 1}}}
    config = parse_config(json.dumps(value))
    assert config.process is not None
    assert config.process.rlimits[0].hard == (1 << 64) - 1
    found = config.linux.resources
    assert found is not None
    assert found.cpu is not None
    assert found.memory is not None
    assert (found.cpu.shares, found.memory.limit) == ((1 << 64) - 1, (1 << 63) - 1)


def test_number_that_can_not_be_read_limits_nothing() -> None:
    """What is compared with a number that could not be read is no problem of its own."""
    value = changed("linux.resources", {"cpu": {"quota": "many", "burst": 50_000}})
    assert [problem.path for problem in refused(value)] == ["$.linux.resources.cpu.quota"]


def test_doubled_names_are_an_error_with_their_place() -> None:
    """A name that stands twice in one object is a problem, at any depth, in objects with free names too."""
    text = json.dumps(LEAST)[:-1] + ', "annotations": {"a": "1", "a": "2"}, "root": {"path": "y"}}'
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert [problem.path for problem in caught.value.problems] == ["$.root", "$.annotations.a"]


def test_unknown_keys_are_ignored_and_reported(tmp_path: Path) -> None:
    """Keys that nobody knows are warnings with their path, at every depth; a wrong capital gets a proposal."""
    value = changed("process.Args", ["x"])
    value |= {"windows": {}, "Hostname": "x", "landlock": {}, "linux": {"namespaces": [{"type": "pid", "new": 1}]}}
    (tmp_path / "config.json").write_text(json.dumps(value))
    loaded = load_config(tmp_path)
    assert loaded.config.linux.namespaces == (Namespace("pid"),)
    assert {warning.path: warning.remedy for warning in loaded.warnings} == {
        "$.process.Args": "Did you mean args? Names are case-sensitive",
        "$.Hostname": "Did you mean hostname? Names are case-sensitive",
        "$.landlock": "",  # known in our own copies alone
        "$.windows": "",
        "$.linux.namespaces[0].new": "",
    }


def test_null_is_as_if_absent() -> None:
    """What Go writes for an empty pointer or list reads as absent, where absence is possible."""
    value = changed("process.rlimits", None) | {"mounts": None, "linux": None, "hooks": None}
    assert parse_config(json.dumps(value)) == parse_config(json.dumps(LEAST))


def test_own_keys_are_read_only_where_it_is_asked_for() -> None:
    """networks and landlock are unknown in an engine's file; in our own copy they are read."""
    text = json.dumps(LEAST | {"networks": [{"type": "loopback"}]})
    assert parse_config(text).networks == ()
    assert parse_config(text, own=True).networks == (own.Network("loopback"),)


def test_a_mistake_has_no_echo() -> None:
    """Where a value could not be read, the checks say nothing about what stands in its place."""
    value = changed("process.args", [1]) | {"linux": {"namespaces": [{"type": 1}, {"type": 2}]}}
    assert [problem.path for problem in refused(value)] == [
        "$.process.args[0]",
        "$.linux.namespaces[0].type",
        "$.linux.namespaces[1].type",
    ]


@pytest.mark.parametrize(
    ("member", "value", "wrong"),
    [
        ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 5, "hard": "many"}], "[0].hard"),
        ("process.scheduler", {"policy": 1, "nice": 3, "priority": 4, "runtime": 5}, ".policy"),
        ("linux.resources.memory", {"limit": "many", "swap": 5}, ".limit"),
        ("linux", {"namespaces": [{"type": 1}], "maskedPaths": ["/m"]}, ".namespaces[0].type"),
        ("linux", {"namespaces": [{"type": 1}], "sysctl": {"net.a": "1"}}, ".namespaces[0].type"),
        ("linux", {"namespaces": [{"type": 1}], "timeOffsets": {"boottime": {"secs": 1}}}, ".namespaces[0].type"),
        ("linux", {"namespaces": [{"type": 1}], "netDevices": {"eth1": {}}}, ".namespaces[0].type"),
        ("linux", {"namespaces": 1, "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, ".namespaces"),
        ("linux.devices", [{"path": "/d", "type": 1}], "[0].type"),
        ("linux.memoryPolicy", {"mode": 1, "nodes": "", "flags": []}, ".mode"),
        ("linux.seccomp", {"defaultAction": 1, "defaultErrnoRet": 1}, ".defaultAction"),
        ("linux.seccomp", {**FILTER, "listenerPath": 1, "listenerMetadata": "m"}, ".listenerPath"),
        ("mounts", [{"destination": "/m", "type": 1, "source": "m", "options": ["tmpcopyup"]}], "[0].type"),
        ("mounts", [{"destination": "/m", "source": "m", "options": 1}], "[0].options"),
    ],
)
def test_a_mistake_has_no_echo_elsewhere(member: str, value: object, wrong: str) -> None:
    """Nor do they say about another place what only the value that could not be read would make wrong there."""
    assert [problem.path for problem in refused(changed(member, value))] == [f"$.{member}{wrong}"]


@pytest.mark.parametrize(
    ("unreadable", "expected"), [("containerID", "[0].containerID"), ("size", "[0].size"), ("", "[1]")]
)
def test_ranges_that_could_not_be_read_overlap_nothing(unreadable: str, expected: str) -> None:
    """An overlap is told of two ranges that are known."""
    first: dict[str, object] = {"containerID": 0, "hostID": 10, "size": 5}
    second = {"containerID": 2, "hostID": 20, "size": 5}
    if unreadable:
        first[unreadable] = "many"
    namespaces = [{"type": "user"}]
    value = changed("linux", {"namespaces": namespaces, "uidMappings": [first, second], "gidMappings": [second]})
    value["process"]["user"] = {"uid": 2, "gid": 2}
    assert [problem.path for problem in refused(value)] == [f"$.linux.uidMappings{expected}"]


def test_a_million_mistakes_are_not_a_million_sentences() -> None:
    """The number of problems that are kept, and of those that are shown, is bounded."""
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(changed("process.args", [1] * 20_000)))
    assert len(caught.value.problems) == decoding.MOST_PROBLEMS
    assert str(caught.value).count("\n") == MOST_SHOWN + 1
    assert str(caught.value).endswith(f"and {decoding.MOST_PROBLEMS - MOST_SHOWN} more")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 200, '"' + "x" * 80 + '..."'),
        ("\x1b[31m\n", '"\\u001b[31m\\u000a"'),
        (10**50, "an integer of 167 bits"),
        ([1, 2], "an array of 2"),
        ({}, "{}"),
        (None, ""),
        (False, "false"),
    ],
    ids=["long", "control", "large", "array", "object", "none", "false"],
)
def test_a_value_is_shown_short_and_without_control_characters(value: object, text: str) -> None:
    """What a stranger wrote can't fill the screen, nor steer the terminal."""
    assert shorten(value) == text


@pytest.mark.parametrize("data", [b"", b"{", json.dumps(LEAST)[:-20].encode(), b"[" * 100_000, b"\xff\xfe"])
def test_broken_text_is_one_problem_at_the_root(data: bytes, tmp_path: Path) -> None:
    """A truncated or garbled file is an error that names the file."""
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"config\.json: \$: ") as caught:
        load_config(tmp_path)
    assert len(caught.value.problems) == 1


def test_an_enormous_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    """Of a file with holes, larger than memory, no more is read than the bound."""
    with open(tmp_path / "config.json", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(ConfigError, match="are not read"):
        load_config(tmp_path)


def test_a_missing_file_is_the_kernels_error(tmp_path: Path) -> None:
    """ENOENT and EISDIR come with the file's name."""
    with pytest.raises(FileNotFoundError) as caught:
        load_config(tmp_path)
    assert caught.value.filename == str(tmp_path / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"config\.json"):
        load_config(tmp_path)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """A config.json that is a fifo without a writer reads as empty at once."""
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="nothing is there"):
        load_config(tmp_path)


def test_a_bundle_is_remembered_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle is absolute, its bytes are those that were read."""
    data = json.dumps(LEAST).encode()
    (tmp_path / "config.json").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    loaded = load_config()
    assert (loaded.bundle, loaded.data) == (str(tmp_path), data)


def test_parts_are_read_alone(tmp_path: Path) -> None:
    """A process and resources are read and checked without the rest; paths begin at the document."""
    (tmp_path / "process.json").write_text('{"cwd": "/", "args": ["sh"]}')
    assert load_process(tmp_path / "process.json") == Process("/", ("sh",))
    with pytest.raises(ConfigError, match=r"\$\.memory\.swappiness"):
        parse_resources('{"memory": {"swappiness": 101}}', "-")


RANGES = {kind: st.integers(*limits) for kind, limits in decoding.RANGES.items()}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def a_record(kind: type[Record]) -> st.SearchStrategy[Any]:
    """Any record of a class, by its declarations alone."""
    return st.builds(
        kind,
        **{field.name: a_field(field) for field in decoding.fields_of(kind).values() if field.name not in kind.OWN},
    )


def a_field(field: decoding.Field) -> st.SearchStrategy[Any]:
    """Any value of a field, or its default."""
    single: st.SearchStrategy[Any]
    if field.wants is not None:
        wanted = field.wants
        single = st.deferred(lambda: a_record(wanted))
    else:
        single = {"str": TEXT, "bool": st.booleans(), **RANGES}[field.kind]
    if field.mapping:
        single = st.dictionaries(TEXT, single, max_size=2).map(lambda found: tuple(sorted(found.items())))
    elif field.many:
        single = st.lists(single, max_size=2).map(tuple)
    return single if field.required else st.just(field.default) | single


@settings(max_examples=60, deadline=None)
@given(a_record(Config))
def test_every_record_is_read_as_it_was_written(config: Config) -> None:
    """dump and read are each other's inverse, for any values, sensible or not."""
    found = read_value(json.loads(dump(config, None)), Config)
    assert found.problems == []
    assert found.warnings == []
    assert found.record == config


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 65), 1 << 65) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted(
    {
        field.json
        for module in (records, resources)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
        for field in decoding.fields_of(kind).values()
    }
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in entries:
        found += places(member, (*path, key))
    return found


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_no_mistake_in_a_good_file_is_a_traceback(data: st.DataObject) -> None:
    """A real configuration in which anything stands anywhere is taken, or refused with problems, and nothing else."""
    value = json.loads(default_config().dump())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(value)[1:]))
        place = value
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = data.draw(JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3))
    for read in (parse_config, parse_legacy):
        try:
            config = read(json.dumps(value))
        except ConfigError as error:
            told = error.problems
            assert told, "an error without a problem"
        else:
            assert isinstance(config, Config)


@given(JSON)
def test_any_json_is_refused_with_problems(value: object) -> None:
    """No JSON document at all leads to another error than ConfigError."""
    assert refused(value)
    with pytest.raises(ConfigError):
        parse_legacy(json.dumps([value]))


def test_what_is_required_is_written_even_if_it_is_zero() -> None:
    """uid and gid 0 stand in the file: the specification requires them."""
    value = to_value(Config("1.0", process=Process("/", ("sh",))))
    assert value["process"] == {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}}
    assert to_value(IdMapping(0, 0, 1)) == {"containerID": 0, "hostID": 0, "size": 1}


def test_a_file_is_read_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte more than the bound is read, so that the parser sees that it is too much."""
    monkeypatch.setattr(jsontext, "MOST_BYTES", 5)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert reading.read_bounded(tmp_path / "file") == b"012345"
