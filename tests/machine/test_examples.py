"""The examples of README and guide do what they say, on a real kernel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.makes_machines

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: str, word: str) -> str:
    """The one Python example of a page that holds a word."""
    (text,) = [text for text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if word in text]
    return str(text)


@pytest.mark.parametrize(
    ("page", "printed"),
    [("README.md", r"6\.12\.\S+\n\n"), ("docs/machines.md", r"3 \d+\n\n\d+\ncontent\n(.*\n)*")],
)
def test_template_from_python(page: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets a machine from a template, and what ran there is printed here."""
    exec(compile(examples(page, "import Template"), page, "exec"), {"__name__": "example"})
    assert re.fullmatch(printed, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("page", "test", "kernels", "outcome"),
    [
        ("README.md", "test_mydocker0", "6.12", "1 passed"),
        ("README.md", "test_my_daemon_answers", "oldest,6.12,newest", "3 passed"),
        ("docs/machines.md", "test_release", "6.12", "1 passed"),
    ],
    ids=["bridge", "daemon", "release"],
)
def test_own_test_in_a_machine(page: str, test: str, kernels: str, outcome: str, tmp_path: Path) -> None:
    """A repository of its own runs the marked test in a machine, by the command that stands below it."""
    assert f"python -m pytest --kernel {kernels}" in (ROOT / page).read_text(encoding="utf-8")
    (tmp_path / "test_example.py").write_text(examples(page, f"def {test}("))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kernel", kernels]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome in done.stdout
