"""Options of procfs."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.mount import MountFlag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, Refusal
    from kernelproof.conformance.seen import Seen

GROUP = 4321


@pytest.fixture
def procfs(tree: Path) -> Callable[[str], Path]:
    """Mount procfs with options at a place that everybody reaches."""

    def mount_it(options: str) -> Path:
        for path in (tree, tree.parent, tree.parent.parent, tree.parent.parent.parent):
            path.chmod(0o755)
        mount.force_mount("proc", tree / "a", "proc", options)
        return tree / "a"

    return mount_it


@behaviour("mount.proc.hidepid-noaccess", subject="impl")
def test_noaccess(procfs: Callable[[str], Path], as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Another user's process is listed, but what it runs is not told."""
    proc = procfs("hidepid=noaccess")
    pid = str(os.getpid())

    def look() -> list[Any]:
        opened = [refusal(os.open, proc / pid / name, os.O_RDONLY) for name in ("status", "cmdline")]
        return [pid in os.listdir(proc), *opened]

    assert seen(as_nobody(look)) == [True, "EPERM", "EPERM"]


@behaviour("mount.proc.hidepid-invisible", subject="impl")
def test_invisible(procfs: Callable[[str], Path], as_nobody: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Another user's process is not there."""
    proc = procfs("hidepid=invisible")
    pid = str(os.getpid())
    assert pid in os.listdir(proc)
    assert seen(as_nobody(lambda: [pid in os.listdir(proc), refusal(os.stat, proc / pid)])) == [False, "ENOENT"]


@behaviour("mount.proc.hidepid-invisible-kill", subject="impl")
def test_signals_still_tell(
    procfs: Callable[[str], Path], as_nobody: InOthersSkin, refusal: Refusal, seen: Seen
) -> None:
    """kill() still tells that a process is there that procfs does not show."""
    proc = procfs("hidepid=invisible")
    pid = os.getpid()
    assert (proc / str(pid)).exists()  # for us
    answers = as_nobody(lambda: [(proc / str(pid)).exists(), refusal(os.kill, pid, 0)])
    assert seen(answers) == [False, "EPERM"]
    os.kill(pid, signal.SIGCONT)


@behaviour("mount.proc.hidepid-gid", subject="impl")
def test_group_that_sees_all(procfs: Callable[[str], Path], in_child: InChild, seen: Seen) -> None:
    """A member of the group sees what others do not."""
    proc = procfs(f"hidepid=2,gid={GROUP}")
    pid = str(os.getpid())

    def look(groups: list[int]) -> bool:
        setgroups(groups)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return pid in os.listdir(proc)

    assert seen([in_child(lambda: look([GROUP])), in_child(lambda: look([]))]) == [True, False]


@behaviour("mount.proc.hidepid-ptraceable", subject="impl")
def test_ptraceable(procfs: Callable[[str], Path], as_nobody: InOthersSkin, seen: Seen) -> None:
    """Only what the reader may trace is listed."""
    proc = procfs("hidepid=ptraceable")
    pid = str(os.getpid())

    def look() -> list[bool]:
        names = os.listdir(proc)
        return [pid in names, "1" in names]

    assert pid in os.listdir(proc)
    assert seen(as_nobody(look)) == [False, False]


@behaviour("mount.proc.hidepid-bad-value-einval", subject="impl")
def test_bad_values(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """Values that are not listed are refused."""
    words = ("hidepid=3", "hidepid=foo", "hidepid=2")
    assert refusal(mount.force_mount, "proc", tree / "b", "proc", "hidepid=3") == "EINVAL"
    answers = [refusal(calls.mount, "proc", tree / "a", "proc", 0, word) for word in words]
    assert seen(answers) == ["EINVAL", "EINVAL", "no error"]


@behaviour("mount.proc.subset-pid", subject="impl")
def test_processes_only(procfs: Callable[[str], Path], refusal: Refusal, seen: Seen) -> None:
    """With subset=pid there are processes, self and thread-self, and nothing else."""
    proc = procfs("subset=pid")
    others = [name for name in os.listdir(proc) if not name.isdigit()]
    assert refusal(os.stat, proc / "meminfo") == "ENOENT"
    assert seen(sorted(others)) == ["self", "thread-self"]


@behaviour("mount.proc.instances-separate", subject="impl")
def test_instances_are_separate(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """A remount changes one of two mounts of procfs."""
    for name in ("a", "b"):
        mount.force_mount("proc", tree / name, "proc", "hidepid=noaccess")
    calls.mount(None, tree / "a", None, MountFlag.REMOUNT, "hidepid=invisible")
    words = [[word for word in line_at(tree / name).super_options if "hidepid" in word] for name in ("a", "b")]
    assert seen(words) == [["hidepid=invisible"], ["hidepid=noaccess"]]


@behaviour("mount.proc.options-shown", subject="impl")
def test_options_are_shown_by_name(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """mountinfo names the value of hidepid, and nothing for 0."""
    shown = []
    for number in ("1", "2", "4", "0"):
        mount.force_mount("proc", tree / "a", "proc", f"hidepid={number}")
        shown.append([word for word in line_at(tree / "a").super_options if "hidepid" in word])
    assert seen(shown) == [["hidepid=noaccess"], ["hidepid=invisible"], ["hidepid=ptraceable"], []]
