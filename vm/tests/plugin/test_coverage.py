"""Coverage that the host measures holds what ran in guests; a guest's word for it is data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.vm.errors import ChannelError
from kernelproof.vm.measured import add_measured, plan_measurement, read_measured
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

RUN = """
import sys
import pytest
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin
sys.exit(pytest.main(sys.argv[1:], plugins=[LocalPlugin()]))
"""
THING = """
def choose(number):
    if number > 1:
        return "many"
    if number < 0:
        return "few"
    return "one"
"""
TESTS = """
import pytest, thing

@pytest.mark.machine
@pytest.mark.parametrize("number", [1, 2])
def test_it(number): assert thing.choose(number) in ("one", "many")
"""


@pytest.mark.parametrize("branch", [False, True], ids=["lines", "branches"])
def test_combined(branch: bool, pytester: pytest.Pytester, local: LocalPlugin) -> None:
    """What each of two guests ran is in the host's one file; what none ran is missing, as a line and as a branch."""
    coverage = pytest.importorskip("coverage", reason="not applicable: there is no coverage.py here")
    pytester.makepyfile(thing=THING, test_it=TESTS)
    pytester.makefile(".py", main=RUN)
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\npythonpath = '.'\naddopts = '-p no:cacheprovider'\n")
    command = [sys.executable, "-m", "coverage", "run", "--source=.", *(["--branch"] if branch else []), "main.py"]
    subprocess.run([*command, "--kernel", "6.12", "-q"], check=True)
    measured = coverage.CoverageData(".coverage")
    measured.read()
    path = str(pytester.path / "thing.py")
    assert sorted(measured.lines(path) or ()) == [1, 2, 3, 4, 6]
    if branch:
        assert {(2, 3), (2, 4), (4, 6)} <= set(measured.arcs(path) or ())
        assert (4, 5) not in set(measured.arcs(path) or ())


def test_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the host measures nothing the guest is told nothing, and what it says is dropped."""
    monkeypatch.delitem(sys.modules, "coverage", raising=False)
    assert plan_measurement(tmp_path) is None
    add_measured({"anything": "at all"}, tmp_path)


def test_files_of_others(tmp_path: Path) -> None:
    """A guest can name no file but the project's, and none that is not there."""
    root = tmp_path / "project"
    root.mkdir()
    for place in (root / "mine.py", tmp_path / "theirs.py"):
        place.touch()
    names = [str(root / "mine.py"), str(tmp_path / "theirs.py"), str(root / "../theirs.py"), str(root / "gone.py")]
    assert read_measured({name: [1, 2] for name in names}, root, pairs=False) == {names[0]: [1, 2]}
    assert read_measured({names[0]: [[1, 2], [-1, 1]]}, root, pairs=True) == {names[0]: [(1, 2), (-1, 1)]}


@pytest.mark.parametrize(
    ("told", "pairs"),
    [
        ([], False),
        ({"x": 1}, False),
        ({"x": ["1"]}, False),
        ({"x": [[1, 2]]}, False),
        ({"x": [1]}, True),
        ({"x": [[1, 2, 3]]}, True),
        ({"x": [1 << 29]}, False),
    ],
    ids=repr,
)
def test_what_is_no_coverage(told: object, pairs: bool, tmp_path: Path) -> None:
    """Anything of another form breaks the protocol."""
    with pytest.raises(ChannelError):
        read_measured(told, tmp_path, pairs=pairs)
