"""`kernelproof run`, with the guest's agent in a process of this host: streams, statuses, signals, results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.cli import machines, main, run, run_table
from kernelproof.cli.run_table import TAIL, Kept

LOCAL = [sys.executable, str(Path(__file__).with_name("local_command.py")), "run", "-q", "--no-files"]
KTAP = "printf 'KTAP version 1\\n1..2\\nok 1 a\\n%s 2 b\\n'"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(*words: str, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*LOCAL, *words], input=given, capture_output=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def test_streams_and_status() -> None:
    """Input, the two outputs and the exit status are the program's own, byte by byte."""
    done = go("--", "sh", "-c", "cat; echo wrong >&2; exit 3", given=b"a\0\xff\x1b[2J")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"a\0\xff\x1b[2J", b"wrong\n")


def test_options_of_the_program() -> None:
    """What stands behind the program belongs to it, with or without two dashes before it."""
    assert go("echo", "--json", "--help").stdout == b"--json --help\n"
    assert go("--", "echo", "--", "-n").stdout == b"-- -n\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("sh", "-c", "kill -SEGV $$"), 128 + signal.SIGSEGV, b""),
        (
            ("kernelproof-absent",),
            127,
            b"'kernelproof-absent': name a program of the guest, or give its Debian package",
        ),
        (("/etc/passwd",), 126, b"'/etc/passwd': make it executable (chmod +x)"),
    ],
)
def test_statuses(words: tuple[str, ...], status: int, said: bytes) -> None:
    """Signals, absent programs and what is no program have the statuses that shells give them, and say what helps."""
    done = go("--", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_timeout() -> None:
    """What takes too long is killed: 124."""
    done = go("--timeout", "0.3", "--", "sleep", "60")
    assert (done.returncode, done.stderr) == (124, b"kernelproof: sleep: killed after 0.3 s\n")


@pytest.mark.parametrize(
    "words", [[], ["--"], ["--timeout", "0", "true"], ["--subject", "A B", "true"], ["--forward", "80", "true"]]
)
def test_usage(words: list[str]) -> None:
    """A wrong command line is refused with status 2 before anything is made."""
    done = go(*words)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_reader_that_goes_away() -> None:
    """When nobody reads the output, the program ends by SIGPIPE, as it would here."""
    process = subprocess.Popen([*LOCAL, "--", "yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(120) == 128 + signal.SIGPIPE


def test_no_input() -> None:
    """With --no-stdin what is here is left for others."""
    done = subprocess.run(
        ["sh", "-c", '"$@"; cat', "sh", *LOCAL, "--no-stdin", "--", "cat"],
        input=b"left\n",
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == b"left\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_the_program_s(number: signal.Signals) -> None:
    """A first signal reaches the program, which may end as it likes."""
    script = f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; sleep 60 & wait"
    process = subprocess.Popen([*LOCAL, "--", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"caught\n"
    assert process.returncode == 9


def test_second_signal_ends_it() -> None:
    """A program that does not mind the first signal is dropped at the second."""
    script = "trap 'echo caught' INT; echo ready; while :; do sleep 60 & wait; done"
    pipe = subprocess.PIPE
    process = subprocess.Popen([*LOCAL, "--", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in (b"ready\n", b"caught\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"kernelproof: interrupted\n"
    assert process.returncode == 130


def test_full_disc() -> None:
    """Output that can't be written is an error, not lost without a word."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*LOCAL, "--", "echo", "x"], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


# --- TAP


@pytest.mark.parametrize(("second", "status"), [("ok", 0), ("not ok", 1)])
def test_tap(here: Path, second: str, status: int) -> None:
    """TAP goes through unchanged, into the results file, and a failure shows in the status."""
    done = go("--", "sh", "-c", KTAP.replace("%s", second))
    assert (done.returncode, done.stderr) == (status, b"")
    assert done.stdout.splitlines()[0] == b"KTAP version 1"
    document = json.loads((here / "results/9.1.json").read_text())
    rows = {row["node"]: row for row in document["results"]}
    assert rows["sh::b"]["outcome"] == ("pass" if status == 0 else "fail")
    assert len(rows["sh::a"]["clone"]) == 32


def test_program_that_fails_with_all_tests_passing(here: Path) -> None:
    """A status that no test explains is told as broken."""
    assert go("--", "sh", "-c", KTAP.replace("%s", "ok") + "; exit 5").returncode == 5
    [broken] = [row for row in json.loads((here / "results/9.1.json").read_text())["results"] if row["reason"]]
    assert (broken["outcome"], broken["reason"]) == ("broken", "exit status 5, though no test failed")


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--", "echo", "ok 1"], False),
        (["--tap", "--", "echo", "ok 1"], True),
        (["--no-tap", "--", "echo", "TAP version 13"], False),
    ],
    ids=["auto", "forced", "refused"],
)
def test_whether_it_is_tap(here: Path, words: list[str], written: bool) -> None:
    """Only what announces itself is read as TAP, unless one says so, or says no."""
    go(*words)
    assert (here / "results").exists() is written


def test_lost_machine(here: Path) -> None:
    """A machine that is lost is told with the end of its log, and is a broken row: 125."""
    done = go("--tap", "--", "echo", "1..1", KERNELPROOF_LOSE="1")
    assert done.returncode == 125
    assert b"Oops: 0000" in done.stderr
    assert b"machine lost (panic): clone: it panicked" in done.stderr
    assert b"Traceback" not in done.stderr
    [row] = json.loads((here / "results/9.1.json").read_text())["results"]
    assert (row["outcome"], row["clone"]) == ("broken", None)
    assert "Oops" in row["log"]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([*"abc", "Kernel panic - not syncing", *"de"], ["b", "c", "Kernel panic - not syncing", "d", "e"]),
        ([*"ab"], ["a", "b"]),
        (["BUG: x", *"y" * 100], ["BUG: x", *"y" * 39, "[61 more lines]"]),
        ([*"y" * 100, "z"], [*"y" * 39, "z"]),
    ],
    ids=["panic", "short", "long", "no-trouble"],
)
def test_part_of_a_log(lines: list[str], shown: list[str]) -> None:
    """Of a kernel log the lines that say why are shown: those after the first sign of trouble, else the last."""
    assert machines.shorten_log(lines) == shown


def test_complaints() -> None:
    """Bugs and warnings of the kernel are found on its console, with and without the number of a task."""
    log = "[    1.5] loop: module loaded\n[   12.123456] WARNING: CPU: 1 PID: 5 at x\n[  13.0][  T12] BUG: unable to\n"
    assert machines.read_complaints(log) == ("WARNING: CPU: 1 PID: 5 at x", "BUG: unable to")
    assert machines.read_complaints("") == ()


# --- several kernels


def test_table() -> None:
    """Several kernels make a table, a row each, and what failed is shown with the end of its output, escaped."""
    done = go("--kernel", "5.10,6.12", "--", "sh", "-c", r"printf '\033[2Jout\n'; exit 4", given=b"unread")
    lines = done.stdout.decode().splitlines()
    assert lines[0].split() == ["KERNEL", "RELEASE", "OUTCOME", "STATUS", "TESTS", "SECONDS", "DETAIL"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["5.10", "9.1.2-test", "exit", "4"],
        ["6.12", "9.1.2-test", "exit", "4"],
    ]
    assert done.returncode == 1
    assert b"5.10: the end of its stdout:\n  \\x1b[2Jout" in done.stderr


def test_json() -> None:
    """With --json one kernel is an array of one row, with the program's output in it, escaped."""
    done = go("--json", "--", "sh", "-c", r"printf '\033\n'; " + KTAP.replace("%s", "not ok"))
    [row] = json.loads(done.stdout)
    assert (row["status"], row["outcome"], row["tests"]) == (1, "exit", {"pass": 1, "fail": 1})
    assert row["stdout"].startswith("\\x1b")


def test_lost_machine_in_a_table() -> None:
    """A machine that is lost is a row; the others go on."""
    done = go("--kernel", "5.10", "--kernel", "6.12", "--json", "--", "echo", KERNELPROOF_LOSE="1")
    assert [row["outcome"] for row in json.loads(done.stdout)] == ["lost", "lost"]
    assert done.returncode == 1


def test_output_is_kept_in_bounds() -> None:
    """Of endless output the end is kept."""
    kept = Kept()
    for _ in range(100):
        kept.stdout(bytes(TAIL // 2 + 1))
    kept.stdout(b"end")
    assert kept.texts()["stdout"].endswith("end")
    assert len(kept._stdout) <= 2 * TAIL


def test_first_line_of_a_detail(capsys: pytest.CaptureFixture[str]) -> None:
    """A detail of several lines has one in the table."""
    row = {**dict.fromkeys(run_table.COLUMNS, ""), "seconds": 1.0, "tests": {}, "status": 0, "detail": "one\ntwo"}
    run_table.print_table([row], as_json=False)
    assert capsys.readouterr().out.splitlines()[1].endswith("one")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows what people will want to type."""
    for name in ("run", "shell", "merge"):
        with pytest.raises(SystemExit):
            main.main([name, "--help"])
        assert f"  kernelproof {name} " in capsys.readouterr().out
    assert "exit status:" in run.EPILOG
