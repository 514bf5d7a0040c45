"""Subcommands: what each calls with what."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import activation, ending
from kernelproof.impl.libcontainer.config.records import Config, ConsoleSize, Process
from kernelproof.impl.libcontainer.nsinit.main import main
from kernelproof.impl.libcontainer.nsinit.options import Given, UsageError
from kernelproof.impl.libcontainer.nsinit.tables import format_table, plain
from kernelproof.impl.libcontainer.nsinit.verbs import (
    bundles,
    creating,
    deleting,
    killing,
    listing,
    pausing,
    processes,
    resuming,
    running,
    starting,
)
from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.state import ContainerError, NoSuchContainerError
from kernelproof.impl.tests.libcontainer.nsinit.calls import Calls

FIXTURES = Path(__file__).parents[4] / "fixtures/libcontainer/legacy"


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
    assert named == {"config_text": (bundle / "config.json").read_bytes(), "pid_file": "/p", "prepare": None}
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
    monkeypatch.setattr(ending, "delete", removed)
    assert main(["--root", "/r", "run", *words, "-b", str(bundle), "web"]) == status
    assert bool(removed.seen) == deleted


def test_run_in_the_foreground_may_find_the_container_gone(
    bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody else has deleted it by force, the exit status is the program's all the same."""

    def gone(*_: object, **__: object) -> None:
        raise NoSuchContainerError("container 'web' does not exist")

    monkeypatch.setattr(running, "run_container", calls)
    monkeypatch.setattr(running, "attend", lambda *_: 137)
    monkeypatch.setattr(running, "_become_subreaper", lambda: None)
    monkeypatch.setattr(ending, "delete", gone)
    assert main(["run", "-b", str(bundle), "web"]) == 137


def test_a_terminal_has_the_size_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the foreground, from the program's first instruction on, unless the configuration says another."""
    plain = Process("/", ("sh",), terminal=True)
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 0)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((132, 43)))
    assert bundles.with_size(plain).console_size == ConsoleSize(height=43, width=132)
    said = plain.replace(console_size=ConsoleSize(25, 80))
    assert bundles.with_size(said) == said
    assert bundles.with_size(plain.replace(terminal=False)).console_size is None
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    assert bundles.with_size(plain).console_size is None


def test_debug_records_each_operation(
    bundle: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --debug the walk over the plan has something to tell its steps to."""
    monkeypatch.setattr(creating, "create", calls)
    assert main(["--debug", "create", "-b", str(bundle), "web"]) == 0
    ((_, named),) = calls.seen
    site = Site()
    named["prepare"](site)  # type: ignore[operator]
    site.found["trace"]("host: look")  # type: ignore[operator]
    assert capfd.readouterr().err.splitlines() == ["nsinit: debug: create: exit status 0", "nsinit: debug: host: look"]


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


def test_a_table_of_ps_is_filtered() -> None:
    """The header stays, and each line whose PID is the container's, wherever that column is; without it, an error."""
    table = "UID   PID CMD\nroot    7 sleep 8\nroot   8 cat\n"
    assert processes.filter_table(table, {7}) == "UID   PID CMD\nroot    7 sleep 8\n"
    assert processes.filter_table(" PID\n  9\n", {9}) == " PID\n  9\n"
    for odd in ("COMMAND\nsleep\n", ""):
        with pytest.raises(UsageError, match="no column PID"):
            processes.filter_table(odd, {7})
    assert processes.run_ps(sys.executable, ["-c", "print('PID')"]) == "PID\n"
    with pytest.raises(RuntimeError, match="/bin/false -x ended with 1"):
        processes.run_ps("/bin/false", ["-x"])


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
    assert captured.out.splitlines()[1].split() == ["web", "7", "running", "/b", "now", "root"]
    assert captured.err == "nsinit: warning: skipped broken: damaged\n"
    assert main(["--root", str(tmp_path), "list", "-f", "json"]) == 0
    assert [state["id"] for state in json.loads(capfd.readouterr().out)] == ["web"]
    assert main(["--root", str(tmp_path), "list", "--quiet"]) == 0
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("web\n", "nsinit: warning: skipped broken: damaged\n")
    assert listing.user_name(4294967294) == "4294967294"


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
