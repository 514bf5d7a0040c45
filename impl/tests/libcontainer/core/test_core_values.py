"""Plans, states and reports as values: nothing is touched to get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.cgroups.events import Event as CgroupEvent
from kernelproof.impl.libcontainer import reporting
from kernelproof.impl.libcontainer.config.records import (
    Config,
    Hook,
    Hooks,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
    TimeOffset,
    User,
)
from kernelproof.impl.libcontainer.controlgroups import cgroup_name
from kernelproof.impl.libcontainer.events import Event, translate
from kernelproof.impl.libcontainer.facts import Host, parse_permitted
from kernelproof.impl.libcontainer.hooks import RunHook, stored_hooks
from kernelproof.impl.libcontainer.operations import Operation
from kernelproof.impl.libcontainer.owning import GiveCgroup, plan_owner
from kernelproof.impl.libcontainer.plan import Request, describe, plan_container
from kernelproof.impl.libcontainer.process.agreeing import join_ranges
from kernelproof.impl.libcontainer.process.identity import parse_stat
from kernelproof.impl.libcontainer.process.program import environment
from kernelproof.impl.libcontainer.reporting import Ability, capabilities_report, granted
from kernelproof.impl.libcontainer.state import (
    ContainerExistsError,
    InvalidIdError,
    State,
    StateError,
    check_id,
    describe_state,
    format_time,
    make_directory,
    open_directory,
    state_of_json,
    write_whole,
)

KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")


def config(*kinds: str, **linux: object) -> Config:
    namespaces = tuple(Namespace(kind) for kind in kinds or KINDS)
    return Config(
        "1.0.2",
        Root("rootfs"),
        Process("/", ("true",), ("PATH=/bin",)),
        mounts=(Mount("/proc", "proc", "proc"),),
        linux=Linux(namespaces, **linux),  # type: ignore[arg-type]
    )


def names(operations: tuple[Operation, ...]) -> list[str]:
    return [type(one).__name__ for one in operations]


@pytest.mark.rule("K+4")
def test_a_plan_is_a_value(tmp_path: Path) -> None:
    """Two plans of one configuration are equal, of different ones not; each line says what happens; nothing is made."""
    request = Request("box", str(tmp_path / "bundle"))
    first, again = (plan_container(config(), Host(), request) for _ in range(2))
    assert first == again
    assert first != plan_container(config().replace(hostname="other"), Host(), request)
    lines = describe(first)
    assert all(len(line.split()) > 1 for line in lines)
    assert lines[0] == "host  make the cgroup box"
    assert lines[-1] == "final execute true"
    assert list(tmp_path.iterdir()) == []


def test_a_plan_without_a_process() -> None:
    """All is set up but what shapes a program; in its place each start is refused, and nothing can be run at once."""
    hooks = Hooks(start_container=(Hook("/inside"),))
    asked = config().replace(process=None, hooks=hooks)
    order = names(plan_container(asked, Host(), Request("box", "/b")))
    whole = names(plan_container(asked.replace(process=Process("/", ("true",))), Host(), Request("box", "/b")))
    assert order[-2:] == ["Recorded", "RefuseStart"]
    assert [name for name in whole[: whole.index("Recorded")] if name != "FindProgram"] == order[:-2]
    with pytest.raises(ValueError, match="process: there is nothing to run"):
        plan_container(asked, Host(), Request("box", "/b", waits=False))


def test_maps_of_a_joined_user_namespace() -> None:
    """They are compared, not written, once the process is in it; its ids 0 are taken before the rest is made."""
    maps = (IdMapping(0, 1000, 10),)
    joined = (Namespace("user", "/ns/user"), *config().linux.namespaces)
    plain, given = (
        names(plan_container(config().replace(linux=linux), Host(), Request("box", "/b")))
        for linux in (Linux(joined), Linux(joined, uid_mappings=maps, gid_mappings=maps))
    )
    place = given.index("MakeProcessByScout") + 1
    assert given[place] == "CompareIdMaps"
    assert [*given[:place], *given[place + 1 :]] == plain
    assert plain.index("BecomeRoot") < plain.index("MakeNamespaces")
    assert "WriteIdMaps" not in given


@pytest.mark.parametrize(
    ("ranges", "joined"),
    [
        ([], []),
        ([(1, 2, 3)], [(1, 2, 3)]),
        ([(5, 105, 5), (0, 100, 5)], [(0, 100, 10)]),
        ([(0, 100, 5), (5, 106, 5)], [(0, 100, 5), (5, 106, 5)]),
        ([(0, 100, 5), (6, 106, 5)], [(0, 100, 5), (6, 106, 5)]),
    ],
    ids=["none", "one", "adjacent", "apart outside", "apart inside"],
)
def test_ranges_of_a_map(ranges: list[tuple[int, int, int]], joined: list[tuple[int, int, int]]) -> None:
    """Two maps are the same if they map the same, however they are cut."""
    assert join_ranges(ranges) == joined


def test_order_of_a_plan() -> None:
    """Cgroup before birth, maps before namespaces, hooks at their moments, program last."""
    hooks = Hooks(*((Hook(f"/{place}"),) for place in range(6)))
    maps = (IdMapping(0, 1000, 1),)
    asked = config(*KINDS, "user", uid_mappings=maps, gid_mappings=maps).replace(hooks=hooks)
    order = names(plan_container(asked, Host(), Request("box", "/b")))
    expected = [
        "MakeCgroup",
        "OpenRendezvous",
        "MakeProcess",
        "WriteIdMaps",
        "EnterCgroup",
        "BecomeRoot",
        "MakeNamespaces",
        "RunHostHook",
        "OpenRoot",
        "RunInnerHook",
        "PivotRoot",
        "FindProgram",
        "Recorded",
        "AwaitStart",
        "EnterDirectory",
        "CloseOnExec",
        "Announce",
        "RunFinalHook",
        "BecomeProgram",
    ]
    places = [order.index(name) for name in expected]
    assert places == sorted(places)


def test_a_hook_in_the_container_has_its_environment() -> None:
    """A startContainer hook without environment gets the program's, others the runtime's."""
    hooks = Hooks(start_container=(Hook("/in"), Hook("/own", env=("A=1",))), create_runtime=(Hook("/out"),))
    plan = plan_container(config().replace(hooks=hooks), Host(), Request("box", "/b"))
    found = {one.hook.path: one.hook.env for one in plan if isinstance(one, RunHook)}
    assert found == {"/in": ("PATH=/bin",), "/own": ("A=1",), "/out": None}


def test_a_scout_goes_where_birth_is_not_enough() -> None:
    """A time namespace, or one of PIDs or users that is of a path, needs a process that goes ahead."""
    timed = config(*KINDS, "time", time_offsets=(("monotonic", TimeOffset(86400, 5)),))
    (scout,) = [one for one in plan_container(timed, Host(), Request("box", "/b")) if "Scout" in type(one).__name__]
    assert "monotonic 86400 5" in scout.describe()
    joined = config("mount").replace(linux=Linux((Namespace("mount"), Namespace("pid", "/proc/1/ns/pid"))))
    order = names(plan_container(joined, Host(), Request("box", "/b")))
    assert order.index("OpenNamespaces") < order.index("MakeProcessByScout")
    assert "MakeProcess" not in order


def test_maps_without_rights() -> None:
    """Without CAP_SETUID one's own id is mapped without groups, more by newuidmap."""
    alone, many = (IdMapping(0, 1000, 1),), (IdMapping(0, 1000, 1), IdMapping(1, 100000, 65536))
    for maps, helper, groups in ((alone, False, False), (many, True, True)):
        asked = config("user", "mount", uid_mappings=maps, gid_mappings=maps)
        (written,) = [
            one
            for one in plan_container(asked, Host(1000, 0), Request("b", "/b"))
            if type(one).__name__ == "WriteIdMaps"
        ]
        assert (written.helper, written.groups) == (helper, groups)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "name"),
    [(None, "box"), ("/a/b", "a/b"), ("a", "a"), ("../../x", "x"), ("/..", "box"), ("", "box")],
    ids=["none", "absolute", "relative", "climbing", "root", "empty"],
)
def test_names_of_cgroups(path: str | None, name: str) -> None:
    """A path of a cgroup climbs nowhere, and is never the root."""
    assert cgroup_name(path, "box") == name


