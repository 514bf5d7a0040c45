"""Running programs: what can't be run, how much may be given to it, and what of the process stays."""

from __future__ import annotations

import os
import threading
from errno import errorcode
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.conftest import script
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.limits import INFINITY, Resource, prlimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild, OutputOf
    from kernelproof.conformance.process.conftest import Sleeper
    from kernelproof.conformance.seen import Seen

TRUE = "/bin/true"
ANSWER = Path("/proc/self/comm")


@pytest.fixture
def ran(in_child: InChild, seen: Seen) -> Callable[..., str]:
    """Run a program with arguments in a child, and return "no error" or the errno's name."""

    def run(path: str | Path, *arguments: str, prepare: Callable[[], Any] | None = None) -> str:
        def call() -> str:
            pid = os.fork()
            if pid == 0:
                os._exit(becomes(path, arguments, prepare))
            number = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return "no error" if number == 0 else errorcode[number]

        answer: str = in_child(call)
        return answer

    return run


def becomes(path: str | Path, arguments: tuple[str, ...], prepare: Callable[[], Any] | None) -> int:
    """Become a program that ends with 0; return the errno if that is refused."""
    try:
        if prepare:
            prepare()
        execve(path, [os.path.basename(path), *arguments])
    except OSError as error:
        return error.errno or 255
    return 255


def program(path: Path) -> Path:
    """Copy a program that ends with 0."""
    path.write_bytes(Path(TRUE).read_bytes())
    path.chmod(0o755)
    return path


@behaviour("process.exec.close-on-exec")
def test_descriptors_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """execve closes the descriptors that are marked close-on-exec and keeps the others."""

    def become() -> None:
        for number in (50, 51):
            os.dup2(0, number, inheritable=number == 50)
        execve("/bin/ls", ["ls", "/proc/self/fd"])

    numbers = output_of(become).split()
    assert seen([number in numbers for number in ("50", "51")]) == [True, False]


