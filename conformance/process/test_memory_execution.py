"""Memory that can't be executed: PR_SET_MDWE, and memory files without execute bits."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.memory_files import MemfdFlag, Seal, get_seals, memfd_create
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.prctl import prctl
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

PR_SET_MDWE, PR_GET_MDWE = 65, 66
REFUSE_EXEC_GAIN, NO_INHERIT = 1, 2
NOEXEC = Path("/proc/sys/vm/memfd_noexec")


def map_both() -> None:
    """Map memory that is writable and executable."""
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def in_fork() -> bool:
    """Whether a forked child may map memory that is writable and executable; the child ends by it."""
    pid = os.fork()
    if pid == 0:
        try:
            map_both()
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@behaviour("process.mdwe.no-writable-code")
def test_writable_code(in_child: InChild, seen: Seen) -> None:
    """After PR_MDWE_REFUSE_EXEC_GAIN no memory is mapped that is writable and executable; before it is."""

    def ask() -> list[str]:
        before = seen.errno_of(map_both)
        prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN)
        return [before, seen.errno_of(map_both), str(prctl(PR_GET_MDWE))]

    assert seen(in_child(ask)) == ["no error", "EACCES", "1"]


@behaviour("process.mdwe.stays")
def test_protection_stays(in_child: InChild, seen: Seen) -> None:
    """Bits that are set can't be taken back."""

    def ask() -> list[str]:
        prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN)
        return [seen.errno_of(prctl, PR_SET_MDWE, 0), str(prctl(PR_GET_MDWE))]

    assert seen(in_child(ask)) == ["EPERM", "1"]


@behaviour("process.mdwe.no-inherit")
def test_children_without_protection(in_child: InChild, seen: Seen) -> None:
    """A forked child is protected as its parent is, and with PR_MDWE_NO_INHERIT it is not."""

    def ask(mask: int) -> bool:
        prctl(PR_SET_MDWE, mask)
        return in_fork()

    answers = [in_child(lambda: ask(REFUSE_EXEC_GAIN)), in_child(lambda: ask(REFUSE_EXEC_GAIN | NO_INHERIT))]
    assert seen(answers) == [False, True]


@behaviour("process.mdwe.no-inherit-alone")
def test_exception_without_the_rule(in_child: InChild, seen: Seen) -> None:
    """PR_MDWE_NO_INHERIT without PR_MDWE_REFUSE_EXEC_GAIN gives EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(prctl, PR_SET_MDWE, NO_INHERIT))) == "EINVAL"


@behaviour("process.mdwe.before-6-3")
def test_protection_on_an_older_kernel(in_child: InChild, seen: Seen) -> None:
    """A kernel without PR_SET_MDWE refuses it: EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(prctl, PR_SET_MDWE, REFUSE_EXEC_GAIN))) == "EINVAL"


def describe(flags: int) -> list[object]:
    """Whether a new memory file has execute bits, and whether that is sealed."""
    fd = memfd_create("file", flags)
    return [bool(os.fstat(fd).st_mode & 0o111), bool(get_seals(fd) & Seal.EXEC)]


def set_level(level: int) -> None:
    """Set vm.memfd_noexec."""
    perform(WriteFile(str(NOEXEC), str(level)))


@behaviour("process.memfd.noexec-seal")
def test_file_without_execute_bits(seen: Seen) -> None:
    """MFD_NOEXEC_SEAL makes a file without execute bits, which none can add, and which takes seals."""
    fd = memfd_create("file", MemfdFlag.NOEXEC_SEAL)
    assert not get_seals(fd) & Seal.SEAL
    assert [describe(MemfdFlag.NOEXEC_SEAL), describe(MemfdFlag.EXEC)] == [[False, True], [True, False]]
    assert seen.errno_of(os.fchmod, fd, 0o777) == "EPERM"


@behaviour("process.memfd.noexec-before-6-3")
def test_flags_on_an_older_kernel(seen: Seen) -> None:
    """A kernel without MFD_NOEXEC_SEAL and MFD_EXEC refuses them: EINVAL."""
    assert seen([seen.errno_of(memfd_create, "file", flag) for flag in (MemfdFlag.NOEXEC_SEAL, MemfdFlag.EXEC)]) == [
        "EINVAL",
        "EINVAL",
    ]


@pytest.mark.parametrize(
    ("level", "plain"),
    [
        pytest.param(0, [True, False], id="0", marks=behaviour("process.memfd.noexec-level-0")),
        pytest.param(1, [False, True], id="1", marks=behaviour("process.memfd.noexec-level-1")),
    ],
)
def test_default_by_level(level: int, plain: list[bool], seen: Seen) -> None:
    """Without either flag a file is as with MFD_EXEC at level 0, and as with MFD_NOEXEC_SEAL at level 1."""
    set_level(level)
    assert describe(MemfdFlag.EXEC) == [True, False]
    assert seen(describe(0)) == plain


@behaviour("process.memfd.noexec-level-2")
def test_enforced(seen: Seen) -> None:
    """At level 2 a file is made with MFD_NOEXEC_SEAL alone; with MFD_EXEC it is refused."""
    set_level(2)
    answers = [seen.errno_of(memfd_create, "file", flags) for flags in (MemfdFlag.NOEXEC_SEAL, MemfdFlag.EXEC)]
    assert seen(answers) == ["no error", "EACCES"]


@behaviour("process.memfd.noexec-hierarchical")
def test_level_of_the_parent(in_child: InChild, seen: Seen) -> None:
    """A PID namespace has its parent's level when it is made, and files are as the strictest level above says."""

    def inside(writer: int) -> None:
        text = NOEXEC.read_text().strip()
        os.write(writer, f"{text} {describe(0)[0]} ".encode())
        os._exit(0)

    def ask() -> str:
        set_level(1)
        reader, writer = os.pipe()
        unshare(CloneFlag.NEWPID)
        if os.fork() == 0:
            inside(writer)
        os.wait()
        return os.read(reader, 100).decode()

    assert seen(in_child(ask)).split() == ["1", "False"]
