"""execveat(2): programs behind descriptors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.conftest import script
from kernelproof.impl._syscalls.execution import AT_FDCWD, ExecFlag, execveat

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild, OutputOf
    from kernelproof.conformance.seen import Seen

ECHO = "/bin/echo"
UNKNOWN = 0x2


def refused(seen: Seen, in_child: InChild, *arguments: Any) -> str:
    """The errno of an execveat that should be refused."""
    answer: str = in_child(lambda: seen.errno_of(execveat, *arguments))
    return answer


@behaviour("process.execveat.empty-path")
def test_program_behind_a_descriptor(output_of: OutputOf, seen: Seen) -> None:
    """With AT_EMPTY_PATH the file behind a descriptor is run, behind one of O_PATH too."""

    def run(flags: int) -> str:
        fd = os.open(ECHO, flags | os.O_CLOEXEC)
        return output_of(lambda: execveat(fd, "", ["echo", "ran"], (), ExecFlag.EMPTY_PATH))

    assert seen([run(os.O_RDONLY), run(os.O_PATH)]) == ["ran\n", "ran\n"]


@behaviour("process.execveat.script-cloexec")
def test_script_behind_a_descriptor(in_child: InChild, output_of: OutputOf, tmp_path: Path, seen: Seen) -> None:
    """A script behind a close-on-exec descriptor gives ENOENT; behind one that stays open it runs."""
    fd = os.open(script(tmp_path / "script", f"#!{ECHO}\n"), os.O_RDONLY | os.O_CLOEXEC)
    answer = refused(seen, in_child, fd, "", ["script"], (), ExecFlag.EMPTY_PATH)

    def become() -> None:
        os.set_inheritable(fd, True)
        execveat(fd, "", ["script"], (), ExecFlag.EMPTY_PATH)

    assert seen([answer, output_of(become)]) == ["ENOENT", f"/dev/fd/{fd}\n"]


@behaviour("process.execveat.symlink-nofollow")
def test_symbolic_link(in_child: InChild, output_of: OutputOf, tmp_path: Path, seen: Seen) -> None:
    """A symbolic link gives ELOOP with AT_SYMLINK_NOFOLLOW, and is followed without."""
    (tmp_path / "link").symlink_to(ECHO)
    folder = os.open(tmp_path, os.O_PATH | os.O_CLOEXEC)
    followed = output_of(lambda: execveat(folder, "link", ["echo", "ran"]))
    answer = refused(seen, in_child, folder, "link", ["echo"], (), ExecFlag.SYMLINK_NOFOLLOW)
    assert seen([followed, answer]) == ["ran\n", "ELOOP"]


@behaviour("process.execveat.check-only")
def test_question_without_execution(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """With AT_EXECVE_CHECK the caller learns whether a file could be run, and goes on."""
    (tmp_path / "file").touch(0o644)

    def check() -> list[Any]:
        paths = (ECHO, tmp_path / "file")
        answers = [seen.errno_of(execveat, AT_FDCWD, path, ["x"], (), ExecFlag.EXECVE_CHECK) for path in paths]
        return [answers, Path("/proc/self/exe").resolve() == Path(ECHO).resolve()]

    assert seen(in_child(check)) == [["no error", "EACCES"], False]


@behaviour("process.execveat.invalid-flag")
def test_unknown_flag(in_child: InChild, seen: Seen) -> None:
    """A flag that execveat does not have gives EINVAL."""
    assert seen(refused(seen, in_child, AT_FDCWD, ECHO, ["echo"], (), UNKNOWN)) == "EINVAL"
