"""The results file of a run: its content by its published schema, when it is written, and what replaces what."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.conformance.run_results import RunResults
from kernelproof.conformance.suite import plain_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Project

    Check = Callable[[dict[str, Any]], None]

TWO = "@behaviour('a.b.c')\ndef test_it(): pass\n@behaviour('a.b.d')\ndef test_other(): pass\n"


def two(project: Project) -> None:
    project.entry("a.b.c")
    project.entry("a.b.d")
    project.tests(TWO)


def test_whole_run(project: Project, check: Check) -> None:
    """A whole run writes the kernel's file: header and rows by value, and as the schema says."""
    two(project)
    project.run("conformance").assert_outcomes(passed=2)
    data = project.results()
    check(data)
    assert data["schema"] == 1
    assert data["project"]["commit"] is None
    assert data["project"]["dirty"] is None
    assert data["kernel"] == {
        "name": "6.12",
        "series": "6.12",
        "release": "6.12.9-fake",
        "package": "linux-fake",
        "build": "1",
        "config_digest": "c" * 64,
    }
    assert data["guest"] == {"root_digest": "a" * 64, "python": "3.13", "observers": {"pyroute2": "0.9"}}
    assert data["machine"] == {"qemu": "10.0.13", "accelerator": "tcg", "time": "virtual", "cpus": 2}
    assert (data["selection"], data["complete"]) == ([], True)
    assert [row["behaviour"] for row in data["results"]] == ["a.b.c", "a.b.d"]


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        (("-k", "test_it"), ["-k test_it"]),
        (("-m", "behaviour"), ["-m behaviour"]),
        (("--deselect", "conformance/test_demo.py::test_it"), ["--deselect conformance/test_demo.py::test_it"]),
        (("conformance/test_demo.py",), ["conformance/test_demo.py"]),
        (("conformance/test_demo.py::test_it",), ["conformance/test_demo.py::test_it"]),
        (("--ignore", "conformance/test_more.py"), ["--ignore conformance/test_more.py"]),
        (("-p", "left_out"), ["deselected by a plugin"]),
    ],
)
def test_selected_run(project: Project, arguments: tuple[str, ...], selection: list[str], check: Check) -> None:
    """A selected run says what narrowed it and leaves the kernel's file alone."""
    two(project)
    (project.path / "left_out.py").write_text(
        "def pytest_collection_modifyitems(config, items):\n    config.hook.pytest_deselected(items=[items.pop()])\n"
    )
    project.run()
    before = (project.path / "results/6.12.json").read_text()
    project.run(*arguments)
    data = project.results("selected/6.12.json")
    check(data)
    assert [text.replace(str(project.path) + "/", "*") for text in data["selection"]] == selection
    assert (project.path / "results/6.12.json").read_text() == before


def test_quick_run(project: Project) -> None:
    """A quick run has the first statement of each topic, with all its parameters, and no costly profile."""
    for id, needs in (("a.b.c", ""), ("a.b.d", ""), ("a.x.c", ""), ("s.y.c", 'needs = ["libsystemd"]'), ("t.z.c", "")):
        project.entry(id, needs)
    both = "@pytest.mark.parametrize('n', [1, 2])\n"
    rest = "".join(f"@behaviour('{name}')\ndef test_{name[0]}(): pass\n" for name in ("a.x.c", "s.y.c", "t.z.c"))
    project.tests(both + TWO.replace("test_it()", "test_it(n)") + rest)
    project.run("--behaviours", "quick").assert_outcomes(passed=4, deselected=2)
    data = project.results("selected/6.12.json")
    assert data["selection"] == ["--behaviours quick"]
    assert [row["behaviour"] for row in data["results"]] == ["a.b.c", "a.b.c", "a.x.c", "t.z.c"]


def test_testpaths_are_no_selection(project: Project) -> None:
    """A run of what the ini file says is whole, also where the catalogue's folder holds more; its words are not."""
    two(project)
    (project.path / "conformance/tests").mkdir()
    (project.path / "conformance/test_demo.py").rename(project.path / "conformance/tests/test_demo.py")
    (project.path / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib\ntestpaths = conformance/tests\n"
    )
    project.run().assert_outcomes(passed=2)
    assert project.results()["selection"] == []
    project.run("conformance/tests").assert_outcomes(passed=2)
    assert project.results("selected/6.12.json")["selection"] == ["conformance/tests"]