def test_environment() -> None:
    """The later of two entries for one name holds; what is no entry is refused."""
    assert environment(("A=1", "B=", "A=2=3")) == {"A": "2=3", "B": ""}
    for bad in ("A", "=1", "A=\0"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            environment((bad,))


def test_stat_with_a_name_that_lies() -> None:
    """The fields of a process whose name holds parentheses and blanks are counted after the last of them."""
    fields = parse_stat("42 (a) S 1 (b) R 7 42 42")
    assert fields[1] == "R"
    assert fields[2] == "7"


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a\0", "a b", "é", "x" * 256])
def test_ids_that_are_none(name: str) -> None:
    """They are refused before a path is made of them."""
    with pytest.raises(InvalidIdError):
        check_id(name)


@pytest.mark.parametrize("name", ["a", "-a", "A_b+c.d", "x" * 255])
def test_ids(name: str) -> None:
    """Letters, digits and four signs; as long as a file name."""
    assert check_id(name) == name


def test_state_survives_and_is_refused_when_damaged(tmp_path: Path) -> None:
    """What is written is read again; a state that is cut off, of another name, or missing says so."""
    root = str(tmp_path / "states")
    with make_directory(root, "box") as directory:
        state = State("box", "/b", "/b/rootfs", {"k": "v"})
        state.undo = [("link", "veth0")]
        directory.write_state(state)
        again = directory.read_state()
        assert again.to_json() == state.to_json()
        text = directory.read("state.json")
        for damaged in (text[: len(text) // 2], b"", b"[]", text.replace(b'"box"', b'"other"', 1)):
            directory.write("state.json", damaged)
            with pytest.raises(StateError):
                directory.read_state()
        assert sorted(path.name for path in (tmp_path / "states/box").iterdir()) == ["state.json"]
        with pytest.raises(ContainerExistsError):
            make_directory(root, "box")
        directory.remove()
    with pytest.raises(LookupError):
        open_directory(root, "box")
    with pytest.raises(StateError):
        state_of_json({"id": "box"}, "box")


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A state that is a link to somewhere else is neither read nor written through, nor is a root that others write."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "state.json").write_text("{}")
    root = tmp_path / "states"
    root.mkdir(mode=0o700)
    (root / "box").symlink_to(outside)
    with pytest.raises((LookupError, OSError)):
        open_directory(str(root), "box")
    with make_directory(str(root), "real") as directory:
        (root / "real/state.json").symlink_to(outside / "state.json")
        with pytest.raises(OSError, match="symbolic links"):
            directory.read("state.json")
        write_whole(directory.fd, "state.json", b"new")
        assert (outside / "state.json").read_text() == "{}"
    root.chmod(0o777)
    with pytest.raises(PermissionError, match="others can write"):
        open_directory(str(root), "real")


def test_state_for_hooks_and_engines() -> None:
    """It has the specification's members, and pid 0 once the container has stopped."""
    state = State("box", "/b", "/b/rootfs", {})
    state.created = 1_000_000_000.25
    told = describe_state(state, "stopped")
    assert (told["ociVersion"], told["pid"], told["status"], told["bundle"]) == ("1.3.0", 0, "stopped", "/b")
    assert told["created"] == format_time(1_000_000_000.25) == "2001-09-09T01:46:40.250000000Z"


def test_hooks_of_the_own_copy() -> None:
    """Hooks after the start are those of the configuration that the container was made with."""
    text = b'{"hooks": {"poststop": [{"path": "/x", "args": ["x", "1"], "timeout": 5}]}}'
    assert stored_hooks(text, "poststop") == (Hook("/x", ("x", "1"), None, 5),)
    assert stored_hooks(text, "poststart") == ()


@pytest.mark.rule("K+8")
def test_what_can_not_be_had_is_a_value(tmp_path: Path) -> None:
    """Each ability is granted or not, with what denies it; of a configuration, those that it asks for."""
    (tmp_path / "user").mkdir()
    (tmp_path / "kernel").mkdir()
    (tmp_path / "user/max_net_namespaces").write_text("0\n")
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    poor = Host(1000, 0, 0, (), ("mnt", "net", "pid", "user", "uts", "ipc"))
    report = {one.name: one for one in capabilities_report(poor, sys=str(tmp_path), abi=0)}
    assert report["namespace time"] == Ability("namespace time", False, "not in this kernel")
    assert report["namespace network"].reason == f"{tmp_path}/user/max_net_namespaces is 0"
    assert "Landlock" in report["namespace user"].reason
    assert not report["cgroups"].granted
    assert not report["landlock"].granted
    rich = Host(kinds=("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"))
    empty = str(tmp_path / "empty")
    assert all(one.granted for one in granted(config(), rich, sys=empty, abi=6))
    refused = [one.name for one in granted(config(), poor, sys=str(tmp_path), abi=0) if not one.granted]
    assert refused == ["namespace network", "namespace cgroup"]


@pytest.mark.rule("K+8")
@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (("bin/newuidmap", "sbin/newgidmap"), Ability("map many ids", True, "by newuidmap")),
        (("sbin/newuidmap",), Ability("map many ids", False, "newgidmap missing")),
        ((), Ability("map many ids", False, "newuidmap, newgidmap missing")),
    ],
    ids=["both", "one", "none"],
)
def test_who_may_map_many_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], expected: Ability
) -> None:
    """Without CAP_SETUID both helpers are needed, wherever they are, and what is missing is named."""
    for file in there:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
        (tmp_path / file).chmod(0o755)
    monkeypatch.setattr(reporting, "_DIRECTORIES", (f"{tmp_path}/bin", f"{tmp_path}/sbin"))
    poor = Host(1000, 0, 0, (), ())
    assert expected in capabilities_report(poor, sys=str(tmp_path), abi=0)


