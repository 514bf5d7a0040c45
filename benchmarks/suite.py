"""Writes the suite that scale.py measures: ordinary tests with fixtures, assertions and imports, each for a machine."""

from __future__ import annotations

from pathlib import Path

FILES, TESTS = 70, 2000

_SETTINGS = """[project]
name = "suite"
version = "1"

[tool.pytest.ini_options]
addopts = "--import-mode=importlib"
"""

_CONFTEST = """import pytest


@pytest.fixture
def table():
    return {f"name {number}": number for number in range(64)}
"""

_HEAD = '''"""A part of the suite."""

import json
import os
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.machine


@dataclass(frozen=True)
class Record:
    name: str
    number: int
'''

_TEST = '''

def test_number_{number}(table):
    """The table knows the number and its neighbours."""
    value = {number}
    names = [name for name, number in table.items() if number == value]
    assert len(names) == 1
    assert table[names[0]] == value
    around = {{name: number for name, number in table.items() if abs(number - value) <= 1}}
    assert names[0] in around
    assert sorted(around.values()) == sorted(number for number in range(value - 1, value + 2) if 0 <= number < 64)
    with pytest.raises(KeyError):
        table[f"absent {{value}}"]
    assert json.loads(json.dumps({{"name": names[0]}})) == {{"name": Record(names[0], value).name}}
'''


def write_suite(root: Path, files: int = FILES, tests: int = TESTS) -> None:
    """Lay the suite below `root`: `part*/test_file*.py`, each with its share of the tests.

    Raises:
        OSError: it can't be written.
    """
    (root / "pyproject.toml").write_text(_SETTINGS, encoding="utf-8")
    (root / "conftest.py").write_text(_CONFTEST, encoding="utf-8")
    for number in range(files):
        folder = root / f"part{number // 10}"
        folder.mkdir(exist_ok=True)
        share = tests // files + (number < tests % files)
        text = _HEAD + "".join(_TEST.format(number=test) for test in range(share))
        (folder / f"test_file{number:02}.py").write_text(text, encoding="utf-8")


def edit(root: Path, turn: int) -> None:
    """Change one test file, each turn in another way."""
    path = root / "part0" / "test_file00.py"
    text = path.read_text(encoding="utf-8").partition("\n# edited")[0]
    path.write_text(f"{text}\n# edited {turn}\n", encoding="utf-8")
