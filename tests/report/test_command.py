"""`kernelproof report`: what it takes, refuses and leaves out by name, and how its files come to their place."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.cli import main
from kernelproof.conformance.report.site_files import ForeignFilesError, write_site

if TYPE_CHECKING:
    from conftest import Suite

FILES = [("index.html", "<p>one"), ("a/b.html", "é"), ("a/c.html", "")]
ROW = {
    **{"behaviour": "link.name.length", "node": "t.py::t", "profile": "plain", "subject": "impl", "outcome": "pass"},
    **{"clone": None, "wall_seconds": 1, "guest_seconds": 1, "reason": None, "seen": None, "log": None},
}


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def refuse(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def swap(one: Path, other: Path) -> None:
    """Exchange as the kernel does, for a file system that can."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


# --- what goes in ---


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ('{"schema": 2}', "schema 2, this version reads 1"),
        ('{"schema": 1, "proj', "no JSON"),
        ("[]", "not a results file: it names no schema"),
        ("", "no JSON"),
        ('{"schema": 1, "merged": [{"schema": 3}]}', "holds schema 3"),
        ("\x1b[2J", "no JSON"),
    ],
    ids=["newer", "truncated", "list", "empty", "inner", "terminal"],
)
def test_what_is_no_results_is_left_out_by_name(
    suite: Suite, content: str, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of another schema, a truncated one or another one is named, here and in the report, and is not in it."""
    suite.write_all()
    (suite.path / "results/bad.json").write_text(content)
    assert suite.report() == 1
    errors = capsys.readouterr().err
    assert f"left out: results/bad.json: {seen}" in errors
    assert "\x1b" not in errors
    assert seen in suite.read("index.html")
    assert json.loads(suite.read("data.json"))["left_out"][0]["file"] == "results/bad.json"


@pytest.mark.parametrize(
    "changes",
    [
        {"wall_seconds": "long"},
        {"wall_seconds": True},
        {"reason": 5},
        {"log": ["x"]},
        {"clone": 7},
        {"outcome": "fine"},
        {"behaviour": None},
        {"x": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_rows_of_other_types_are_left_out(
    suite: Suite, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with a row that is none is left out by name."""
    suite.write("6.1", ROW)
    suite.write("6.12", {**ROW, **changes})
    assert suite.report() == 1
    assert "left out: results/6.12.json: not a results file" in capsys.readouterr().err
    assert [kernel["name"] for kernel in json.loads(suite.read("data.json"))["kernels"]] == ["6.1"]


def test_no_number_is_no_json(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN, which Python reads and nobody else, is refused."""
    path = suite.write("6.1", {**ROW, "outcome": "deviation", "reason": "x", "seen": float("nan")})
    assert suite.report() == 1
    assert f"{path.relative_to(suite.path)}: no JSON: NaN" in capsys.readouterr().err


def test_unknown_statements_are_left_out_by_name(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of a statement that the catalogue does not have are named and left out, the others are shown."""
    names = [f"other.thing.number-{number}" for number in range(7)]
    suite.write("6.1", ROW, *({**ROW, "behaviour": name} for name in names))
    assert suite.report() == 1
    text = f"results/6.1.json: rows of unknown statements: {', '.join(names[:5])} and 2 more"
    assert text in capsys.readouterr().err
    assert text in suite.read("index.html").replace("</strong>", "")
    assert not list((suite.path / "site/behaviour").glob("other*"))


@pytest.mark.parametrize(
    "name", ["../../evil", "a b", "", "x" * 200, "<b>"], ids=["up", "space", "none", "long", "tag"]
)
def test_a_kernel_can_t_choose_a_path(suite: Suite, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel whose name can't be a file's is left out by name."""
    suite.write("6.1", ROW)
    (suite.path / "results/z.json").write_text(json.dumps(suite.document(name, ROW)))
    assert suite.report() == 1
    assert "left out: results/z.json: kernel " in capsys.readouterr().err
    assert tree(suite.path / "site/kernel") == {"6.1.html"}


def test_the_same_kernel_twice_is_refused(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Two results of a kernel are refused by name, and nothing is written."""
    suite.write("6.1", ROW)
    (suite.path / "results/again.json").write_text(json.dumps(suite.document("6.1", ROW)))
    assert suite.report() == 1
    assert "kernel 6.1 is in results/6.1.json and in results/again.json" in capsys.readouterr().err
    assert not (suite.path / "site").exists()


def test_another_catalogue_is_refused_unless_it_is_asked_for(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Results of another catalogue are refused; with --any-catalogue they are shown, and the pages say so."""
    suite.write("6.1", ROW, catalogue={"digest": "1" * 64})
    suite.write("6.12", ROW)
    assert suite.report() == 1
    assert "results/6.1.json" in capsys.readouterr().err
    assert not (suite.path / "site").exists()
    assert suite.report("--any-catalogue") == 0
    assert "Of another catalogue: 6.1<" in suite.read("index.html")


def test_a_part_of_a_run_is_called_that(suite: Suite) -> None:
    """Results of a selection, or of a run that did not end, are shown, and the pages say so."""
    suite.write("6.1", ROW, selection=["-k name"])
    suite.write("6.12", ROW, complete=False)
    assert suite.report() == 0
    text = suite.read("index.html").replace("</strong>", "")
    assert "Not a whole run: 6.1 (-k name)" in text
    assert "Not a whole run: 6.12 (the run did not end)" in text


def test_nothing_to_show(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Without results, without a catalogue and without that file there is no report, and it says why."""
    assert suite.report() == 1
    assert "results: holds no results" in capsys.readouterr().err
    assert suite.report(results="absent.json") == 1
    assert "absent.json: No such file" in capsys.readouterr().err
    suite.write("6.1", ROW)
    (suite.path / "none").mkdir()
    assert main.main(["report", "results", "-o", "site", "--behaviours", "none"]) == 1
    assert "none: no *.toml in it" in capsys.readouterr().err
    (suite.path / "suite/behaviours/bad.toml").write_text("[[behaviour]]\nid = 1\n")
    assert suite.report() == 1
    assert "bad.toml:1" in capsys.readouterr().err
    assert not (suite.path / "site").exists()


def test_a_test_that_can_t_be_read_is_named(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """A test file that is no Python is named with its line."""
    suite.write("6.1", ROW)
    (suite.path / "suite/test_bad.py").write_text("@behaviour('link.name.length')\ndef (\n")
    assert suite.report() == 1
    assert "test_bad.py:2: no Python" in capsys.readouterr().err


def test_a_project_of_its_own_needs_no_option(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue of the project that one stands in is found; of a merged file every kernel is shown."""
    (suite.path / "suite/behaviours").rename(suite.path / "behaviours")
    (suite.path / "suite/witnesses").rename(suite.path / "witnesses")
    suite.write("6.1", ROW)
    suite.write("6.12", ROW)
    assert main.main(["merge", "results", "-o", "all.json"]) == 0
    assert main.main(["report", "all.json", "-o", "site", "--name", "Mine & yours"]) == 0
    assert "6 statements, 2 kernels" in capsys.readouterr().out
    assert "Mine &amp; yours" in suite.read("index.html")


def test_pytests_setting_is_read(suite: Suite) -> None:
    """Without an option the folders are those of the ini option `behaviours_path`, several of them too."""
    (suite.path / "more/behaviours").mkdir(parents=True)
    (suite.path / "suite/behaviours/mount.toml").rename(suite.path / "more/behaviours/mount.toml")
    with (suite.path / "pyproject.toml").open("a") as file:
        file.write("[tool.pytest.ini_options]\nbehaviours_path = ['suite/behaviours', 'more/behaviours']\n")
    suite.write("6.1", ROW)
    assert main.main(["report", "results", "-o", "site"]) == 0
    assert len(json.loads(suite.read("data.json"))["behaviours"]) == 6


def test_environments_are_no_suite(suite: Suite) -> None:
    """Tests in hidden folders, environments and what was built are not looked at."""
    suite.write("6.1", ROW)
    for name in (".tox", "env", "node_modules", "build"):
        (suite.path / "suite" / name).mkdir()
        (suite.path / "suite" / name / "test_x.py").write_text("@behaviour('link.name.length')\ndef (\n")
    (suite.path / "suite/env/pyvenv.cfg").touch()
    assert suite.report("-q") == 0


# --- what comes out ---


@pytest.mark.parametrize("exchange", [refuse, swap], ids=["by turns", "at once"])
def test_a_report_replaces_a_report(tmp_path: Path, exchange: Any) -> None:
    """An older report is replaced whole: no file of it is left, nothing lies beside it."""
    site = tmp_path / "site"
    assert write_site(site, [*FILES, ("old.html", "")], exchange) == 5
    assert write_site(site, FILES, exchange) == 4
    assert tree(site) == {"index.html", "a/b.html", "a/c.html", "report-files.txt"}
    assert (site / "a/b.html").read_text("utf-8") == "é"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert site.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    """An empty folder, and one that is not there with its parents, become the report."""
    (tmp_path / "empty").mkdir()
    write_site(tmp_path / "empty", FILES, refuse)
    write_site(tmp_path / "new/er/site", FILES, refuse)
    assert tree(tmp_path / "empty") == tree(tmp_path / "new/er/site")


@pytest.mark.parametrize("name", ["mine.txt", "a/mine.html", "a/deep/er.txt", ".git/HEAD"])
def test_foreign_files_are_never_lost(tmp_path: Path, name: str) -> None:
    """A folder that holds anything of others is refused by that file's name and stays as it is."""
    site = tmp_path / "site"
    write_site(site, FILES, refuse)
    (site / name).parent.mkdir(exist_ok=True)
    (site / name).write_text("mine")
    before = tree(site)
    with pytest.raises(ForeignFilesError, match=name.split("/")[0]):
        write_site(site, [("index.html", "new")], refuse)
    assert tree(site) == before
    assert (site / "index.html").read_text() == "<p>one"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_other_folders_are_refused(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a report's list, a file and a link are refused before anything is read."""
    suite.write_all()
    (suite.path / "site").mkdir()
    (suite.path / "site/index.html").write_text("mine")
    assert suite.report() == 1
    assert "holds index.html, which is not of a report" in capsys.readouterr().err
    (suite.path / "link").symlink_to("results")
    for name in ("link", "pyproject.toml"):
        assert main.main(["report", "results", "-o", name, "--behaviours", "suite/behaviours"]) == 1
        assert f"{name}: is there and is no folder" in capsys.readouterr().err
    assert (suite.path / "site/index.html").read_text() == "mine"


def test_what_comes_in_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """A file that others put into the old report while the new one took its place stays on disc."""
    site = tmp_path / "site"
    write_site(site, FILES, refuse)

    def exchange(one: Path, other: Path) -> None:
        (other / "late.txt").write_text("mine")
        swap(one, other)

    write_site(site, FILES, exchange)
    assert [path.read_text() for path in tmp_path.rglob("late.txt")] == ["mine"]


def test_a_failure_leaves_all_as_it_was(tmp_path: Path) -> None:
    """When a file can't be made or written, the old report is whole and nothing lies beside it."""
    site = tmp_path / "site"
    write_site(site, FILES, refuse)

    def broken() -> Iterator[tuple[str, str]]:
        yield "index.html", "new"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write_site(site, broken(), swap)
    assert (site / "index.html").read_text() == "<p>one"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_failed_move_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new report can't be moved to its place, the old one is put back."""
    site = tmp_path / "site"
    write_site(site, FILES, refuse)
    moved: list[Path] = []
    rename = os.rename

    def second_fails(old: Path, new: Path) -> None:
        moved.append(Path(old))
        if len(moved) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(old, new)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        write_site(site, [("index.html", "new")], refuse)
    assert (site / "index.html").read_text() == "<p>one"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