def test_permitted_capabilities() -> None:
    """They are read from the line that has them."""
    assert parse_permitted("Name:\tx\nCapPrm:\t00000000000000ff\n") == 255
    with pytest.raises(ValueError, match="CapPrm"):
        parse_permitted("")


def test_events_of_a_cgroup_are_events_of_its_container() -> None:
    """Kills for memory are counted; thawing and the last process's end are told; what says nothing is left out."""
    assert translate(CgroupEvent("memory.events", "oom_kill", 5, 2), "box") == Event("oom-kill", "box", 2)
    assert translate(CgroupEvent("cgroup.events", "frozen", 1, 1), "box") == Event("paused", "box")
    assert translate(CgroupEvent("cgroup.events", "frozen", 0, -1), "box") == Event("resumed", "box")
    assert translate(CgroupEvent("cgroup.events", "populated", 0, -1), "box") == Event("ended", "box")
    assert translate(CgroupEvent("", "removed", 1, 1), "box") == Event("ended", "box")
    assert translate(CgroupEvent("memory.events", "high", 1, 1), "box") is None
    assert Event("oom", "box").to_json() == {"type": "oom", "id": "box", "data": {"count": 1}}


def test_whose_a_cgroup_becomes() -> None:
    """The process's user gets it where the container has a cgroup namespace and can write; never otherwise."""
    maps = (IdMapping(0, 100_000, 65_536),)
    spaces = (Namespace("cgroup"), Namespace("user"))
    linux = Linux(spaces, uid_mappings=maps, gid_mappings=maps)
    mount = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "rw"))
    asked = Config("1.3.0", process=Process("/", ("x",), user=User(7, 7)), mounts=(mount,), linux=linux)
    assert plan_owner(asked) == (GiveCgroup(100_007),)
    assert plan_owner(asked.replace(linux=Linux(spaces[:1]))) == (GiveCgroup(7),)
    for other in (
        asked.replace(mounts=(mount.replace(options=("rw", "ro")),)),
        asked.replace(mounts=()),
        asked.replace(linux=linux.replace(namespaces=spaces[1:])),
        asked.replace(linux=linux.replace(namespaces=(Namespace("cgroup", "/x"), spaces[1]))),
        asked.replace(linux=linux.replace(uid_mappings=())),
        asked.replace(process=Process("/", ("x",), user=User(70_000, 7))),
        asked.replace(process=Process("/", ("x",)), linux=Linux(spaces[:1])),
        asked.replace(process=None),
    ):
        assert plan_owner(other) == ()
