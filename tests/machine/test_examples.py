"""The Python examples of README and guide do what they say, on a real kernel; none is left out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.makes_machines

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

# Programs: a page, and all that its example prints.
PROGRAMS = [
    ("README.md", r"6\.12\.\S+\n\n"),
    ("docs/machines.md", r"3 \d+\n\n\d+\ncontent\n(.*\n)*"),
    ("docs/at-a-prompt.md", r"http://127\.0\.0\.1:\d+/\n"),
]

# Tests: a page, a function of the example, what stands behind --kernel, the outcome.
TESTS = [
    ("README.md", "test_mydocker0", "6.12", "1 passed"),
    ("README.md", "test_my_daemon_answers", "oldest,6.12,newest", "3 passed"),
    ("docs/machines.md", "test_release", "6.12", "1 passed"),
    ("docs/how-to/own-suite.md", "test_listening_socket_is_in_proc", "6.12", "1 passed"),
]

TUTORIAL = "docs/tutorial/first-behaviour.md"
SNAPSHOT = ("docs/machines.md", "snapshot_fixture")
QUOTED = ["CONTRIBUTING.md", "docs/rules/README.md"]  # parts of this repository's own tests


def examples(page: str, language: str = "python") -> list[str]:
    """The examples of a page."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [re.sub(rf"(?m)^{indent}", "", text) for indent, kind, text in found if kind == language]


def example(page: str, word: str, language: str = "python") -> str:
    """The one example of a page that holds a word."""
    (text,) = [text for text in examples(page, language) if word in text]
    return text


def run_pytest(folder: Path, kernels: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of somebody else's."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kernel", kernels, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def write_named(folder: Path, text: str, kind: str = "w") -> None:
    """Write an example into the file that its first line names."""
    named = re.match(r"# (\S+\.(?:py|toml))(, continued)?\n", text)
    assert named is not None, text
    path = folder / named[1]
    path.parent.mkdir(exist_ok=True)
    with path.open("a" if named[2] else kind) as file:
        file.write(text)


def outcomes(path: Path) -> dict[str, str]:
    """The outcome of each behaviour in a results file."""
    return {row["behaviour"]: row["outcome"] for row in json.loads(path.read_text("utf-8"))["results"]}


@pytest.mark.parametrize(("page", "printed"), PROGRAMS, ids=lambda value: value.removesuffix(".md"))
def test_template_from_python(page: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets a machine from a template, and what ran there is printed here."""
    exec(compile(example(page, "import Template"), page, "exec"), {"__name__": "example"})
    assert re.fullmatch(printed, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("page", "test", "kernels", "outcome"), TESTS, ids=["bridge", "daemon", "release", "own-suite"]
)
def test_own_test_in_a_machine(page: str, test: str, kernels: str, outcome: str, tmp_path: Path) -> None:
    """A repository of its own runs the marked test in a machine, by the command that stands below it."""
    assert re.search(rf"python -m pytest --kernel ({kernels}|all)\b", (ROOT / page).read_text(encoding="utf-8"))
    for text in examples(page, "toml"):
        if "[[behaviour]]" in text:
            write_named(tmp_path, text)
    (tmp_path / "test_example.py").write_text(example(page, f"def {test}("))
    done = run_pytest(tmp_path, kernels)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome in done.stdout


def test_snapshot_fixture(tmp_path: Path) -> None:
    """The fixture that is set up once gives each test's machine what it made."""
    (tmp_path / "conftest.py").write_text(example(*SNAPSHOT))
    (tmp_path / "test_image.py").write_text(
        "import pytest\n\n@pytest.mark.machine\n@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_image(image, number):\n    assert (image / 'root.img').stat().st_size == 1 << 20\n"
    )
    done = run_pytest(tmp_path, "6.12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_tutorial(tmp_path: Path) -> None:
    """Whoever follows the tutorial sees what it says: two passes on the oldest kernel, on the newest a finding.

    First with one test broken and without the deviation: both fail there. Then with both, and a witness that agrees.
    """
    files = [*examples(TUTORIAL), *examples(TUTORIAL, "toml")]
    later = [text for text in files if re.match(r"# (witnesses/|.*, continued)", text)]
    for text in files:
        if text not in later:
            write_named(tmp_path, text)
    whole = (tmp_path / "test_pipe.py").read_text()
    broken = whole.replace("    os.close(reader)\n", "")
    assert broken != whole
    (tmp_path / "test_pipe.py").write_text(broken)
    first = run_pytest(tmp_path, "newest")
    assert first.returncode == 1, first.stdout + first.stderr
    assert "'no error' == 'EPIPE'" in first.stdout
    assert "'no error' == 'ENOTSUP'" in first.stdout
    (tmp_path / "test_pipe.py").write_text(whole)
    for text in later:
        write_named(tmp_path, text)
    done = run_pytest(tmp_path, "oldest,newest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 statements: 0 planned, 1 deviation listed" in done.stdout
    oldest, newest = sorted((tmp_path / "results").glob("*.json"), key=lambda path: path.stem != "5.10")
    assert outcomes(oldest) == {"pipe.write.without-reader": "pass", "unix.stream.no-out-of-band": "pass"}
    assert outcomes(newest) == {"pipe.write.without-reader": "pass", "unix.stream.no-out-of-band": "deviation"}


@pytest.mark.parametrize("page", QUOTED, ids=["contributing", "rules"])
def test_quoted_tests_are_there(page: str) -> None:
    """A page that shows a test of this repository shows it as it is: it is run there."""
    tests = [
        path.read_text("utf-8") for folder in ("conformance", "impl") for path in (ROOT / folder).rglob("test_*.py")
    ]
    (text,) = examples(page)
    assert any(text in test for test in tests)


def test_no_example_is_left_out() -> None:
    """Every Python example of every page is run by a test of this file."""
    run = [example(page, "import Template") for page, _ in PROGRAMS]
    run += [example(page, f"def {test}(") for page, test, _, _ in TESTS]
    run += [example(*SNAPSHOT), *examples(TUTORIAL), *(text for page in QUOTED for text in examples(page))]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    there = [text for page in pages for text in examples(str(page.relative_to(ROOT)))]
    assert sorted(there) == sorted(run)
