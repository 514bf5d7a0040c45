"""The entry: help, version, errors with their exit status before anything is touched, records as text and JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.config.problems import ConfigError, Problem
from kernelproof.impl.libcontainer.config.reading import parse_config
from kernelproof.impl.libcontainer.config.templates import VERSION, default_config
from kernelproof.impl.libcontainer.nsinit import main as entry
from kernelproof.impl.libcontainer.nsinit.commands import HIDDEN, VERBS, load
from kernelproof.impl.libcontainer.nsinit.failures import tell
from kernelproof.impl.libcontainer.nsinit.logs import Log
from kernelproof.impl.libcontainer.nsinit.main import main
from kernelproof.impl.libcontainer.operations import StartError


def test_the_version_says_which_specification(capfd: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version, then a line with the specification's."""
    assert main(["--version"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("nsinit version ")
    assert lines[1] == f"spec: {VERSION}"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=lambda words: " ".join(words) or "none")
def test_the_programs_help_lists_all_subcommands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Each subcommand stands in the help with its summary; hidden ones and hidden options don't."""
    assert main(words) == 0
    said = capfd.readouterr().out
    for name in VERBS:
        assert re.search(rf"^  {name} +{re.escape(load(name).summary)}$", said, re.MULTILINE)
    for name in HIDDEN:
        assert f"  {name} " not in said
    assert "--criu" not in said


@pytest.mark.parametrize("name", VERBS)
def test_each_subcommand_has_help(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """--help anywhere among its own words prints what it takes, in lines of at most 100 characters; nothing is done."""
    assert main([name, "--help"]) == 0
    said = capfd.readouterr().out
    assert said.startswith(f"usage: nsinit {name} [OPTION...]")
    assert max(map(len, said.splitlines())) <= 100
    for option in load(name).options:
        assert option.hidden or option.names[0] in said
    assert main(["help", name]) == 0
    assert capfd.readouterr().out == said


def test_a_programs_own_help_is_not_ours(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Behind the ID of exec, and behind --, --help belongs to the program or is an operand."""
    assert main(["--root", str(tmp_path), "exec", "web", "ls", "--help"]) == 255
    assert main(["--root", str(tmp_path), "state", "--", "--help"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("does not exist") + captured.err.count("ID") >= 2


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        ["--nothing", "list"],
        ["--log-format", "xml", "list"],
        ["--root"],
        ["create"],
        ["create", "a", "b"],
        ["start", "--now", "x"],
        ["kill", "x", "NOSUCH"],
        ["exec", "x"],
        ["exec", "-u", "root", "x", "true"],
        ["exec", "-g", "wheel", "x", "true"],
        ["exec", "-e", "A", "x", "true"],
        ["exec", "--cwd", "srv", "x", "true"],
        ["exec", "--cap", "FLY", "x", "true"],
        ["exec", "--cgroup", "../other", "x", "true"],
        ["exec", "--process", "f", "x", "true"],
        ["update", "--memory", "much", "x"],
        ["update", "x"],
        ["events", "--interval", "never", "x"],
        ["completion", "cmd"],
        ["update", "--l3-cache-schema", "L3:0=f", "x"],
        ["update", "--mem-bw-schema", "MB:0=50", "x"],
        ["--systemd-cgroup", "--cgroup-manager", "cgroupfs", "list"],
    ],
    ids=" ".join,
)
def test_words_that_are_not_understood_end_with_2(
    words: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status is 2, one line says why and where there is help, and nothing was touched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = [] if words[0].startswith("--") else ["--root", str(tmp_path / "states")]
    assert main([*root, *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"nsinit: .+ \(see nsinit .*--help\)\n", captured.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["state", "x"], 1),
        (["start", "x"], 1),
        (["kill", "x"], 1),
        (["delete", "x"], 1),
        (["delete", "--force", "x"], 0),
        (["pause", "x"], 1),
        (["resume", "x"], 1),
        (["unpause", "x"], 1),
        (["exec", "x", "true"], 255),
        (["update", "--memory", "5", "x"], 1),
        (["ps", "x"], 1),
        (["events", "--stats", "x"], 1),
        (["list"], 0),
        (["init"], 1),
        (["nsenter", "1", "", "{}", "sh"], 1),
        (["create", "x"], 1),
        (["run", "x"], 1),
        (["state", ".."], 1),
        (["state", "a/b"], 1),
        (["state", "x" * 300], 1),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_a_failure_is_one_line_and_its_status(
    words: list[str], status: int, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any container, each subcommand says what is missing: 1, of exec 255; delete --force has nothing to do."""
    monkeypatch.chdir(tmp_path)
    assert main(["--root", str(tmp_path / "states"), *words]) == status
    captured = capfd.readouterr()
    assert bool(captured.err) == bool(status)
    assert captured.err.count("\n") == bool(status)
    assert "Traceback" not in captured.err
    assert not (tmp_path / "states").exists()


def test_records_are_json_in_the_file_and_text_on_standard_error(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With --log and --log-format json, the file gets one object a line, engines' way; people still see the error."""
    log = tmp_path / "log.json"
    words = ["--log-format=json", "--log", str(log), "--root", str(tmp_path / "r")]
    for _ in range(2):
        assert main([*words, "state", "web"]) == 1
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["level"] for record in records] == ["error", "error"]
    assert records[0]["msg"] == "container 'web' does not exist"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", records[0]["time"])
    assert capfd.readouterr().err == "nsinit: container 'web' does not exist\n" * 2


def test_a_failed_operation_is_a_record(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A program reads stage, call, number, path, detail and remedy beside the sentence that people read."""
    error = StartError("init", "Bind", 2, "/not", "no such file or directory", "Make it")

    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(load("list"), "run", fail)
    assert main(["--log-format=json", "list"]) == 1
    record = json.loads(capfd.readouterr().err)
    assert record["msg"] == "init: Bind /not: no such file or directory (ENOENT). Make it"
    assert record["error"] == error.as_record()


def test_records_without_a_file_are_on_standard_error(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As JSON if that is asked for, once."""
    assert main(["--log-format=json", "--root", str(tmp_path / "r"), "state", "web"]) == 1
    assert json.loads(capfd.readouterr().err)["level"] == "error"


def test_a_log_that_cannot_be_opened_is_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The file is opened before anything else, and its error names it."""
    assert main(["--log", str(tmp_path / "no/log"), "list"]) == 1
    assert str(tmp_path / "no/log") in capfd.readouterr().err


def test_a_full_log_hides_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A record that can't be written is lost; the error is still on standard error and in the status."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    assert main(["--log", "/dev/full", "completion", "nothing"]) == 2
    assert "one of bash, zsh, fish" in capfd.readouterr().err


def test_debugging_is_said_only_if_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """Steps are recorded with --debug, other levels always."""
    for debugging in (False, True):
        log = Log(debugging=debugging)
        log.debug("step")
        log.info("done")
        log.warning("odd")
    assert capfd.readouterr().err == (
        "nsinit: info: done\nnsinit: warning: odd\nnsinit: debug: step\nnsinit: info: done\nnsinit: warning: odd\n"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/a"), "/a: no such file or directory"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "/a: /b: invalid cross-device link"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ConfigError("config.json", [Problem("$.a", "1", "no")]), "config.json: $.a is 1: no"),
        (StartError("init", "mount", 2, "/proc", "no such thing", "Add it"), None),
        (KeyError("x"), "'x'"),
        (RuntimeError(), "RuntimeError"),
    ],
    ids=["one-path", "two-paths", "no-path", "config", "start", "lookup", "empty"],
)
def test_an_error_is_told_with_its_object(error: Exception, said: str | None) -> None:
    """What the kernel said is told with the paths, an operation with its stage, and notes stand behind."""
    assert tell(error) == (said or str(error))
    error.add_note("mount(MS_BIND)")
    assert tell(error).endswith(" (mount(MS_BIND))")


def test_ctrl_c_and_a_closed_pipe_end_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """130 after Ctrl-C; 1 when nobody reads any more; neither is a traceback."""
    command = load("list")
    for error, status in ((KeyboardInterrupt(), 130), (BrokenPipeError(32, "Broken pipe"), 1)):

        def fail(*_: object, error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(command, "run", fail)
        kept = os.dup(1)
        assert main(["list"]) == status
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    """A caller may have closed any of them: the call does what it is to do, and no file of its own becomes one."""
    words = [sys.executable, "-m", "kernelproof.impl.libcontainer", "--root", str(tmp_path), "list"]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ID ") is ("1>&-" not in closed)


def test_opened_streams_are_the_null_device() -> None:
    """Each is open, as /dev/null, and one that was open before stays."""
    code = (
        "import os, sys\nfrom kernelproof.impl.libcontainer.nsinit.main import open_streams\nopen_streams()\n"
        "sys.stdout.write(' '.join(os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 2)))\n"
        "sys.stderr.write('gone')\nassert os.get_inheritable(0) and not sys.stdin.read()\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 0<&- 2>&-', "sh", sys.executable, "-c", code],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "/dev/null /dev/null"


def test_global_options_reach_the_subcommand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """root, the manager of cgroups and rootless are handed on."""
    seen: list[entry.Context] = []

    def listed(context: entry.Context, _given: object) -> int:
        seen.append(context)
        return 0

    monkeypatch.setattr(load("list"), "run", listed)
    main(["--root", str(tmp_path), "--systemd-cgroup", "--rootless", "true", "list"])
    main(["list"])
    assert (seen[0].root, seen[0].cgroup_manager, seen[0].rootless) == (str(tmp_path), "systemd", True)
    assert (seen[1].root, seen[1].cgroup_manager, seen[1].rootless) == ("", "cgroupfs", None)


def test_the_module_is_the_command() -> None:
    """python -m kernelproof.impl.libcontainer is nsinit."""
    done = subprocess.run(
        [sys.executable, "-m", "kernelproof.impl.libcontainer", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == entry.version_text()


def test_spec_writes_a_configuration_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """spec writes config.json, which is taken as it is; a file that is there is an error and stays."""
    assert main(["spec", "--bundle", str(tmp_path)]) == 0
    assert parse_config((tmp_path / "config.json").read_bytes()) == default_config()
    assert main(["spec", "--rootless", "--bundle", str(tmp_path)]) == 1
    assert "config.json: file exists" in capfd.readouterr().err
    assert parse_config((tmp_path / "config.json").read_bytes()) == default_config()


def test_spec_for_the_caller(tmp_path: Path) -> None:
    """spec --rootless maps root inside to the caller's own IDs."""
    assert main(["spec", "--rootless", "--bundle", str(tmp_path)]) == 0
    linux = parse_config((tmp_path / "config.json").read_bytes()).linux
    assert [entry.host_id for entry in (*linux.uid_mappings, *linux.gid_mappings)] == [os.geteuid(), os.getegid()]


def test_a_broken_configuration_is_told_in_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """run names each problem of config.json, exit status 1, and makes nothing."""
    (tmp_path / "config.json").write_text('{"ociVersion": "9.0.0", "root": {"path": ""}, "Hooks": {}}')
    assert main(["--root", str(tmp_path / "r"), "run", "--bundle", str(tmp_path), "x"]) == 1
    said = capfd.readouterr().err
    assert "$.ociVersion" in said
    assert "$.root.path" in said
    assert not (tmp_path / "r").exists()
