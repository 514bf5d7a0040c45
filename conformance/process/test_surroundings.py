"""A process among files: umask, root directory and working directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_words
from kernelproof.impl._syscalls.surroundings import chroot, getcwd, umask

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild, Unprivileged
    from kernelproof.conformance.seen import Seen


@behaviour("process.fs.umask-bits")
def test_bits_of_a_umask(in_child: InChild, seen: Seen) -> None:
    """umask keeps the bits 0777 and no others."""

    def change() -> list[Any]:
        umask(0o7777)
        kept = status_words("Umask")
        umask(0o7027)
        return [kept, status_words("Umask")]

    assert seen(in_child(change)) == [["0777"], ["0027"]]


@behaviour("process.fs.umask-returns-old")
def test_umask_before(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """umask returns the mask before, which new files obeyed."""

    def change() -> list[Any]:
        umask(0o027)
        os.close(os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        return [(tmp_path / "file").stat().st_mode & 0o777, umask(0o077), umask(0)]

    assert seen(in_child(change)) == [0o750, 0o027, 0o077]


@behaviour("process.fs.chroot-keeps-cwd")
def test_directory_outside_the_root(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """chroot leaves the working directory, from which files outside are reached by relative paths."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").write_text("outside")

    def look() -> list[Any]:
        os.chdir(tmp_path)
        chroot(tmp_path / "root")
        return [Path("outside").read_text(), os.path.exists("/outside"), os.listdir("/")]

    assert seen(in_child(look)) == ["outside", False, []]


@behaviour("process.fs.chroot-unprivileged-eperm")
def test_chroot_without_capability(in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_CHROOT chroot gives EPERM."""
    assert in_child(lambda: seen.errno_of(chroot, "/")) == "no error"
    assert seen(unprivileged(lambda: seen.errno_of(chroot, "/"))) == "EPERM"


@behaviour("process.fs.chroot-file-enotdir")
def test_chroot_to_a_file(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """A regular file gives ENOTDIR."""
    (tmp_path / "file").touch()
    assert seen(in_child(lambda: seen.errno_of(chroot, tmp_path / "file"))) == "ENOTDIR"


def outside_the_root(tmp_path: Path, function: Any) -> Any:
    """Call a function in a directory that is outside the root directory."""
    (tmp_path / "root").mkdir(exist_ok=True)
    os.chdir(tmp_path)
    chroot(tmp_path / "root")
    return function()


@behaviour("process.fs.getcwd-unreachable-enoent")
def test_getcwd_of_libc(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """libc's getcwd gives ENOENT in a directory outside the root."""
    assert seen.errno_of(os.getcwd) == "no error"
    assert seen(in_child(lambda: outside_the_root(tmp_path, lambda: seen.errno_of(os.getcwd)))) == "ENOENT"


@behaviour("process.fs.getcwd-unreachable-string")
def test_getcwd_of_the_kernel(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """The system call's answer in a directory outside the root begins with (unreachable)."""
    os.chdir(tmp_path)
    assert getcwd() == str(tmp_path)
    answer = in_child(lambda: outside_the_root(tmp_path, getcwd))
    assert seen(answer.startswith("(unreachable)/")) is True