def test_outside_kernels_is_no_selection(project: Project) -> None:
    """A statement that is not meant for the kernel has no row, and the run is whole all the same."""
    project.entry("a.b.c", 'kernels = "<6.12"')
    project.entry("a.b.d", 'kernels = ">=6.12"')
    project.tests(TWO)
    result = project.run()
    result.assert_outcomes(passed=1, deselected=1)
    assert project.row()["behaviour"] == "a.b.d"
    result.stdout.fnmatch_lines(["2 statements: 0 planned, 0 deviations listed, 2 narrowed to some kernels"])
    project.run("--kernel", "5.10").assert_outcomes(passed=1, deselected=1)
    assert project.row("5.10.json")["behaviour"] == "a.b.c"


def test_user_land_has_a_file_of_its_own(project: Project, check: Check) -> None:
    """Statements on packages go into `userland.json`, whole as the run is, and say on which kernel they were tried."""
    project.entry("a.b.c", 'of = "userland"')
    project.entry("a.b.d")
    project.tests(TWO)
    result = project.run()
    result.assert_outcomes(passed=2)
    assert project.row()["behaviour"] == "a.b.d"
    data = project.results("userland.json")
    check(data)
    assert (data["kernel"]["name"], data["kernel"]["release"]) == ("userland", "6.12.9-fake")
    assert [row["behaviour"] for row in data["results"]] == ["a.b.c"]
    result.stdout.fnmatch_lines(["kernel 6.12", "*", "user land, on kernel 6.12", "*/results/userland.json"])


def test_user_land_is_tried_once(project: Project) -> None:
    """On the other kernels of a run there is no row on user land, and the run is whole all the same."""
    project.entry("a.b.c", 'of = "userland"')
    project.entry("a.b.d")
    project.tests(TWO)
    project.run("--kernel", "5.10", "--fake-abroad").assert_outcomes(passed=1, deselected=1)
    assert project.row("5.10.json")["behaviour"] == "a.b.d"
    assert not (project.path / "results/userland.json").exists()


@pytest.mark.parametrize(
    ("nodeid", "plain"),
    [
        ("t.py::test_it", "t.py::test_it"),
        ("t.py::test_it@6.12", "t.py::test_it"),
        ("t.py::Test::test_it@6.12[a@6.12-[]", "t.py::Test::test_it[a@6.12-[]"),
        ("t.py::test_it@6.1", "t.py::test_it@6.1"),
    ],
)
def test_node_of_a_run_on_several_kernels(nodeid: str, plain: str) -> None:
    """A row's node does not depend on how many kernels the run had."""
    assert plain_node(nodeid, "6.12") == plain


def test_own_image(project: Project, check: Check) -> None:
    """An own image has a file of its own, and its release decides about `kernels`."""
    project.entry("a.b.c", 'kernels = "<6.12"')
    project.entry("a.b.d", 'kernels = ">=6.13"')
    project.tests(TWO)
    project.run("--kernel", "image-6.13.0-rc1")
    data = project.results("image-6.13.0-rc1.json")
    check(data)
    assert (data["kernel"]["name"], data["kernel"]["series"]) == ("image-6.13.0-rc1", None)
    assert [row["behaviour"] for row in data["results"]] == ["a.b.d"]


def test_stopped_run(project: Project, check: Check) -> None:
    """A run that -x stops is not complete and does not replace the kernel's file."""
    two(project)
    project.tests(TWO.replace("def test_it(): pass", "def test_it(): assert 0"))
    project.run("-x")
    data = project.results("selected/6.12.json")
    check(data)
    assert (data["selection"], data["complete"], len(data["results"])) == ([], False, 1)
    assert not (project.path / "results/6.12.json").exists()


def test_interrupted_run(project: Project, check: Check) -> None:
    """After Ctrl-C the rows that there are are written, and said to be a part."""
    two(project)
    project.tests(TWO)
    (project.path / "conftest.py").write_text(
        "def pytest_runtest_logstart(nodeid):\n    if nodeid.endswith('test_other'): raise KeyboardInterrupt\n"
    )
    result = project.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    data = project.results("selected/6.12.json")
    check(data)
    assert (data["complete"], [row["behaviour"] for row in data["results"]]) == (False, ["a.b.c"])


