"""The command, beside findmnt."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount.__main__ import main

pytestmark = pytest.mark.machine

EPOLL_WAIT = {"232", "281", "22"}  # epoll_wait and epoll_pwait of x86-64, epoll_pwait of the generic table
COLUMNS = "TARGET,SOURCE,FSTYPE,OPTIONS,MAJ:MIN,FSROOT,VFS-OPTIONS,FS-OPTIONS,OPT-FIELDS,PROPAGATION"


def findmnt(*arguments: str) -> Any:
    """What findmnt prints."""
    done = subprocess.run(["findmnt", "-J", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["filesystems"]


def shared(rows: list[dict[str, Any]], keys: set[str]) -> list[Any]:
    """Rows with the keys that both have, and their children likewise."""
    return [
        {
            **{key: value for key, value in row.items() if key in keys},
            "children": shared(row.get("children", []), keys),
        }
        for row in rows
    ]


@pytest.fixture
def many(place: Path) -> Path:
    """Mounts of many kinds."""
    (place / "a/x y").mkdir()
    mount.make_shared(place)
    mount.mount("the\tsource", place / "a/x y", "tmpfs", "nosuid,size=64k,noatime")
    mount.bind(place / "a", place / "b", recursive=True, options="rslave")
    mount.force_mount("over", place / "b", "tmpfs", "ro,unbindable")
    return place


@pytest.mark.parametrize("columns", [None, COLUMNS], ids=["default", "all"])
def test_json_is_that_of_findmnt(many: Path, capsys: pytest.CaptureFixture[str], columns: str | None) -> None:
    """Tree and list are findmnt's, for each key that both have."""
    extra = ["-o", columns] if columns else []
    theirs = findmnt(*extra)
    keys = {key for row in theirs for key in row} - {"children"}
    assert main(["tree", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["filesystems"]
    assert shared(ours, keys) == shared(theirs, keys)
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["filesystems"]
    assert shared(listed, keys) == shared(findmnt("--list", *extra), keys)


def test_find_and_mount(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mount is made, found and taken off; an error is one line and its notes, and no traceback."""
    (many / "c").mkdir()
    assert main(["mount", "-t", "tmpfs", "-o", "nodev", "made", str(many / "c"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["filesystems"]
    assert (row["source"], row["vfs-options"]) == ("made", "rw,nodev,relatime")
    assert main(["find", str(many / "c/.")]) == 0
    assert "made" in capsys.readouterr().out
    assert main(["unmount", str(many / "c")]) == 0
    assert main(["unmount", str(many / "c")]) == 1
    assert main(["bind", "--read-only", str(many / "a"), str(many / "c")]) == 0
    assert "ro" in mount.mount_of(many / "c").mount_options
    assert main(["mount", "-t", "nofs", "x", str(many / "c")]) == 1
    captured = capsys.readouterr()
    assert "No such device" in captured.err
    assert "Traceback" not in captured.err
    with pytest.raises(SystemExit) as wrong:
        main(["frobnicate"])
    assert wrong.value.code == 2


def wait_until_it_waits(process: subprocess.Popen[str], timeout_seconds: float) -> None:
    """Wait until a process is inside epoll_wait(2), by what procfs says of its system call."""
    pidfd = os.pidfd_open(process.pid)
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + timeout_seconds
    while Path(f"/proc/{process.pid}/syscall").read_text().split()[0] not in EPOLL_WAIT:
        assert time.monotonic() < deadline
        assert not ended.poll(20), "the command ended"
    os.close(pidfd)


def test_watch_prints_until_it_is_interrupted(many: Path) -> None:
    """Each change is a line of JSON at once, and Ctrl-C ends it without a traceback."""
    command = [sys.executable, "-m", "kernelproof.impl.mount", "watch", "--json"]
    (many / "c").mkdir()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        wait_until_it_waits(process, 60)
        mount.force_mount("seen", many / "c", "tmpfs", "")
        change = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        assert "Traceback" not in process.stderr.read()
    assert (change["action"], change["new"]["source"]) == ("added", "seen")
