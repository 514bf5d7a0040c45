"""start.py: which road is taken on which machine, what is taken over from it, and what is said when nothing works."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
WHEEL = {
    "thing.py": "",
    "thing-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1\n",
    "thing-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "thing-1.dist-info/RECORD": "",
}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernelproof_start", ROOT / "start.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start: Any = load()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own for start.py, with what decides the stamp."""
    monkeypatch.setattr(start, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text("thing==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    shutil.copy(ROOT / "noxfile.py", tmp_path)
    return tmp_path


@pytest.fixture
def ready(checkout: Path) -> Path:
    """The same, with an environment that fits."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / start.STAMP).write_text(start.format_stamp())
    return checkout


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("nothing may be run here")


# --- which road -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ensurepip", "module", "wheel", "apt", "expected"),
    [
        (True, False, "", False, ["bundled"]),
        (False, True, "", False, ["module"]),
        (False, False, "/w/pip", False, ["wheel"]),
        (False, False, "", True, ["apt"]),
        (True, True, "/w/pip", True, ["bundled", "module", "wheel", "apt"]),
        (False, True, "", True, ["module", "apt"]),
        (False, False, "", False, []),
    ],
)
def test_roads(ensurepip: bool, module: bool, wheel: str, apt: bool, expected: list[str]) -> None:
    """The cheapest road that a machine offers comes first, and none that it does not offer is named."""
    roads = start.plan_roads(start.Facts(ensurepip, module, wheel, apt))
    assert [road.kind for road in roads] == expected
    assert [road.wheel for road in roads if road.wheel] == [wheel] * expected.count("wheel")


def test_next_road_is_taken_when_one_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A road that does not work is told and the next one is tried."""

    def make(road: Any, folder: Path) -> list[str]:
        if road.kind == "bundled":
            raise start.Failure("try pip", "pip", "it is broken", "mend it")
        return ["pip"]

    monkeypatch.setattr(start, "make_environment", make)
    roads = start.plan_roads(start.Facts(True, True, "", False))
    assert start.take_first_road(roads, tmp_path) == ["pip"]


@pytest.mark.parametrize("ensurepip", [False, True])
def test_no_road_left(ensurepip: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no road is open, or none worked, the failure names the remedy."""

    def make(*_: object) -> NoReturn:
        raise start.Failure("try pip", "pip", "it is broken", "mend it")

    monkeypatch.setattr(start, "make_environment", make)
    roads = start.plan_roads(start.Facts(ensurepip, False, "", False))
    with pytest.raises(start.Failure, match=r"make \.venv: .*\n  remedy: Debian: apt-get install python3-venv"):
        start.take_first_road(roads, tmp_path)


# --- what is taken over -------------------------------------------------------------------------------------------


def test_pip_environment() -> None:
    """How an index is reached is kept; what would change a locked, isolated installation is not."""
    host = {
        "HOME": "/root",
        "PIP_INDEX_URL": "i",
        "PIP_CERT": "c",
        "PIP_FIND_LINKS": "f",
        "PIP_CONSTRAINT": "/constraints",
        "PIP_TARGET": "/elsewhere",
        "PIP_USER": "1",
        "PIP_NO_BINARY": ":all:",
    }
    planned = start.plan_pip_environment(host.items())
    assert {name: planned.get(name) for name in host} == {
        "HOME": "/root",
        "PIP_INDEX_URL": "i",
        "PIP_CERT": "c",
        "PIP_FIND_LINKS": "f",
        "PIP_CONSTRAINT": "/dev/null",
        "PIP_TARGET": None,
        "PIP_USER": "0",
        "PIP_NO_BINARY": None,
    }


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], []),
        (["--"], []),
        (["-k", "x"], ["--", "-k", "x"]),
        (["--", "-k", "x"], ["--", "-k", "x"]),
        (["-k", "x", "--", "y"], ["--", "-k", "x", "--", "y"]),
    ],
)
def test_arguments_with_and_without_dashes(given: list[str], passed: list[str]) -> None:
    """`start.py NAME -- -k x` and `start.py NAME -k x` run the same."""
    assert start.plan_arguments(given) == passed


def test_menu() -> None:
    """Every session of the noxfile is in the menu with one line, the documented ones among them."""
    sessions = start.parse_sessions((ROOT / "noxfile.py").read_text())
    assert {"tests", "conformance", "lint", "types", "long", "fresh", "full"} <= set(sessions)
    assert all(sessions.values())
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = {line.split()[1] for line in listed.stdout.splitlines() if line[:2] in ("* ", "- ")}
    assert set(sessions) == shown


def test_unknown_session_lists_what_there_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is no session is refused before anything is made, with the menu as remedy."""
    monkeypatch.setattr(sys, "argv", ["start.py", "nonsense"])
    monkeypatch.setattr(start, "ensure_environment", refuse)
    assert start.main() == 1
    errors = capfd.readouterr().err
    assert "run a session: nonsense: there is none of that name" in errors
    assert "\n  conformance " in errors


def test_it_becomes_nox(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an environment that fits, nothing is run before nox, which gets the rest of the command line."""
    seen: list[Any] = []
    monkeypatch.setattr(start, "run", refuse)
    monkeypatch.setattr(start.os, "execv", lambda *command: seen.append(command))
    start.start(["lint", "--", "-k", "x"])
    python = str(ready / ".venv/bin/python")
    command = [python, "-m", "nox", "--noxfile", str(ready / "noxfile.py"), "-s", "lint", "--", "-k", "x"]
    assert seen == [(python, command)]


# --- the environment -------------------------------------------------------------------------------------------------


def test_pip_is_not_called_while_nothing_changed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged lock, project file, Python and place need no pip."""
    monkeypatch.setattr(start, "run", refuse)
    assert start.ensure_environment() == ready / ".venv/bin/python"


def test_tool_settings_need_no_pip(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyproject.toml says to tools is no part of what is installed."""
    monkeypatch.setattr(start, "run", refuse)
    with (ready / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 99\n")
    assert start.ensure_environment() == ready / ".venv/bin/python"


def test_second_run_waits_for_the_first(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of two runs at once one makes the environment, and the other waits, says so, and uses it."""
    monkeypatch.setattr(start, "run", refuse)
    holder = os.open(checkout, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)

    def finish(text: str) -> None:
        print(text, file=sys.stderr)
        (checkout / ".venv").mkdir()
        (checkout / ".venv" / start.STAMP).write_text(start.format_stamp())
        os.close(holder)

    monkeypatch.setattr(start, "say", finish)
    assert start.ensure_environment() == checkout / ".venv/bin/python"
    assert "another start.py is making .venv" in capfd.readouterr().err


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "python", "place"])
def test_any_change_makes_it_anew(changed: str, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing that decides what the environment holds is part of its stamp."""
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(start, "take_first_road", lambda *_: ["pip"])
    monkeypatch.setattr(start, "install", lambda pip, words: made.append(words))
    if changed == "python":
        monkeypatch.setattr(sys, "version", "3.99")
    elif changed == "place":
        monkeypatch.setattr(start, "ROOT", ready.rename(ready.with_name("moved")))
    else:
        (ready / changed).write_text("[project]\nchanged = true\n")
    start.ensure_environment()
    assert made == [start.LOCKED, start.LINKED]
    start.ensure_environment()
    assert made == [start.LOCKED, start.LINKED]


def test_interrupted_installation_is_no_environment(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is written last: Ctrl-C on the way leaves an environment that is made anew."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    (checkout / ".venv").mkdir()
    monkeypatch.setattr(start, "take_first_road", lambda *_: ["pip"])
    monkeypatch.setattr(start, "install", interrupt)
    monkeypatch.setattr(sys, "argv", ["start.py", "lint"])
    assert start.main() == 130
    assert not (checkout / ".venv" / start.STAMP).exists()


def test_folder_that_can_not_be_written(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the system refuses on the way is told as a sentence with a remedy."""

    def fill(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device", "/somewhere/.venv")

    monkeypatch.setattr(start, "take_first_road", fill)
    monkeypatch.setattr(sys, "argv", ["start.py", "lint"])
    assert start.main() == 1
    assert "make .venv: /somewhere/.venv: No space left on device\n  remedy: " in capfd.readouterr().err


def test_failed_command_shows_its_end() -> None:
    """A command that fails is named, with its status, the end of its output and the remedy."""
    program = "print(*range(99), sep='\\n'); raise SystemExit(3)"
    with pytest.raises(
        start.Failure, match=r"(?s)^try: .*: exit status 3\n.* 97\n    98\n  remedy: mend it$"
    ) as caught:
        start.run("try", [sys.executable, "-c", program], "mend it")
    assert " 50\n" not in str(caught.value)


def test_missing_command() -> None:
    """A command that is not there is told in the same form."""
    with pytest.raises(start.Failure, match=r"^try: /nowhere/tool: No such file or directory\n  remedy: get it$"):
        start.run("try", ["/nowhere/tool"], "get it")


def write_wheel(folder: Path) -> Path:
    folder.mkdir()
    wheel = folder / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
    return wheel


@pytest.fixture
def pip(checkout: Path) -> list[str]:
    """A pip for the checkout's new, empty environment, by whatever road needs no network."""
    open_roads = start.plan_roads(start.read_facts())
    roads = sorted((road for road in open_roads if road.kind != "apt"), key=lambda road: bool(road.kind == "bundled"))
    if not roads:
        pytest.skip("no pip on this machine but what apt would fetch")
    made: list[str] = start.take_first_road(tuple(roads), checkout)
    return made


@pytest.fixture
def odd_settings(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose pip is told, by environment and file, much that a locked installation must not follow."""
    (checkout / "constraints.txt").write_text("thing==2\n")
    (checkout / "pip.conf").write_text(
        f"[global]\nconstraint = {checkout}/constraints.txt\nno-binary = :all:\nuser = yes\n"
        f"[install]\nfind-links = {checkout}/links\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(checkout / "pip.conf"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(checkout / "constraints.txt"))
    monkeypatch.setenv("PIP_TARGET", str(checkout / "elsewhere"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.mark.usefixtures("odd_settings")
@pytest.mark.parametrize("lock", ["right", "another hash", "no hash"])
def test_hashes_are_demanded(lock: str, checkout: Path, pip: list[str]) -> None:
    """The locked package is installed whatever this machine's pip is told; any other, or one without hash, is not."""
    wheel = write_wheel(checkout / "links")
    digest = hashlib.sha256(wheel.read_bytes() + b"x" * (lock == "another hash")).hexdigest()
    line = "thing==1" if lock == "no hash" else f"thing==1 --hash=sha256:{digest}"
    (checkout / "requirements.lock").write_text(line + "\n")
    if lock == "right":
        start.install(pip, start.LOCKED)
    else:
        with pytest.raises(start.Failure, match=r"(?is)install into .venv: .*hash.*remedy: "):
            start.install(pip, start.LOCKED)
    assert bool(list(checkout.glob(".venv/lib/python3*/site-packages/thing.py"))) is (lock == "right")


def test_every_road_installs_into_the_environment_alone(checkout: Path) -> None:
    """No road takes the packages of the Python beside it for installed."""
    for road in start.plan_roads(start.read_facts()):
        if road.kind in ("module", "wheel"):
            pip = start.make_environment(road, checkout)
            listed = start.run("list", [*pip, "list", "--format=freeze"], "")
            assert {line.split("==")[0] for line in listed.splitlines() if "==" in line} <= {"pip", "setuptools"}


# --- other Pythons ------------------------------------------------------------------------------------------------


def test_older_python_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An older Python gets a sentence, and its exit status is not 0."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert start.main() == 1
    assert "3.10.13, kernelproof needs 3.11 or later\n  remedy: run `python3.11 start.py`" in capfd.readouterr().err


def test_syntax_is_old() -> None:
    """Pythons from 3.6 on can read the file, so they can say that they are too old."""
    tree = ast.parse((ROOT / "start.py").read_text(), feature_version=(3, 7))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint({"__future__", "tomllib", "dataclasses"})
    newer = (ast.NamedExpr, ast.Match)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, newer)]
