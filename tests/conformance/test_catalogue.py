"""The catalogue as data: what is accepted, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.conformance import needs
from kernelproof.conformance.catalogue import CatalogueError, parse_catalogue, read_catalogue
from kernelproof.conformance.kernel_ranges import parse_range, parse_series
from kernelproof.conformance.requirements import KERNEL, MACHINE, parse_requirement, profile_for, time_for

OWN = Path(__file__).resolve().parents[2] / "conformance/behaviours"
WHOLE = """
[[behaviour]]
id = "bridge.limit.name-length"
statement = "A name of 16 bytes is refused."
source = "netdevice(7), DESCRIPTION"
kernels = ">=6.1"
since = "4.20"
needs = ["CONFIG_BRIDGE", "CAP_NET_ADMIN"]
of = "kernel"
note = "Mind the null."
suspected = "6.1: EINVAL"
"""


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue([(Path("x/demo.toml"), text.encode())])
    return caught.value.problems


def entry(more: str = "", id: str = "a.b.c") -> str:
    return f'\n[[behaviour]]\nid = "{id}"\nstatement = "So."\nsource = "doc"\n{more}\n'


def test_whole_entry() -> None:
    """An entry with every key keeps what decides something; its subsystem is the file's name."""
    catalogue = parse_catalogue([(Path("x/netlink.toml"), WHOLE.encode())])
    (found,) = catalogue.entries.values()
    assert found.id == "bridge.limit.name-length"
    assert found.subsystem == "netlink"
    assert found.kernels == parse_range(">=6.1")
    assert [need.text for need in found.needs] == ["CONFIG_BRIDGE", "CAP_NET_ADMIN"]
    assert (found.of, found.deviations) == ("kernel", ())


def test_own_catalogue() -> None:
    """The project's own catalogue is well formed, and every word of its needs has a probe."""
    catalogue = read_catalogue([OWN])
    assert len(catalogue.entries) >= 1800
    words = {
        word for e in catalogue.entries.values() for need in e.needs for part in need.alternatives for word in part
    }
    families = tuple(needs._FAMILIES)
    assert [word for word in words if word not in needs._PROBES and not word.startswith(families)] == []
    for found in catalogue.entries.values():
        profile_for(found.needs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[behaviour]]\nid = "a.b.c"\nstatement = "So."', "x/demo.toml:1: a.b.c: has no source; without it"),
        ('[[behaviour]]\nid = "a.b.c"\nsource = "doc"', "x/demo.toml:1: a.b.c: has no statement"),
        ('[[behaviour]]\nsource = "doc"\nstatement = "So."', "x/demo.toml:1: an entry without id: has no id"),
        (entry('source_url = "x"'), "x/demo.toml:2: a.b.c: unknown key 'source_url'; known are id, statement"),
        (entry('deviation = "EINVAL"'), "a.b.c: the key 'deviation' is no more: put the exact value into"),
        (entry('source = ""').replace('source = "doc"\n', ""), "source must be a text that is not empty"),
        (entry("note = 3"), "note must be a text that is not empty"),
        (entry(id="a.b"), "the id is not topic.part.short-name"),
        (entry(id="A.b.c"), "the id is not topic.part.short-name"),
        (entry('of = "user"'), "of = 'user' is unknown; known are kernel, userland, runtime"),
        (entry('kernels = "6"'), "kernels '6' is not a range; write >=6.1,<6.12 or 5.10..6.1 or 6.12"),
        (entry('kernels = ">=6.12,<6.1"'), "kernels '>=6.12,<6.1' holds no series at all"),
        (entry('needs = "CAP_KILL"'), "needs must be a list of texts"),
        (entry('needs = ["swap", "swap"]'), "needs names something twice"),
        (entry('needs = ["sawp"]'), "needs word 'sawp' is unknown; known are block-device, swap"),
        (entry('needs = ["cpus:two"]'), "needs word 'cpus:two': what follows 'cpus:' is malformed"),
        (entry('needs = ["CAP_SYS_ADMIM"]'), "needs word 'CAP_SYS_ADMIM': what follows 'CAP_' is malformed"),
        (entry('needs = ["swap or pidfs"]'), "mixes what the kernel has with what the machine has"),
        ("[[behavior]]\n", "x/demo.toml: the file: unknown key 'behavior'; known are behaviour"),
        ("id = ", "x/demo.toml: not TOML: Invalid value"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    """A malformed entry is refused by file, line, id and remedy."""
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


def test_all_problems_at_once() -> None:
    """Everything wrong is told at once, each with the line where its entry begins."""
    text = entry(id="a.b.one", more="kernels = '?'") + entry(id="a.b.two") + entry(id="a.b.two", more="needs = ['?']")
    assert [problem.partition(" ")[0] for problem in problems_of(text)] == ["x/demo.toml:2:", "x/demo.toml:14:"]
    assert len(problems_of(entry("kernels = '?'\nneeds = ['?', '!']\nnote = 1"))) == 4


def test_id_twice() -> None:
    """An id that occurs twice, also in two files, is refused with both places."""
    files = [(Path("a.toml"), entry().encode()), (Path("b.toml"), ("\n" + entry()).encode())]
    with pytest.raises(
        CatalogueError, match=r"b\.toml:3: a\.b\.c is already at a\.toml:2; give one of them another id"
    ):
        parse_catalogue(files)


def test_digest_is_of_names_and_contents() -> None:
    """The digest changes with any content and any file's name, and with nothing else."""
    one = parse_catalogue([(Path("x/a.toml"), WHOLE.encode())]).digest
    assert parse_catalogue([(Path("y/a.toml"), WHOLE.encode())]).digest == one
    assert parse_catalogue([(Path("x/b.toml"), WHOLE.encode())]).digest != one
    assert parse_catalogue([(Path("x/a.toml"), WHOLE.encode() + b"#")]).digest != one


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=6.1", ["6.1", "6.12", "7.0"], ["6.0", "5.10"]),
        (">=6.1,<6.12", ["6.1", "6.2", "6.11"], ["6.0", "6.12", "7.1"]),
        ("5.10..6.1", ["5.10", "5.15", "6.0", "6.1"], ["5.9", "6.2"]),
        ("6.1", ["6.1"], ["6.10", "6.12", "6.0"]),
        ("<6.0", ["5.19"], ["6.0"]),
        (">5.10, <=6.1", ["5.11", "6.1"], ["5.10", "6.2"]),
    ],
)
def test_ranges(text: str, inside: list[str], outside: list[str]) -> None:
    """A range compares major and minor as numbers: 6.1 is before 6.12."""
    parsed = parse_range(text)
    assert [series for series in inside + outside if parsed.holds(parse_series(series))] == inside


