"""What /proc/PID shows of a process, and to whom."""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.conftest import NOBODY, become_plain
from kernelproof.conformance.process.procfs import state
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.prctl import PR_SET_DUMPABLE, prctl
from kernelproof.impl._syscalls.signals import kill, signalfd
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, wait4, waitid
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Bystander, Companion, InChild, OutputOf, Talk, Unprivileged
    from kernelproof.conformance.process.conftest import Sleeper
    from kernelproof.conformance.seen import Seen

COMM = Path("/proc/self/comm")
PYTHON = "/usr/bin/python3"


def looks(pid: int) -> dict[str, Callable[[], Any]]:
    """Ways to look at a process that its files in /proc protect."""
    folder = Path(f"/proc/{pid}")
    return {
        **{name: partial(read_some, folder / name) for name in ("environ", "maps")},
        "fd": partial(os.listdir, folder / "fd"),
        **{name: partial(os.readlink, folder / name) for name in ("exe", "cwd", "root")},
    }


def read_some(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(100)


@behaviour("process.proc.ptrace-protected")
def test_protected_files(bystander: Bystander, in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """A reader of another uid without privilege gets EACCES for what tells of memory, files and directories."""
    pid = bystander()

    def answers() -> list[str]:
        return [seen.errno_of(look) for look in looks(pid).values()]

    assert in_child(answers) == ["no error"] * 6
    assert seen(unprivileged(answers)) == ["EACCES"] * 6


@behaviour("process.proc.world-readable")
def test_public_files(bystander: Bystander, unprivileged: Unprivileged, seen: Seen) -> None:
    """A reader of another uid without privilege reads status, stat, cmdline and limits."""
    folder = Path(f"/proc/{bystander()}")

    def read() -> list[Any]:
        return [os.getuid(), *(bool(read_some(folder / name)) for name in ("status", "stat", "cmdline", "limits"))]

    assert folder.stat().st_uid == 0
    assert seen(unprivileged(read)) == [NOBODY, True, True, True, True]


@behaviour("process.proc.dumpable-owner")
def test_owner_of_the_files(companion: Companion, seen: Seen) -> None:
    """The files of a process whose dumpable attribute is not 1 are root's, and else its user's."""

    def change(talk: Talk) -> None:
        become_plain(1000)
        for mode in (1, 0):
            prctl(PR_SET_DUMPABLE, mode)
            talk.ask()

    child = companion(change)
    owners = []
    for _ in range(2):
        child.hear()
        owners.append([os.stat(f"/proc/{child.pid}/{name}").st_uid for name in ("status", "fd")])
        child.say()
    assert seen(owners) == [[1000, 1000], [0, 0]]


@behaviour("process.proc.zombie-cmdline")
def test_zombie_has_no_command_line(bystander: Bystander, seen: Seen) -> None:
    """cmdline of a process that has ended and was not waited for is empty."""
    pid = bystander()
    command_line = Path(f"/proc/{pid}/cmdline")
    before = command_line.read_bytes()
    kill(pid, signal.SIGKILL)
    waitid(IdType.PID, pid, WaitOption.EXITED | WaitOption.NOWAIT)
    assert seen([before != b"", state(pid), command_line.read_text()]) == [True, "Z", ""]


@behaviour("process.proc.reaped-open-files")
def test_open_file_of_a_process_that_is_gone(companion: Companion, seen: Seen) -> None:
    """A status file that was opened in time gives ESRCH when its process was waited for."""
    child = companion(lambda talk: talk.hear())
    status = os.open(f"/proc/{child.pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    before = seen.errno_of(os.pread, status, 10, 0)
    child.say()
    wait4(child.pid)
    assert seen([before, seen.errno_of(os.pread, status, 10, 0)]) == ["no error", "ESRCH"]
    os.close(status)


@behaviour("process.proc.comm-truncated")
def test_long_name(in_child: InChild, seen: Seen) -> None:
    """A name keeps 15 bytes; a longer one is cut without an error."""

    def rename() -> list[str]:
        found = []
        for name in ("fifteen bytes..", "sixteen bytes..x"):
            perform(WriteFile(str(COMM), name))
            found.append(COMM.read_text())
        return found

    assert seen(in_child(rename)) == ["fifteen bytes..\n", "sixteen bytes..\n"]


@behaviour("process.proc.stat-comm-parentheses")
def test_name_in_stat(in_child: InChild, seen: Seen) -> None:
    """The second field of stat is the name in parentheses, with whatever it holds."""

    def rename() -> list[Any]:
        perform(WriteFile(str(COMM), ") R 1 (x"))
        text = Path("/proc/self/stat").read_text()
        rest = text.removeprefix(f"{os.getpid()} () R 1 (x) ")
        return [text[: -len(rest)].partition(" ")[2], rest.split()[0], rest.split()[1] == str(os.getppid())]

    assert seen(in_child(rename)) == ["() R 1 (x) ", "R", True]


@behaviour("process.proc.environ-initial")
def test_environment_as_it_was(output_of: OutputOf, seen: Seen) -> None:
    """environ is the environment that execve was given, whatever was put into it later."""
    told = "import os; os.putenv('LATER', '2'); print(open('/proc/self/environ').read().split('\\0'))"
    said = output_of(lambda: execve(PYTHON, ["python3", "-I", "-S", "-c", told], ["FIRST=1"]))
    assert seen(said) == "['FIRST=1', '']\n"


@behaviour("process.proc.exe-deleted")
def test_program_that_was_removed(sleeper: Sleeper, tmp_path: Path, seen: Seen) -> None:
    """The exe link of a program whose file was removed ends in " (deleted)"."""
    path = tmp_path / "program"
    path.write_bytes(Path("/bin/sleep").read_bytes())
    path.chmod(0o755)
    link = f"/proc/{sleeper(program=path)}/exe"
    before = os.readlink(link)
    path.unlink()
    assert [before, os.readlink(link)] == [str(path), f"{path} (deleted)"]
    assert seen(os.readlink(link).endswith("/program (deleted)")) is True


@behaviour("process.proc.fd-link-format")
def test_links_of_descriptors(seen: Seen) -> None:
    """Descriptors without a path are named by kind and inode, or by kind alone."""
    reader, _ = os.pipe()
    with socket.socket() as connection:
        fds = (reader, connection.fileno(), signalfd({signal.SIGUSR1}))
        texts = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
        inodes = [os.fstat(fd).st_ino for fd in fds[:2]]
    assert seen([texts[0] == f"pipe:[{inodes[0]}]", texts[1] == f"socket:[{inodes[1]}]", texts[2]]) == [
        True,
        True,
        "anon_inode:[signalfd]",
    ]
