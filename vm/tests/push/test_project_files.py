"""The files of a project are read once: what a session is known by is what was pushed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kernelproof.vm import push
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.guest.bundle import read_members
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.push import digest_files, read_files
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import NO_MACHINE, Machines, SessionMachine, SessionPlan, open_session

FACTS = {"machine": {"time": NO_MACHINE}, "kernel": {"release": "6.12"}}
COLLECTED = {"kind": "collected", "nodeids": [], "reports": [], "warnings": []}

Prepare = Callable[[SessionMachine, Mapping[str, object]], Mapping[str, object]]
MadeOf = Callable[[Mapping[str, object]], Mapping[str, object]]


def test_what_is_read(tmp_path: Path) -> None:
    """Regular files with their bytes, links with where they lead; what is gone, and anything else, is left out."""
    (tmp_path / "tool").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    os.utime(tmp_path / "tool", ns=(0, 1_700_000_000_500_000_000))
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    link, tool = read_files(tmp_path / name for name in ("fifo", "gone", "link", "tool"))
    assert (link.path.name, link.content, stat.S_ISLNK(link.mode)) == ("link", b"nowhere", True)
    assert (tool.content, tool.mode, tool.changed) == (b"#!/bin/sh\n", stat.S_IFREG | 0o755, 1_700_000_000)


@pytest.mark.parametrize("change", ["content", "mode", "time", "name"])
def test_digest(tmp_path: Path, change: str) -> None:
    """Another content, mode, time or name is another digest; reading again is not."""
    path = tmp_path / "file"
    path.write_bytes(b"a")
    os.utime(path, (0, 0))
    before = digest_files(read_files([path]))
    assert digest_files(read_files([path])) == before
    if change == "content":
        path.write_bytes(b"b")
        os.utime(path, (0, 0))
    elif change == "mode":
        path.chmod(0o700)
    elif change == "time":
        os.utime(path, (0, 1))
    else:
        path = path.rename(tmp_path / "other")
    assert digest_files(read_files([path])) != before


def test_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes than a machine gets are refused before they are read; the largest files are named."""
    monkeypatch.setattr(push, "TOTAL_LIMIT", 10)
    (tmp_path / "small").write_bytes(b"a")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ProvisionError, match=r"/large \(1099511627776 bytes\), .*/small \(1 bytes\)"):
        read_files([tmp_path / "small", tmp_path / "large"])


class SavesMeanwhile:
    """Provides a machine that remembers what was pushed; a test file is saved anew after the session has its name."""

    left_out = ()

    def __init__(self, saved: Path) -> None:
        self._saved = saved
        self.pushed: dict[str, bytes] = {}
        self.digest: object = None

    def push_archive(self, archive: bytes, destination: str) -> None:
        assert destination == "/"
        self.pushed = {os.fsdecode(path): data for path, data in read_members(archive)}

    def request(self, message: Mapping[str, object], *, timeout: float) -> Mapping[str, object]:
        return COLLECTED

    def open(
        self, key: MachineKey, prepare: Prepare, *, made_of: MadeOf, **others: object
    ) -> tuple[Machines, Mapping[str, object], Mapping[str, object]]:
        self.digest = made_of(FACTS)["files"]
        self._saved.write_bytes(b"new\n")
        return cast("Machines", None), FACTS, prepare(cast("SessionMachine", self), FACTS)


def test_file_saved_meanwhile(tmp_path: Path) -> None:
    """A file that is saved between the two is pushed as it was: a kept session never has other files than its name."""
    test = tmp_path / "test_a.py"
    test.write_bytes(b"old\n")
    before = digest_files(read_files([test]))
    key = MachineKey("6.12", "plain", "virtual")
    provider = SavesMeanwhile(test)
    config = cast("pytest.Config", SimpleNamespace(rootpath=tmp_path, inipath=None))
    open_session(provider, config, SessionPlan(key, (test,), {}), SilentProgress())  # type: ignore[arg-type]
    assert provider.pushed[str(test).lstrip("/")] == b"old\n"
    assert provider.digest != before  # more than the one file is pushed
    assert digest_files(read_files([test])) != before