@pytest.mark.parametrize("text", ["", "6", "latest", ">=6", ">=6.1 <6.12", "=6.1", "6.1..", "6.12..6.1", ">6.1,<6.2"])
def test_no_range(text: str) -> None:
    """What is no range, or can hold no kernel, is refused."""
    with pytest.raises(ValueError, match="kernels"):
        parse_range(text)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [(">=6.1", "<6.2", True), (">=6.1", "<6.1", False), ("5.10..6.1", "6.1..6.12", True), ("6.1", ">=6.12", False)],
)
def test_overlap(first: str, second: str, overlap: bool) -> None:
    """Two ranges overlap when some series is in both, whichever is asked."""
    assert parse_range(first).overlaps(parse_range(second)) is overlap
    assert parse_range(second).overlaps(parse_range(first)) is overlap


@pytest.mark.parametrize(
    ("text", "series"), [("6.12", (6, 12)), ("6.12.117+deb13-cloud-amd64", (6, 12)), ("image-6.13.0-rc1", (6, 13))]
)
def test_series_of_names(text: str, series: tuple[int, int]) -> None:
    """The series of a row, of a release and of an own image are its first two numbers."""
    assert parse_series(text) == series


def test_name_without_series() -> None:
    """A name without numbers has no series."""
    with pytest.raises(ValueError, match="has no numbers like"):
        parse_series("image-mine")


@pytest.mark.parametrize(
    ("text", "kind", "alternatives"),
    [
        ("CONFIG_BRIDGE", KERNEL, (("CONFIG_BRIDGE",),)),
        ("cgroup-v2:memory", KERNEL, (("cgroup-v2:memory",),)),
        ("CAP_SYS_ADMIN", MACHINE, (("CAP_SYS_ADMIN",),)),
        ("CAP_BPF or CAP_KILL and CAP_CHOWN", MACHINE, (("CAP_BPF",), ("CAP_KILL", "CAP_CHOWN"))),
    ],
)
def test_requirement(text: str, kind: str, alternatives: tuple[tuple[str, ...], ...]) -> None:
    """A need is of the kernel or of the machine; "and" binds closer than "or"."""
    parsed = parse_requirement(text)
    assert (parsed.kind, parsed.alternatives) == (kind, alternatives)


@pytest.mark.parametrize(
    ("words", "profile", "time"),
    [
        ([], "plain", "virtual"),
        (["CONFIG_BRIDGE", "CAP_SYS_ADMIN", "cpus:2"], "plain", "virtual"),
        (["cgroup-v2:io", "block-device"], "disk", "virtual"),
        (["power-cut"], "disk", "virtual"),
        (["command:runc", "CAP_SYS_ADMIN"], "runtimes", "virtual"),
        (["libsystemd", "pidfs"], "systemd", "real"),
        (["command:systemd-sysusers"], "systemd", "real"),
        (["boot:cgroup_no_v1=named"], "bare", "virtual"),
    ],
)
def test_profile(words: list[str], profile: str, time: str) -> None:
    """The profile follows from what the machine must have, and the clock from the profile."""
    assert profile_for(map(parse_requirement, words)) == profile
    assert time_for(profile) == time


def test_two_profiles() -> None:
    """Needs that no single profile is known for are refused."""
    with pytest.raises(ValueError, match="point to the profiles disk and systemd"):
        profile_for(map(parse_requirement, ["swap", "libsystemd"]))
