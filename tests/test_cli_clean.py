"""`kernelproof clean`: what goes, what stays, and what is told of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernelproof.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an entry of this and of an older format, and a file of somebody else's."""
    root = tmp_path / "cache"
    for name in ("v1/kernel/a/vmlinux", "v0/old", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(1_000_000))
    monkeypatch.setenv("KERNELPROOF_CACHE", str(root))
    return root


def test_clean_all_removes_every_format_and_nothing_else(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Entries of all formats go, a line a kind; what others keep beside them stays."""
    assert main.main(["clean", "--all"]) == 0
    assert [path.name for path in cache.iterdir()] == ["notes.txt"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split() for line in table[:-1]] == [
        ["KIND", "NUMBER", "MEGABYTES"],
        ["format", "1", "1.0"],
        ["kernel", "1", "1.0"],
    ]
    assert table[-1] == f"removed 2 MB from {cache}"


def test_clean_dry_run(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` tells the same size and removes nothing."""
    assert main.main(["clean", "--all", "--dry-run"]) == 0
    assert (cache / "v1/kernel/a/vmlinux").exists()
    assert capsys.readouterr().out.endswith(f"would remove 2 MB from {cache}\n")


def test_clean_removes_what_is_old(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--all` what another version made goes, and what is of use stays."""
    assert main.main(["clean", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"kind": "format", "number": 1, "megabytes": 1.0}]
    assert sorted(path.name for path in cache.iterdir()) == ["notes.txt", "v1"]


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "many"])
def test_clean_days(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Days are a number, not below zero."""
    with pytest.raises(SystemExit) as caught:
        main.main(["clean", f"--days={days}"])
    assert caught.value.code == 2
    assert ": a number of days, 0 or more, is needed" in capsys.readouterr().err


def test_clean_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A cache that was never made is cleaned without complaint."""
    monkeypatch.setenv("KERNELPROOF_CACHE", str(tmp_path / "none"))
    for words in ([], ["--all"]):
        assert main.main(["clean", *words]) == 0
        assert capsys.readouterr().out.startswith("removed 0 MB")


def test_clean_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What can't be removed is named."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path / "v1"))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert main.main(["clean", "--all"]) == 1
    assert "v1: Permission denied\n  remedy: remove it by hand" in capsys.readouterr().err
    assert not (cache / "v1/kernel").exists()  # moved aside all the same: the next clean finds it