def test_interrupted_run_with_workers(project: Project, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Ctrl-C with workers, who tell nothing any more, leaves a part with the whole header."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test may itself run in a worker
    two(project)
    project.run()
    header = project.results()
    (project.path / "conftest.py").write_text(
        "import os\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        "    if 'PYTEST_XDIST_WORKER' not in os.environ: raise KeyboardInterrupt\n"
    )
    assert project.run_apart("-p", "xdist", "-n", "1").ret == pytest.ExitCode.INTERRUPTED
    data = project.results("selected/6.12.json")
    check(data)
    assert data["complete"] is False
    assert {key: data[key] for key in ("catalogue", "kernel")} == {key: header[key] for key in ("catalogue", "kernel")}


def test_other_folder(project: Project) -> None:
    """--results-dir names another folder, as seen from where pytest was started."""
    two(project)
    project.run("--results-dir", "elsewhere")
    assert (project.path / "elsewhere/6.12.json").exists()
    assert not (project.path / "results").exists()


def test_folder_that_cannot_be_written(project: Project) -> None:
    """Where results can't be written the run says so and what to do."""
    two(project)
    (project.path / "results").write_text("a file")
    result = project.run()
    result.stdout.fnmatch_lines(["RESULTS NOT WRITTEN: *name another folder with --results-dir"])
    assert result.ret != 0


def test_same_results_with_workers(project: Project) -> None:
    """Two workers give the same file as none, but for nothing: the pretended machines are all alike."""
    two(project)
    project.entry("a.b.planned")
    project.run()
    alone = project.results()
    result = project.run_apart("-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["3 statements: 1 planned, 0 deviations listed, 0 narrowed to some kernels"])
    assert project.results() == alone


@pytest.mark.skipif(shutil.which("git") is None, reason="not applicable: there is no git here")
def test_suite_under_git(project: Project) -> None:
    """Under git the header has the commit, and whether the tree differs from it."""
    two(project)
    (project.path / ".gitignore").write_text("/*\n!/conformance\n__pycache__\n")
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    settings |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "PATH": os.environ["PATH"]}
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project.path, check=True, env=settings)
    project.run()
    header = project.results()["project"]
    assert len(header["commit"]) == 40
    assert header["dirty"] is False
    project.tests(TWO + "\n")
    project.run()
    assert project.results()["project"] == header | {"dirty": True}


def test_lying_guest(project: Project, check: Check) -> None:
    """What a guest says beyond its rights is not believed: no deviation that is not listed, no other behaviour."""
    project.entry("a.b.c")
    lie = {"outcome": "deviation", "behaviour": "a.b.d", "subject": "runc", "reason": "x" * 10**6, "log": 7, "seen": 1}
    project.tests(
        "@behaviour('a.b.c')\n"
        f"def test_it(record_property):\n    record_property('kernelproof-behaviour', {lie!r})\n    assert 0\n"
    )
    project.run().assert_outcomes(failed=1)
    check(project.results())
    found = project.row()
    assert (found["behaviour"], found["subject"], found["outcome"], found["log"]) == ("a.b.c", "impl", "fail", None)
    assert len(found["reason"]) <= 64 * 1024 + 1


def test_deviation_that_is_not_listed(project: Project) -> None:
    """A guest that calls a pass a deviation is not believed where none is listed."""
    project.entry("a.b.c")
    lie = "record_property('kernelproof-behaviour', {'outcome': 'deviation', 'reason': 'so', 'seen': 1})"
    project.tests(f"@behaviour('a.b.c')\ndef test_it(record_property):\n    {lie}\n")
    project.run()
    assert project.row()["outcome"] == "pass"


def test_table(project: Project) -> None:
    """The run ends with a table of subsystem and outcome, and the path of the file."""
    project.toml("[[behaviour]]\nid = 'a.b.c'\nstatement = 'So.'\nsource = 'doc'\n", name="cgroup-v2.toml")
    project.entry("a.b.d")
    project.tests(TWO.replace("test_other(): pass", "test_other(): assert 0"))
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "*= behaviours =*",
            "kernel 6.12",
            "behaviours  pass  fail  broken  deviation  not applicable",
            "cgroup-v2      1",
            "demo                 1",
            "all            1     1",
            f"written to {project.path}/results/6.12.json",
            "2 statements: 0 planned, 0 deviations listed, 0 narrowed to some kernels",
        ]
    )


@pytest.mark.parametrize("order", [1, -1], ids=["virtual-first", "real-first"])
def test_header_of_several_templates(order: int, pytestconfig: pytest.Config) -> None:
    """Which facts stand in the header does not depend on which template a worker asked for first."""
    results = RunResults(pytestconfig)
    kinds = [{"kernel": {"name": "6.12"}, "machine": {"time": time}} for time in ("virtual", "real")]
    for facts in kinds[::order]:
        results.note_machine(facts)
    assert results._facts == {"6.12": kinds[0]}
