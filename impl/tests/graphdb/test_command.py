"""The command: its verbs, its exit status, and text that cannot steer a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import GraphDatabase
from kernelproof.impl.graphdb.command import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command here; return exit status, output and errors."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def filled(file: Path) -> Path:
    """A file with a few names."""
    with GraphDatabase.open(file) as graph:
        for path, entity_id in (("/web", "1"), ("/web/db", "2"), ("/db", "2"), ("/db/log", "3")):
            graph.set(path, entity_id)
    return file


def test_set_makes_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first `set` makes the file; other verbs do not."""
    status, out, err = run(capsys, file, "get", "/a")
    assert (status, out) == (3, "")
    assert "No such file" in err
    assert run(capsys, file, "set", "/a", "1") == (0, "", "")
    assert run(capsys, file, "set", "/a", "2", "--expect", "1") == (0, "", "")
    assert run(capsys, file, "set", "/b", "2", "--expect", "")[0] == 0
    assert run(capsys, file, "get", "/a") == (0, "2\n", "")
    assert run(capsys, file, "get", "/none") == (1, "", "")


def test_lists(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ls, refs and path print one line each, by name or shortest first."""
    assert run(capsys, filled, "ls")[1] == "db\t2\nweb\t1\n"
    assert run(capsys, filled, "ls", "/web")[1] == "db\t2\n"
    assert run(capsys, filled, "ls", "--prefix", "w")[1] == "web\t1\n"
    assert run(capsys, filled, "ls", "--glob", "/*/l*")[1] == "/db/log\t3\n"
    assert run(capsys, filled, "refs", "2")[1] == "0\tdb\n1\tdb\n"
    assert run(capsys, filled, "path", "3")[1] == "/db/log\n/web/db/log\n"
    assert run(capsys, filled, "path", "3", "--limit", "1")[1] == "/db/log\n"
    assert run(capsys, filled, "path", "3", "--from", "/web")[1] == "/web/db/log\n"
    assert run(capsys, filled, "path", "1", "--from", "/db")[0] == 1
    assert run(capsys, filled, "changes", "--since", "6")[1].startswith("7\tedge-added\t3\t2\tlog")


def test_tree(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree has a line for each path, drawn with branches."""
    out = run(capsys, filled, "tree")[1]
    assert [line.rstrip() for line in out.splitlines()] == [
        "/", "├── db  2", "│   └── log  3", "└── web  1", "    └── db  2", "        └── log  3",
    ]  # fmt: skip
    assert len(run(capsys, filled, "tree", "--depth", "1")[1].splitlines()) == 3
    assert run(capsys, filled, "tree", "--max-rows", "2")[0] == 3


def test_changes(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """mv and rm change names; rm --purge the entity."""
    assert run(capsys, filled, "mv", "/db", "/store")[0] == 0
    assert run(capsys, filled, "mv", "/store", "/web/db")[0] == 3
    assert run(capsys, filled, "mv", "/store", "/web/db", "--replace")[0] == 0
    assert run(capsys, filled, "rm", "/web/db/log")[0] == 0
    assert run(capsys, filled, "rm", "/web", "--purge") == (0, "2\n", "")
    assert run(capsys, filled, "rm", "/web")[0] == 3
    assert run(capsys, filled, "ls")[1] == ""


def test_json(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every answer is JSON, and what was found is status 0."""
    verbs = ("ls", "tree", "get /db", "refs 2", "path 3", "check", "changes", "ls --glob /w*")
    done = {verb: run(capsys, filled, *verb.split(), "--json") for verb in verbs}
    assert {verb: status for verb, (status, _, _) in done.items() if status} == {}
    answers = {verb: json.loads(out) for verb, (_, out, _) in done.items()}
    assert answers["get /db"] == {"path": "/db", "id": "2", "attributes": {}}
    assert answers["tree"][0] == {"path": "/db", "id": "2", "depth": 1}
    assert answers["refs 2"] == [{"parent": "0", "name": "db"}, {"parent": "1", "name": "db"}]
    assert answers["check"] == []
    assert len(answers["changes"]) == 7


def test_check_and_repair(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """check says no when it finds something, and mends it when told."""
    assert run(capsys, filled, "check") == (0, "", "")
    run(capsys, filled, "rm", "/db/log")
    status, out, _ = run(capsys, filled, "check")
    assert (status, out) == (1, "unnamed\t3\tno edge leads to it\tdelete-entity\n")
    assert run(capsys, filled, "check", "--repair") == (0, "1\n", "")
    assert run(capsys, filled, "check")[0] == 0


def test_export_import_backup_downgrade(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export comes back by import; backups and the way to 2014 are complete."""
    text = run(capsys, filled, "export")[1]
    exported = tmp_path / "graph.json"
    assert run(capsys, filled, "export", "--output", exported)[0] == 0
    assert exported.read_text() == text
    assert run(capsys, filled, "export", "--output", exported)[0] == 3
    assert run(capsys, tmp_path / "new.db", "import", exported, "--json")[1] == '{"entities": 3, "edges": 4}\n'
    assert run(capsys, tmp_path / "new.db", "export")[1] == text
    assert run(capsys, filled, "backup", tmp_path / "copy.db")[0] == 0
    assert run(capsys, tmp_path / "copy.db", "export")[1] == text
    assert "digraph" in run(capsys, filled, "export", "--form", "dot", "/web")[1]
    answer = json.loads(run(capsys, filled, "downgrade", "--json")[1])
    assert answer == {"copy": f"{filled}.v1", "entities": 4, "edges": 4}
    assert run(capsys, filled, "export")[1] == text


def test_names_cannot_steer_the_terminal(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in names and messages are printed as escapes, in trees too."""
    with GraphDatabase.open(filled) as graph:
        graph.set("/\x1b[31mred\nline", "evil\x07")
    for arguments in (["ls"], ["tree"], ["get", "/\x1b[31mred\nline"], ["rm", "/none\x1b[0m"]):
        _, out, err = run(capsys, filled, *arguments)
        assert "\x1b" not in out + err
        assert "\x07" not in out
    assert "\\x1b[31mred\\nline\tevil\\x07" in run(capsys, filled, "ls")[1]


def test_as_a_module(filled: Path) -> None:
    """It runs by `python -m`, says how when asked wrongly, and ends quietly when its reader leaves."""
    command = [sys.executable, "-m", "kernelproof.impl.graphdb", str(filled)]
    done = subprocess.run([*command, "ls"], capture_output=True, text=True, check=True)
    assert done.stdout == "db\t2\nweb\t1\n"
    assert subprocess.run([*command, "frobnicate"], capture_output=True, check=False).returncode == 2


def test_verb_is_needed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without a verb is a mistake in the command, and no file is made."""
    with pytest.raises(SystemExit) as ended:
        main([str(file)])
    assert ended.value.code == 2
    assert "required: verb" in capsys.readouterr().err
    assert not file.exists()
