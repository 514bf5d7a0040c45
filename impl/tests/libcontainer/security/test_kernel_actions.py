"""What the kernel's filters can return and what it logs of that, in files like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.security.kernel_actions import read_actions, read_logged, write_logged


def test_kernel_without_filters(tmp_path: Path) -> None:
    """It has no actions; asked what it logs, it has no answer."""
    assert read_actions(str(tmp_path)) == ()
    with pytest.raises(FileNotFoundError):
        read_logged(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        write_logged(["log"], str(tmp_path))


def test_what_is_there(tmp_path: Path) -> None:
    """Names come in the kernel's order, and are written in the caller's."""
    folder = tmp_path / "kernel/seccomp"
    folder.mkdir(parents=True)
    (folder / "actions_avail").write_text("kill_process trap allow\n")
    (folder / "actions_logged").write_text("")
    assert read_actions(str(tmp_path)) == ("kill_process", "trap", "allow")
    write_logged(("trap", "log"), str(tmp_path))
    assert (folder / "actions_logged").read_text() == "trap log"
    assert read_logged(str(tmp_path)) == ("trap", "log")