@behaviour("process.exec.not-executable")
def test_file_without_execute_bit(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A file without any execute bit gives EACCES to root too."""
    path = program(tmp_path / "program")
    found = [ran(path)]
    path.chmod(0o644)
    assert seen([os.geteuid(), *found, ran(path)]) == [0, "no error", "EACCES"]


@behaviour("process.exec.directory")
def test_directory(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A directory gives EACCES."""
    assert seen(ran(tmp_path)) == "EACCES"


@behaviour("process.exec.unknown-format")
@pytest.mark.parametrize("text", ["exit 0\n", ""], ids=["text", "empty"])
def test_file_without_format(text: str, ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """An executable file that is no program and names no interpreter gives ENOEXEC."""
    assert seen(ran(script(tmp_path / "file", text))) == "ENOEXEC"


@behaviour("process.exec.missing-interpreter")
def test_script_without_interpreter(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A script whose interpreter does not exist gives ENOENT."""
    found = [ran(script(tmp_path / name, f"#!{path}\n")) for name, path in (("a", TRUE), ("b", "/nowhere"))]
    assert (tmp_path / "b").exists()
    assert seen(found) == ["no error", "ENOENT"]


@behaviour("process.exec.script-nesting")
def test_scripts_of_scripts(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A chain of scripts runs four recursions deep, and one more gives ELOOP."""
    interpreter = Path(TRUE)
    found = []
    for depth in range(6):
        interpreter = script(tmp_path / f"script{depth}", f"#!{interpreter}\n")
        found.append(ran(interpreter))
    assert seen(found) == ["no error"] * 5 + ["ELOOP"]


@behaviour("process.exec.shebang-limit")
def test_long_first_line(ran: Callable[..., str], output_of: OutputOf, tmp_path: Path, seen: Seen) -> None:
    """What lies beyond 255 characters of a script's first line is ignored."""
    line = "/bin/echo " + "x" * 300
    said = output_of(lambda: execve(script(tmp_path / "cut", f"#!{line}\n"), ["cut"]))
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    name = program(folder / ("n" * (255 - 2 - len(str(folder)) - 1)))
    assert said.split()[0] == line[10:253]  # two characters of 255 are #!
    assert seen(ran(script(tmp_path / "script", f"#!{name}{'n' * 50}\n"))) == "no error"


@behaviour("process.exec.text-busy")
def test_program_that_is_written(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A file that is open for writing gives ETXTBSY."""
    path = program(tmp_path / "program")
    with path.open("ab"):
        busy = ran(path)
    assert seen([busy, ran(path)]) == ["ETXTBSY", "no error"]


def open_and_close(path: Path) -> None:
    """Open a file for writing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


@behaviour("process.exec.write-running")
def test_program_that_runs(sleeper: Sleeper, tmp_path: Path, seen: Seen) -> None:
    """The file of a running program can't be opened for writing: ETXTBSY."""
    path = tmp_path / "program"
    path.write_bytes(Path("/bin/sleep").read_bytes())
    path.chmod(0o755)
    before = seen.errno_of(open_and_close, path)
    pid = sleeper(program=path)
    assert os.readlink(f"/proc/{pid}/exe") == str(path)
    assert seen([before, seen.errno_of(open_and_close, path)]) == ["no error", "ETXTBSY"]


@behaviour("process.exec.string-limit")
def test_length_of_an_argument(ran: Callable[..., str], seen: Seen) -> None:
    """An argument of 131071 bytes passes, and one of 131072 gives E2BIG."""
    assert os.sysconf("SC_PAGE_SIZE") == 4096
    assert seen([ran(TRUE, "a" * length) for length in (131071, 131072)]) == ["no error", "E2BIG"]


def with_stack(soft: int) -> Callable[[], Any]:
    """Set the soft limit of the stack."""
    return partial(prlimit, 0, Resource.STACK, (soft, INFINITY))


def words(kibibytes: int) -> list[str]:
    """Arguments of so many KiB, their ends and the pointers to them left out."""
    return ["a" * 65535] * (kibibytes // 64)


@behaviour("process.exec.total-limit")
def test_length_of_all_arguments(ran: Callable[..., str], seen: Seen) -> None:
    """With a stack of 1 MiB arguments above a quarter of it give E2BIG."""
    found = [ran(TRUE, *words(size), prepare=with_stack(1 << 20)) for size in (192, 320)]
    assert seen(found) == ["no error", "E2BIG"]


@behaviour("process.exec.total-limit-ceiling")
def test_highest_length_of_all_arguments(ran: Callable[..., str], seen: Seen) -> None:
    """Arguments above 6 MiB give E2BIG, though the stack has no limit."""
    found = [ran(TRUE, *words(size << 10), prepare=with_stack(INFINITY)) for size in (5, 7)]
    assert seen(found) == ["no error", "E2BIG"]


@behaviour("process.exec.symlink-loop")
def test_loop_of_links(ran: Callable[..., str], tmp_path: Path, seen: Seen) -> None:
    """A path through a loop of symbolic links gives ELOOP."""
    for name, target in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(target)
    assert seen(ran(tmp_path / "a")) == "ELOOP"


@behaviour("process.exec.threads-destroyed")
def test_threads_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """execve by any thread ends the others, and the pid stays the leader's."""

    def become() -> None:
        tell = 'ls /proc/$$/task; echo "$$ $1 $2"'
        before = [str(os.getpid()), str(threading.get_native_id() == os.getpid())]
        execve("/bin/sh", ["sh", "-c", tell, "sh", *before])

    def start() -> None:
        thread = threading.Thread(target=become)
        thread.start()
        thread.join()

    tasks, told = output_of(start).splitlines()
    pid, before, was_leader = told.split()
    assert seen([tasks == pid == before, was_leader]) == [True, "False"]


@behaviour("process.exec.comm-reset")
def test_name_of_a_program(output_of: OutputOf, tmp_path: Path, seen: Seen) -> None:
    """The command name is the last part of the new file's path."""
    (tmp_path / "renamed").symlink_to("/bin/cat")

    def become() -> None:
        ANSWER.write_text("other")
        execve(tmp_path / "renamed", ["cat", str(ANSWER)])

    assert seen(output_of(become)) == "renamed\n"
