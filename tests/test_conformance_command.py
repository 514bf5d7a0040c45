"""`kernelproof conformance`: which pytest it becomes, and what it refuses before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.cli import commands, conformance, main
from kernelproof.vm.kernel_select import read_rows

HERE = Path("/somewhere")
CHECKOUT = Path(__file__).resolve().parent.parent
SUITE = conformance.Suite(Path("/site/kernelproof/conformance"), Path("/site/kernelproof/conformance/suite.ini"), None)
ALWAYS = [
    *("python", "-P", "-m", "pytest", "--config-file=/site/kernelproof/conformance/suite.ini"),
    *("--rootdir=/site/kernelproof", "-o", "cache_dir=/somewhere/.pytest_cache"),
]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--results-dir=/somewhere/results"]),
        (["--results-dir", "/elsewhere"], ["--results-dir=/elsewhere"]),
        (["--kernel", "6.1,newest"], ["--results-dir=/somewhere/results", "--kernel=6.1,newest"]),
        (
            ["--kernel-image", "bzImage", "--modules", "mods", "--guest-root", "root.tar"],
            ["--results-dir=/somewhere/results", "--kernel-image=bzImage", "--modules=mods", "--guest-root=root.tar"],
        ),
        (
            ["--kernel-tree", "linux", "--append", "a=1 b", "--append", "c", "--package", "bash"],
            [
                *("--results-dir=/somewhere/results", "--kernel-tree=linux"),
                "--append=a=1 b",
                "--append=c",
                "--package=bash",
            ],
        ),
        (
            ["-k", "bridge and not fdb", "-n", "2", "-x", "--quick", "--junitxml", "out.xml"],
            [
                *("--results-dir=/somewhere/results", "--junitxml=out.xml", "--behaviours=quick"),
                *("-k", "bridge and not fdb", "-n", "2", "-x"),
            ],
        ),
        (["-x", "--", "--maxfail", "3"], ["--results-dir=/somewhere/results", "-x", "--maxfail", "3"]),
    ],
    ids=["nothing", "results", "kernels", "image", "tree", "selection", "pytest"],
)
def test_command_line_of_pytest(words: list[str], expected: list[str]) -> None:
    """Every option becomes the one that pytest has for it; the suite's folder stands last."""
    arguments = commands.build_command("conformance").parse_args(words)
    planned = conformance.plan_words(arguments, SUITE, HERE, "python")
    assert planned == [*ALWAYS, *expected, "/site/kernelproof/conformance"]


def test_git_does_not_look_around_an_environment() -> None:
    """The repository that an environment lies in is not taken for the suite's; a checkout's is."""
    installed = SUITE._replace(ceiling=Path("/site"))
    assert conformance.plan_environment({}, installed) == {"GIT_CEILING_DIRECTORIES": "/site"}
    assert conformance.plan_environment({"GIT_CEILING_DIRECTORIES": "/a"}, installed) == {
        "GIT_CEILING_DIRECTORIES": f"/site{os.pathsep}/a"
    }
    assert conformance.plan_environment({"A": "1"}, SUITE) == {"A": "1"}


def test_suite_of_a_checkout() -> None:
    """In a checkout the suite is found by its real name, and with settings."""
    suite = conformance.find_suite()
    assert suite == conformance.Suite(CHECKOUT / "conformance", CHECKOUT / "conformance/suite.ini", None)
    assert suite.settings.is_file()


def test_pytest_does_not_find_the_settings_by_itself() -> None:
    """The suite's settings are for the command alone: a checkout's pytest keeps its own."""
    names = {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "setup.cfg", "pyproject.toml"}
    assert names.isdisjoint(path.name for path in (CHECKOUT / "conformance").iterdir())


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], ["--kernel=DEFAULT"]),
        (["--kernel", "oldest"], ["--kernel=oldest"]),
    ],
    ids=["default", "role"],
)
def test_kernel_that_is_run_on(words: list[str], given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kernel it is the table's default."""
    became: list[list[str]] = []
    monkeypatch.setattr(conformance, "become", lambda words, environment: became.append(words))
    monkeypatch.setattr(conformance, "OBSERVERS", ())
    conformance.run(commands.build_command("conformance").parse_args(words))
    expected = [word.replace("DEFAULT", read_rows().default) for word in given]
    assert [word for word in became[0] if word.startswith("--kernel")] == expected


def test_unknown_kernel(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that there is none of is refused before anything is collected."""
    monkeypatch.setattr(conformance, "OBSERVERS", ())
    assert main.main(["conformance", "--kernel", "6.99"]) == 1
    assert "6.99" in capsys.readouterr().err


def test_list_as_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The statements are listed, one a line."""
    assert main.main(["conformance", "--list"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.split() == ["ID", "KERNELS", "STATEMENT"]
    assert any(line.startswith("address.ipv4.permanent-flag ") for line in lines)


@pytest.mark.parametrize("words", [["-k", "bridge"], ["--kernel", "6.12"], ["--quick"]], ids=lambda words: words[0])
def test_list_is_not_chosen_from(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Options that choose tests would be ignored: they are refused, and what lists a choice is named."""
    assert main.main(["conformance", "--list", *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert words[0] in said.err
    assert "--collect-only" in said.err


def test_status_and_output_are_those_of_pytest(tmp_path: Path) -> None:
    """The command becomes pytest, which refuses an option of its own with its own words and status."""
    command = [sys.executable, "-m", "kernelproof.cli", "conformance", "--", "--no-such-option"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --no-such-option" in done.stderr
    assert str(CHECKOUT / "conformance/suite.ini") in done.stderr


def test_rows_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON each statement has its source, its range and its needs."""
    assert main.main(["conformance", "--list", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    row = rows["address.ipv4.permanent-flag"]
    assert (row["subsystem"], row["of"], row["kernels"]) == ("netlink", "kernel", None)
    assert row["source"]
    assert isinstance(row["needs"], list)
