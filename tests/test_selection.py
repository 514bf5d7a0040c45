"""What the steps of `nox -s tests` select: unit tests make no machine, and workers agree on what there is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("impl/tests", "vm/tests", "tests")


def constant(name: str) -> str:
    """A constant of the noxfile, without nox."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    values: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            exec(compile(ast.Module([node], []), "noxfile.py", "exec"), values)
    return str(values[name])


def collect(expression: str) -> list[str]:
    """The ids that a step selects, in order."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", expression]
    done = subprocess.run([*command, *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.fixture(scope="module")
def units() -> list[str]:
    """The unit tests' ids."""
    return collect(constant("UNIT"))


def test_unit_tests_make_no_machine(units: list[str]) -> None:
    """Nothing in a folder `machine` is a unit test."""
    assert units
    assert [node for node in units if "/machine/" in node] == []


def test_ids_are_the_same_in_every_process(units: list[str]) -> None:
    """No id holds an address or a random value: else workers could not share the tests."""
    assert collect(constant("UNIT")) == units
