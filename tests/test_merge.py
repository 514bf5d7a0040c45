"""`kernelproof merge`: several runs in one file, and nothing that does not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernelproof.cli import main
from kernelproof.conformance.report import reading
from kernelproof.conformance.report.merging import read_runs

SCHEMA = json.loads(Path(reading.__file__).with_name("results.schema.json").read_text("utf-8"))
ROW = {
    "behaviour": "bridge.limit.name-length",
    "node": "test_bridge.py::test_name",
    "profile": "plain",
    "subject": "impl",
    "outcome": "pass",
    "clone": "0" * 32,
    "wall_seconds": 0.1,
    "guest_seconds": 0.2,
    "reason": None,
    "seen": None,
    "log": None,
}


def document(kernel: str, **changes: Any) -> dict[str, Any]:
    release = f"{kernel}.1"
    made = {
        "schema": 1,
        "project": {"version": "0", "commit": "a" * 40, "dirty": False},
        "catalogue": {"digest": "1" * 64},
        "kernel": {
            **{"name": kernel, "series": "6.1", "release": release, "package": "p", "build": "b"},
            "config_digest": None,
        },
        "guest": {"root_digest": None, "python": None, "observers": {}},
        "machine": {"qemu": None, "accelerator": None, "time": None, "cpus": None},
        "selection": [],
        "complete": True,
        "results": [ROW],
    }
    return {**made, **changes}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder of two results files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for kernel in ("6.12", "6.1"):
        (tmp_path / f"results/{kernel}.json").write_text(json.dumps(document(kernel)))
    return tmp_path


def merged(path: Path) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads(path.read_text())["merged"]
    return parts


def test_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The results files of a folder become one, in the order of their kernels, each as it was; again, the same."""
    for _ in range(2):
        assert main.main(["merge", "results", "-o", "results/all.json"]) == 0
    parts = merged(folder / "results/all.json")
    assert [part["kernel"]["name"] for part in parts] == ["6.1", "6.12"]
    for part in parts:
        jsonschema.validate(part, SCHEMA)
        assert part == document(part["kernel"]["name"])
    assert capsys.readouterr().out.splitlines()[0].split()[:4] == ["KERNEL", "RELEASE", "ROWS", "PASS"]


def test_merged_file_and_one_more(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A merged file is merged with others like any results."""
    (folder / "new.json").write_text(json.dumps(document("7.3", complete=False)))
    assert main.main(["merge", "results", "-o", "old.json"]) == 0
    capsys.readouterr()
    assert main.main(["merge", "old.json", "new.json", "-o", "old.json", "--json"]) == 0
    output = capsys.readouterr()
    rows = json.loads(output.out)
    assert [(row["kernel"], row["whole"], row["pass"]) for row in rows] == [
        ("6.1", "yes", 1),
        ("6.12", "yes", 1),
        ("7.3", "no", 1),
    ]
    assert "not all of these are whole runs" in output.err
    assert [run.results.kernel["name"] for run in read_runs(folder / "old.json")] == ["6.1", "6.12", "7.3"]


@pytest.mark.parametrize(
    ("name", "content", "seen"),
    [
        ("twice", document("6.1"), "kernel 6.1 is in results/6.1.json and in other.json"),
        ("schema", document("7.3", schema=2), "other.json: schema 2, this version reads 1"),
        ("catalogue", document("7.3", catalogue={"digest": "2" * 64}), "of different catalogues: results/6.1.json"),
        ("inner", {"schema": 1, "merged": [document("7.3", schema=7)]}, "other.json: holds schema 7"),
        ("nothing", {"schema": 1, "merged": 5}, "other.json: not a merged file"),
        ("list", [], "other.json: not a results file"),
        ("missing", {"schema": 1}, "KeyError: 'results'"),
        ("row", document("7.3", results=[{**ROW, "outcome": "fine"}]), "'fine' is not a valid Outcome"),
        ("more", document("7.3", results=[{**ROW, "x": 1}]), "unexpected keyword argument 'x'"),
        ("type", document("7.3", complete="yes"), "'yes' is no bool"),
        ("text", "\x1b[2J", "other.json: no"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_refused(folder: Path, name: str, content: Any, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not belong together is named and refused, and nothing is written."""
    (folder / "other.json").write_text(content if isinstance(content, str) else json.dumps(content))
    assert main.main(["merge", "results", "other.json", "-o", "all.json"]) == 1
    errors = capsys.readouterr().err
    assert seen in errors
    assert "\x1b" not in errors
    assert not (folder / "all.json").exists()


def test_other_catalogue_on_demand(folder: Path) -> None:
    """Results of different catalogues are merged when that is said."""
    (folder / "other.json").write_text(json.dumps(document("7.3", catalogue={"digest": "2" * 64})))
    assert main.main(["merge", "results", "other.json", "-o", "all.json", "--any-catalogue"]) == 0
    assert len(merged(folder / "all.json")) == 3


def test_absent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, and a folder without results, are named."""
    assert main.main(["merge", "absent.json", "-o", "all.json"]) == 1
    assert "absent.json: No such file" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main.main(["merge", "empty", "-o", "all.json"]) == 1
    assert "empty: holds no results" in capsys.readouterr().err


def test_output_is_written_whole_or_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that can't be written to is named, and nothing is left in it."""
    assert main.main(["merge", "results", "-o", "absent/all.json"]) == 1
    assert "absent" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["results"]
