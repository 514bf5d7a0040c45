"""The commands of 2014, with data_path in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.config.records import (
    Config,
)
from kernelproof.impl.libcontainer.nsinit import of2014
from kernelproof.impl.libcontainer.nsinit.main import main
from kernelproof.impl.libcontainer.nsinit.verbs import (
    executing_2014,
)
from kernelproof.impl.tests.libcontainer.nsinit.calls import Calls

FIXTURES = Path(__file__).parents[4] / "fixtures/libcontainer/legacy"

IN_2014 = "2014-srv-web"


@pytest.mark.parametrize(
    ("words", "today"),
    [
        (["exec", "ls", "-l"], ["exec-2014", "--", "ls", "-l"]),
        (["exec", "--", "x"], ["exec-2014", "--", "--", "x"]),
        (["stats"], ["stats", "--format", "json", IN_2014]),
        (["pause"], ["pause", IN_2014]),
        (["unpause"], ["unpause", IN_2014]),
        (["config"], ["config", "/srv/web"]),
        (["pause", "web"], ["pause", "web"]),
        (["state", "web"], ["state", "web"]),
        (["spec"], ["spec"]),
    ],
    ids=" ".join,
)
def test_words_of_2014_become_those_of_today(words: list[str], today: list[str]) -> None:
    """With data_path, what had no ID gets that of the directory; what has one stays as it is."""
    assert of2014.translate(words, "/srv/web") == today


def test_a_directory_has_one_name() -> None:
    """The ID is made of the absolute path, in letters that an ID may have, and not too long."""
    assert of2014.name_of("/srv/web") == IN_2014
    assert of2014.name_of("/srv/x/../web") == IN_2014
    assert of2014.name_of("/srv/ü b") == "2014-srv---b"
    assert len(of2014.name_of("/" + "x" * 300)) == 255


def test_exec_of_2014_runs_container_json(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file of data_path, the words as its program, the working directory as its root; pid lies beside meanwhile."""
    removed = Calls([])
    (tmp_path / "container.json").write_text((FIXTURES / "d.json").read_text())
    (tmp_path / "rootfs").mkdir()
    monkeypatch.chdir(tmp_path / "rootfs")
    monkeypatch.setenv("data_path", str(tmp_path))

    def attend(_started: object, _given: object) -> int:
        (tmp_path / "pid").touch()
        return 5

    monkeypatch.setattr(executing_2014, "run_container", calls)
    monkeypatch.setattr(executing_2014, "attend", attend)
    monkeypatch.setattr(executing_2014, "delete", removed)
    assert main(["--root", str(tmp_path / "states"), "exec", "sh", "-c", "exit 5"]) == 5
    (((_, config, request), named),) = calls.seen
    assert isinstance(config, Config)
    assert config.process is not None
    assert config.process.args == ("sh", "-c", "exit 5")
    assert config.root is not None
    assert config.root.path == str(tmp_path / "rootfs")
    assert named["pid_file"] == str(tmp_path / "pid")
    assert not request.waits  # type: ignore[attr-defined]
    assert len(removed.seen) == 1
    assert not (tmp_path / "pid").exists()
    assert main(["exec"]) == 2
    (tmp_path / "container.json").unlink()
    assert main(["--root", str(tmp_path / "states"), "exec", "sh"]) == 1
    assert "container.json: no such file" in capfd.readouterr().err
