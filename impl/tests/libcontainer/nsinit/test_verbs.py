"""Subcommands: what each calls with what, and the pure parts of those that have some."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernelproof.impl.cgroups.controllers.cpu import CpuStats
from kernelproof.impl.cgroups.controllers.io import DeviceIo
from kernelproof.impl.cgroups.controllers.memory import MemoryStats
from kernelproof.impl.cgroups.controllers.pids import PidsStats
from kernelproof.impl.cgroups.stats import Stats
from kernelproof.impl.libcontainer import activation
from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    Cpu,
    Memory,
    Pids,
    Process,
    Resources,
    User,
)
from kernelproof.impl.libcontainer.nsinit import of2014
from kernelproof.impl.libcontainer.nsinit.commands import load
from kernelproof.impl.libcontainer.nsinit.main import main
from kernelproof.impl.libcontainer.nsinit.measures import describe_event, describe_stats
from kernelproof.impl.libcontainer.nsinit.options import Given, UsageError
from kernelproof.impl.libcontainer.nsinit.parsing import parse
from kernelproof.impl.libcontainer.nsinit.tables import format_table, plain
from kernelproof.impl.libcontainer.nsinit.verbs import (
    bundles,
    creating,
    deleting,
    executing,
    executing_2014,
    killing,
    listing,
    measuring,
    pausing,
    processes,
    resuming,
    running,
    starting,
    updating,
)
from kernelproof.impl.libcontainer.state import ContainerError

FIXTURES = Path(__file__).parents[4] / "fixtures/libcontainer/legacy"


class Calls(NamedTuple):
    """What was called in place of libcontainer's own functions."""

    seen: list[tuple[tuple[object, ...], dict[str, object]]]

    def __call__(self, *values: object, **named: object) -> Any:
        """Notes a call; what comes back has a pidfd."""
        self.seen.append((values, named))
        return Started(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class Started(NamedTuple):
    """In place of lifecycle.Started."""

    pidfd: int
    refused: tuple[str, ...] = ()


@pytest.fixture
def calls() -> Calls:
    """A recorder."""
    return Calls([])


@pytest.mark.parametrize(
    ("module", "name", "words", "values", "named"),
    [
        (starting, "start", ["start", "web"], ("/r", "web"), {}),
        (killing, "kill", ["kill", "web"], ("/r", "web", 15), {"everything": False}),
        (killing, "kill", ["kill", "--all", "web", "9"], ("/r", "web", 9), {"everything": True}),
        (killing, "kill", ["kill", "web", "SIGHUP"], ("/r", "web", 1), {"everything": False}),
        (pausing, "pause", ["pause", "web"], ("/r", "web"), {}),
        (resuming, "resume", ["resume", "web"], ("/r", "web"), {}),
        (resuming, "resume", ["unpause", "web"], ("/r", "web"), {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_short_subcommand_is_one_call(
    module: Any,
    name: str,
    words: list[str],
    values: tuple[object, ...],
    named: dict[str, object],
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root, ID and signal reach the function that does it."""
    monkeypatch.setattr(module, name, calls)
    assert main(["--root", "/r", *words]) == 0
    assert calls.seen == [(values, named)]


@pytest.mark.parametrize("force", [False, True], ids=["stopped", "force"])
def test_delete_tells_warnings(force: bool, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """delete hands on --force, and where warnings go."""
    monkeypatch.setattr(deleting, "delete", calls)
    assert main(["--root", "/r", "delete", *(["-f"] if force else []), "web"]) == 0
    ((values, named),) = calls.seen
    assert (values, named["force"]) == (("/r", "web"), force)
    assert callable(named["tell"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose process has no terminal."""
    (tmp_path / "config.json").write_text(Config.minimal("rootfs", ["true"]).dump())
    return tmp_path


def test_create_reads_the_bundle_and_asks_for_a_waiting_container(
    bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options that engines send reach the request, the bytes that were read are kept."""
    monkeypatch.setattr(creating, "create", calls)
    monkeypatch.setattr(activation, "check_given", lambda count: None)  # what is open here is the test run's own
    words = [
        "create",
        "--bundle",
        str(bundle),
        "--pid-file",
        "/p",
        "--no-pivot",
        "--no-new-keyring",
        "--preserve-fds",
        "2",
    ]
    assert main(["--root", "/r", *words, "web"]) == 0
    (((root, config, request), named),) = calls.seen
    assert (root, config) == ("/r", Config.minimal("rootfs", ["true"]))
    assert named == {"config_text": (bundle / "config.json").read_bytes(), "pid_file": "/p"}
    found: Any = request
    assert (found.id, found.bundle, found.waits, found.console_socket) == ("web", str(bundle), True, "")
    assert (found.no_pivot, found.no_new_keyring, found.preserved) == (True, True, 2)


def test_a_pidfd_is_sent_where_it_is_asked_for(bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """--pidfd-socket gets the descriptor in one message; nothing stays open here."""
    monkeypatch.setattr(creating, "create", calls)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bundle / "socket"))
        listener.listen()
        words = ["create", "--bundle", str(bundle), "--pidfd-socket", str(bundle / "socket"), "web"]
        assert main(["--root", "/r", *words]) == 0
        connection, _ = listener.accept()
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 16, 4)
    assert (data, len(descriptors)) == (b"pidfd", 1)
    os.close(descriptors[0])
    assert len(os.listdir("/proc/self/fd")) == before


def test_run_in_the_background_does_not_wait(bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """run --detach asks for a container that does not wait for start, and ends."""
    monkeypatch.setattr(running, "run_container", calls)
    monkeypatch.setattr(running, "attend", lambda *_: pytest.fail("it was waited for"))
    assert main(["--root", "/r", "run", "-d", "-b", str(bundle), "web"]) == 0
    (((_, _, request), _),) = calls.seen
    assert not request.waits  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "status", "deleted"), [([], 7, True), (["--keep"], 7, False)], ids=["deleted", "kept"]
)
def test_run_in_the_foreground_ends_as_the_program_did(
    words: list[str], status: int, deleted: bool, bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit status is the program's, and the container is deleted unless it is to be kept."""
    removed = Calls([])

    def attend(started: Any, _given: object) -> int:
        os.close(started.pidfd)
        return 7

    monkeypatch.setattr(running, "run_container", calls)
    monkeypatch.setattr(running, "attend", attend)
    monkeypatch.setattr(running, "_become_subreaper", lambda: None)
    monkeypatch.setattr(running, "delete", removed)
    assert main(["--root", "/r", "run", *words, "-b", str(bundle), "web"]) == status
    assert bool(removed.seen) == deleted


@pytest.mark.parametrize(
    ("terminal", "options", "foreground", "said"),
    [
        (True, {}, False, "--console-socket has to say who gets it"),
        (True, {"console-socket": "/s"}, True, "in the foreground"),
        (False, {"console-socket": "/s"}, False, "no terminal"),
        (True, {"console-socket": "/s"}, False, ""),
        (True, {}, True, ""),
        (False, {}, False, ""),
    ],
)
def test_a_terminal_has_one_taker(terminal: bool, options: dict[str, object], foreground: bool, said: str) -> None:
    """A detached terminal needs a socket, a socket needs a detached terminal."""
    given = Given(dict(options), ["web"])
    if not said:
        bundles.check_terminal(given, terminal, foreground=foreground)
        return
    with pytest.raises(ContainerError, match=said):
        bundles.check_terminal(given, terminal, foreground=foreground)


def asked(*words: str) -> Given:
    """What exec was given."""
    return parse(load("exec"), [*words, "web", "ps"])


OWN = Process(
    "/srv",
    ("httpd",),
    ("PATH=/bin", "A=1"),
    User(33, 44, 0o27, (5,)),
    terminal=True,
    capabilities=Capabilities(bounding=("CAP_KILL",), permitted=("CAP_KILL",), inheritable=("CAP_KILL",)),
)


def test_exec_takes_from_the_container_what_is_not_said() -> None:
    """Environment, user, directory and capabilities are the container's; program and terminal are not."""
    assert executing.plan_process(OWN, asked(), ("ps",)) == OWN.replace(args=("ps",), terminal=False)


def test_exec_changes_what_is_said() -> None:
    """Each option has its place; a user without a group keeps the group."""
    words = [
        "-u",
        "7",
        "-g",
        "6",
        "-e",
        "A=2",
        "--cwd",
        "/",
        "-t",
        "--no-new-privs",
        "--apparmor",
        "p",
        "--process-label",
        "l",
    ]
    found = executing.plan_process(OWN, asked(*words), ("ps",))
    assert found.user == User(7, 44, 0o27, (5, 6))
    assert found.env == ("PATH=/bin", "A=1", "A=2")
    assert (found.cwd, found.terminal, found.no_new_privileges) == ("/", True, True)
    assert (found.apparmor_profile, found.selinux_label) == ("p", "l")
    assert executing.plan_process(OWN, asked("-u", "7:8"), ("ps",)).user.gid == 8


def test_exec_adds_capabilities_but_never_inheritable_ones() -> None:
    """--cap goes to bounding, effective and permitted; what can be inherited stays as the configuration has it."""
    found = executing.plan_process(OWN, asked("-c", "CAP_CHOWN"), ("ps",)).capabilities
    assert found == Capabilities(
        bounding=("CAP_KILL", "CAP_CHOWN"),
        effective=("CAP_CHOWN",),
        permitted=("CAP_KILL", "CAP_CHOWN"),
        inheritable=("CAP_KILL",),
    )


@pytest.mark.parametrize(("text", "name"), [("", ""), ("a/b", "a/b"), ("memory:a", "a"), ("/a/", "a")])
def test_a_cgroup_of_exec_is_below_the_containers(text: str, name: str) -> None:
    """A controller before the colon is dropped; .. never climbs."""
    assert executing.parse_cgroup(text) == name
    with pytest.raises(UsageError):
        executing.parse_cgroup(f"{text}/../../x")


def limits(*words: str) -> Given:
    """What update was given."""
    return parse(load("update"), [*words, "web"])


def test_update_asks_for_what_is_named() -> None:
    """Each option sets its field, and no other; swap alone is possible."""
    words = ["--memory", "-1", "--cpu-quota=50000", "--cpuset-cpus", "0-1", "--pids-limit", "9"]
    assert updating.plan_resources(limits(*words)) == Resources(
        memory=Memory(limit=-1), cpu=Cpu(quota=50000, cpus="0-1"), pids=Pids(9)
    )
    assert updating.plan_resources(limits("--memory-swap", "5")) == Resources(memory=Memory(swap=5))


def test_update_refuses_what_cannot_hold() -> None:
    """The same checks as in a configuration, before the container is looked at."""
    with pytest.raises(ConfigError, match=r"\$\.cpu\.period"):
        updating.plan_resources(limits("--cpu-period", "5"))
    with pytest.raises(ConfigError, match=r"\$\.memory\.swap"):
        updating.plan_resources(limits("--memory", "5", "--memory-swap", "4"))


def test_update_keeps_what_is_not_named() -> None:
    """Fields merge at each level; lists are replaced."""
    old = Resources(memory=Memory(limit=1, swap=2), cpu=Cpu(shares=3))
    new = Resources(memory=Memory(limit=9), pids=Pids(5))
    assert updating.merge(old, new) == Resources(memory=Memory(limit=9, swap=2), cpu=Cpu(shares=3), pids=Pids(5))


def test_update_reads_a_file_or_standard_input(tmp_path: Path) -> None:
    """A file with linux.resources is read and checked."""
    (tmp_path / "limits.json").write_text('{"pids": {"limit": 7}}')
    assert updating.read_resources(str(tmp_path / "limits.json")) == Resources(pids=Pids(7))
    (tmp_path / "limits.json").write_text('{"pids": {"limit": -7}}')
    with pytest.raises(ConfigError, match=r"limits.json: \$\.pids\.limit"):
        updating.read_resources(str(tmp_path / "limits.json"))


STATS = Stats(
    cpu=CpuStats(5, 3, 2, 10, 1, 7, None, None, (2, 3)),
    cpuset=None,
    memory=MemoryStats(4096, 8192, -1, None, -1, 3, None, None, None, {"file": 100, "anon": 5}),
    io=(DeviceIo(8, 0, 1024, 2048, 3, 4),),
    pids=PidsStats(2, -1, 0, None),
    hugetlb=(),
    rdma=None,
    misc=None,
    pressure={},
)


def test_measurements_have_the_form_that_engines_know() -> None:
    """Times are nanoseconds, no limit is the highest number, each device has one entry an operation."""
    found: Any = describe_stats(STATS)
    assert found["cpu"]["usage"] == {"total": 5000, "percpu": [2000, 3000], "kernel": 2000, "user": 3000}
    assert found["cpu"]["throttling"] == {"periods": 10, "throttledPeriods": 1, "throttledTime": 7000}
    assert found["memory"]["usage"] == {"limit": (1 << 64) - 1, "usage": 4096, "max": 8192, "failcnt": 3}
    assert found["memory"]["cache"] == 100
    assert found["pids"] == {"current": 2, "limit": 0}
    assert found["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 1024},
        {"major": 8, "minor": 0, "op": "Write", "value": 2048},
    ]
    assert describe_event("stats", "web", {}) == {"type": "stats", "id": "web", "data": {}}
    assert describe_event("oom", "web") == {"type": "oom", "id": "web"}


def test_what_is_not_measured_is_empty() -> None:
    """Controllers that are not there leave empty objects."""
    found = describe_stats(Stats(None, None, None, None, None, (), None, None, {}))
    assert (found["cpu"], found["memory"], found["pids"]) == ({}, {}, {})


def test_a_row_for_people() -> None:
    """Sizes with units, no limit in a word."""
    row = measuring.make_row("web", describe_stats(STATS))
    assert row == ("web", "0.0 s", "4.0 KiB", "none", "2", "1.0 KiB", "2.0 KiB")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    """Powers of 1024, one digit behind the point."""
    assert measuring.format_bytes(count) == text


def test_a_table_for_pipes() -> None:
    """Columns are as wide as their widest cell, at least 12; lines end without blanks; no cell steers a terminal."""
    text = format_table(("ID", "BUNDLE"), [("web", "/srv/" + "x" * 20), ("a\x1b[2Jb", "")])
    assert text == f"ID          BUNDLE\nweb         /srv/{'x' * 20}\na?[2Jb\n"
    assert plain("a\nb") == "a?b"


def test_processes_are_read_from_proc(tmp_path: Path) -> None:
    """A name with blanks and brackets does not shift the fields; one that has ended is left out."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text("7 (a) b c) S 3 7 7 0")
    (tmp_path / "7/cmdline").write_bytes(b"sleep\x005\x00")
    assert processes.read_row(7, str(tmp_path))[1:] == ("7", "3", "S", "sleep 5")
    (tmp_path / "7/cmdline").write_bytes(b"")
    assert processes.read_row(7, str(tmp_path))[4] == "[a) b c]"
    assert processes.read_row(8, str(tmp_path)) == ()


def test_list_skips_what_is_broken(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose state can't be read is a warning; the others are listed, as table, JSON and names."""
    tmp_path.chmod(0o700)
    for name in ("broken", "web"):
        (tmp_path / name).mkdir()

    def read(root: str, identifier: str) -> dict[str, object]:
        if identifier == "broken":
            raise ContainerError("damaged")
        return {"id": "web", "pid": 7, "status": "running", "bundle": "/b", "created": "now", "owner": "0"}

    monkeypatch.setattr(listing, "read_state", read)
    assert main(["--root", str(tmp_path), "list"]) == 0
    captured = capfd.readouterr()
    assert captured.out.splitlines()[1].split() == ["web", "7", "running", "/b", "now", "0"]
    assert captured.err == "nsinit: warning: skipped broken: damaged\n"
    assert main(["--root", str(tmp_path), "list", "-f", "json"]) == 0
    assert [state["id"] for state in json.loads(capfd.readouterr().out)] == ["web"]
    assert main(["--root", str(tmp_path), "list", "--quiet"]) == 0
    assert capfd.readouterr().out == "broken\nweb\n"


def test_plan_prints_every_step_and_does_nothing(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """plan numbers the steps with their stage, as text and as JSON; no state is made."""
    assert main(["--root", str(bundle / "r"), "plan", str(bundle)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].split()[1:] == ["final", "execute", "true"]
    assert main(["plan", "--format", "json", "--bundle", str(bundle)]) == 0
    steps = json.loads(capfd.readouterr().out)
    assert len(steps) == len(lines)
    assert {step["stage"] for step in steps} == {"host", "init", "root", "final"}
    assert sorted(path.name for path in bundle.iterdir()) == ["config.json"]


def test_config_converts_compares_and_reports(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Either form becomes either form; differences are printed with exit status 1; A is refused."""
    assert main(["config", "--to", "2014", str(FIXTURES / "e.json")]) == 0
    legacy = bundle / "container.json"
    legacy.write_text(capfd.readouterr().out)
    assert main(["config", str(legacy), "httpd", "-f"]) == 0
    (bundle / "other.json").write_text(capfd.readouterr().out)
    assert main(["config", "--compare", str(legacy), str(bundle / "other.json")]) == 1
    assert capfd.readouterr().out == '$.process.args: ["httpd","-f"] | nothing\n'
    assert main(["config", "--compare", str(bundle / "other.json"), str(legacy), "httpd", "-f"]) == 0
    assert capfd.readouterr().out == ""
    assert main(["config", "--compare", str(bundle), "-f", "json", str(bundle / "other.json")]) == 1
    paths = [difference["path"] for difference in json.loads(capfd.readouterr().out)]
    assert "$.hostname" in paths
    assert main(["config", str(FIXTURES / "a.json")]) == 1
    assert "names what to keep" in capfd.readouterr().err


def test_features_name_what_create_takes(capfd: pytest.CaptureFixture[str]) -> None:
    """The document has the members of the specification, and knows no annotation that changes what is done."""
    assert main(["features"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["ociVersionMin"] <= found["ociVersionMax"]
    assert found["potentiallyUnsafeConfigAnnotations"] == []
    assert {"time", "user", "mount"} <= set(found["linux"]["namespaces"])
    assert {"rro", "idmap", "tmpcopyup", "rslave", "bind"} <= set(found["mountOptions"])
    assert set(found["linux"]["seccomp"]["supportedFlags"]) <= set(found["linux"]["seccomp"]["knownFlags"])


IN_2014 = "2014-srv-web"


@pytest.mark.parametrize(
    ("words", "today"),
    [
        (["exec", "ls", "-l"], ["exec-2014", "--", "ls", "-l"]),
        (["exec", "--", "x"], ["exec-2014", "--", "--", "x"]),
        (["stats"], ["stats", "--format", "json", IN_2014]),
        (["pause"], ["pause", IN_2014]),
        (["unpause"], ["unpause", IN_2014]),
        (["config"], ["config", "/srv/web"]),
        (["pause", "web"], ["pause", "web"]),
        (["state", "web"], ["state", "web"]),
        (["spec"], ["spec"]),
    ],
    ids=" ".join,
)
def test_words_of_2014_become_those_of_today(words: list[str], today: list[str]) -> None:
    """With data_path, what had no ID gets that of the directory; what has one stays as it is."""
    assert of2014.translate(words, "/srv/web") == today


def test_a_directory_has_one_name() -> None:
    """The ID is made of the absolute path, in letters that an ID may have, and not too long."""
    assert of2014.name_of("/srv/web") == IN_2014
    assert of2014.name_of("/srv/x/../web") == IN_2014
    assert of2014.name_of("/srv/ü b") == "2014-srv---b"
    assert len(of2014.name_of("/" + "x" * 300)) == 255


def test_exec_of_2014_runs_container_json(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file of data_path, the words as its program, the working directory as its root; pid lies beside meanwhile."""
    removed = Calls([])
    (tmp_path / "container.json").write_text((FIXTURES / "d.json").read_text())
    (tmp_path / "rootfs").mkdir()
    monkeypatch.chdir(tmp_path / "rootfs")
    monkeypatch.setenv("data_path", str(tmp_path))

    def attend(_started: object, _given: object) -> int:
        (tmp_path / "pid").touch()
        return 5

    monkeypatch.setattr(executing_2014, "run_container", calls)
    monkeypatch.setattr(executing_2014, "attend", attend)
    monkeypatch.setattr(executing_2014, "delete", removed)
    assert main(["--root", str(tmp_path / "states"), "exec", "sh", "-c", "exit 5"]) == 5
    (((_, config, request), named),) = calls.seen
    assert isinstance(config, Config)
    assert config.process is not None
    assert config.process.args == ("sh", "-c", "exit 5")
    assert config.root is not None
    assert config.root.path == str(tmp_path / "rootfs")
    assert named["pid_file"] == str(tmp_path / "pid")
    assert not request.waits  # type: ignore[attr-defined]
    assert len(removed.seen) == 1
    assert not (tmp_path / "pid").exists()
    assert main(["exec"]) == 2
    (tmp_path / "container.json").unlink()
    assert main(["--root", str(tmp_path / "states"), "exec", "sh"]) == 1
    assert "container.json: no such file" in capfd.readouterr().err
