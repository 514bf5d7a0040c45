"""Processes that are forked from a linked one: what they are given, what becomes of them and of it."""

from __future__ import annotations

import os
import platform
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.vm.first_steps import choose_number
from kernelproof.vm.linked import Linked, NotLinked
from kernelproof.vm.process import Spawner
from kernelproof.vm.tracee import Tracee, TraceeEnded

ENVIRONMENT = {"A": "b c"}


@pytest.fixture(scope="module", autouse=True)
def can_link() -> None:
    """A host that can do without says why; then nothing here can be asked of it."""
    try:
        Linked.start("/bin/cat", ENVIRONMENT).close()
    except NotLinked as error:
        pytest.skip(str(error))


@pytest.fixture
def cat() -> Iterator[Linked]:
    made = Linked.start("/bin/cat", ENVIRONMENT)
    yield made
    made.close()


@pytest.fixture
def python() -> Iterator[Linked]:
    made = Linked.start(os.path.realpath(sys.executable), {**ENVIRONMENT, "PYTHONHOME": sys.base_prefix})
    yield made
    made.close()


def run(program: Linked, tmp_path: Path, *command: str, descriptors: tuple[int, ...] = ()) -> tuple[int, str]:
    """Status and output of one process."""
    with (tmp_path / "said").open("w+b") as said:
        pid = program.spawn(command, descriptors, said.fileno())
        _, status = os.waitpid(pid, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode("utf-8", "surrogateescape")


def test_environment_is_the_program_s(cat: Linked, tmp_path: Path) -> None:
    """What the linked process was started with, and nothing of ours or of the shell's."""
    assert run(cat, tmp_path, "cat", "/proc/self/environ") == (0, "A=b c\0")


def test_arguments(python: Linked, tmp_path: Path) -> None:
    """Each process has its own, also empty ones, long ones and bytes that are no text."""
    code = "import os, sys; print([os.fsencode(word) for word in sys.argv[1:]], end='')"
    for words in ([], ["", "b c"], ["\udcff", "x" * 30_000]):
        expected = repr([os.fsencode(word) for word in words])
        assert run(python, tmp_path, "python", "-I", "-S", "-c", code, *words) == (0, expected)


def test_descriptors(python: Linked, tmp_path: Path) -> None:
    """Those that are given, under their numbers, with stdin, stdout and stderr; no other is open."""
    code = """
import os
for name in os.listdir("/proc/self/fd"):
    try:
        kind = os.readlink(f"/proc/self/fd/{name}").split(":")[0]
    except FileNotFoundError:
        continue  # of the listing itself
    print(name, os.read(int(name), 9).decode() if kind == "pipe" else kind)
"""
    pipes = [os.pipe() for _ in range(2)]
    try:
        for place, (_, writing) in enumerate(pipes):
            os.write(writing, b"%d" % place)
        given = (pipes[1][0], pipes[0][0])
        status, text = run(python, tmp_path, "python", "-I", "-S", "-c", code, descriptors=given)
        said = str(tmp_path / "said")
        expected = {"0": "/dev/null", "1": said, "2": said, str(given[0]): "1", str(given[1]): "0"}
        assert (status, dict(line.split(" ") for line in text.splitlines())) == (0, expected)
    finally:
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)


def test_stands_alone(python: Linked, tmp_path: Path) -> None:
    """Its parent is us, its session its own, no signal is blocked, it is to be killed with us, and nobody traces it.

    Its table of descriptors has room: a program with threads would wait for the kernel to make it larger.
    """
    code = """
import ctypes, os, re
death = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death))
status = re.findall("^(?:TracerPid|FDSize|SigBlk):\\t(.*)", open("/proc/self/status").read(), re.M)
print(os.getppid(), os.getsid(0) == os.getpid(), death.value, *status)
"""
    status, text = run(python, tmp_path, "python", "-I", "-S", "-c", code)
    assert (status, text.split()) == (0, [str(os.getpid()), "True", "9", "0", "256", "0" * 16])


def test_program_is_as_it_was(cat: Linked, tmp_path: Path) -> None:
    """Nothing is left of what the entry point was stopped with: its code is the file's."""
    (tmp_path / "in").write_text("unchanged", encoding="ascii")
    assert run(cat, tmp_path, "cat", str(tmp_path / "in")) == (0, "unchanged")
    tracee = cat._tracee
    entry = cat._first["rip"]
    there = tracee.read(entry, 64)
    program = Path(os.path.realpath("/bin/cat")).read_bytes()
    assert program.count(there) == 1


def test_many_at_once(python: Linked, tmp_path: Path) -> None:
    """Each has what was sent for it, however slowly the one before comes to take it."""
    files = [(tmp_path / str(number)).open("w+b") for number in range(30)]
    pids = [
        python.spawn(("python", "-I", "-S", "-c", f"print({place})"), (), file.fileno())
        for place, file in enumerate(files)
    ]
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    for place, file in enumerate(files):
        with file:
            file.seek(0)
            assert file.read() == b"%d\n" % place


def test_nothing_is_left(tmp_path: Path) -> None:
    """When it is closed its process is gone and reaped; what was forked from it goes on."""
    before = os.listdir("/proc/self/fd")
    made = Linked.start("/bin/cat", ENVIRONMENT)
    reading, writing = os.pipe()
    with open(os.devnull, "wb") as nothing:
        pid = made.spawn(("cat", f"/proc/{os.getpid()}/fd/{reading}"), (), nothing.fileno())
    linked_pid = made._tracee.pid
    made.close()
    made.close()
    assert not Path(f"/proc/{linked_pid}").exists()
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reading)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/absent/program", "No such file"),
        (os.fspath(Path(__file__)), "not a program for x86-64"),
        ("/proc/self/environ", "not a program for x86-64"),
    ],
)
def test_what_can_not_be_linked(program: str, reason: str) -> None:
    """What is no ELF program says so; a script's interpreter would be stopped in its place."""
    with pytest.raises(NotLinked, match=reason):
        Linked.start(program, ENVIRONMENT)


def test_program_that_can_not_be_run(tmp_path: Path) -> None:
    """A damaged program ends before its first instruction."""
    damaged = tmp_path / "damaged"
    damaged.write_bytes(Path("/bin/cat").read_bytes()[:64])
    damaged.chmod(0o755)
    with pytest.raises(NotLinked, match=r"can't be run|ended before"):
        Linked.start(str(damaged), ENVIRONMENT)


def test_other_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is x86-64's."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(NotLinked, match="aarch64: only x86-64"):
        Linked.start("/bin/cat", ENVIRONMENT)


def test_host_that_forbids_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then processes are started as ever, with the same descriptors and environment, and no trace of the attempt."""

    def refuse(pid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Tracee, "attach", staticmethod(refuse))
    children = Path("/proc/thread-self/children")
    before = children.read_text()
    with pytest.raises(NotLinked, match="Operation not permitted"):
        Linked.start("/bin/cat", ENVIRONMENT)
    assert children.read_text() == before
    with (tmp_path / "said").open("w+b") as said:
        command = ("/bin/cat", "/proc/self/environ")
        child = Spawner().spawn(command, descriptors=(), errors=said.fileno(), environment=ENVIRONMENT)
        assert select.select([child.pidfd], [], [], 30)[0]
        assert child.close().status == 0
        said.seek(0)
        assert said.read() == b"A=b c\0"


def test_linked_process_that_was_killed(cat: Linked) -> None:
    """The next fork says so; a spawner starts another, and its caller notices nothing."""
    os.kill(cat._tracee.pid, signal.SIGKILL)
    with pytest.raises((TraceeEnded, OSError)), open(os.devnull, "wb") as nothing:
        cat.spawn(("cat",), (), nothing.fileno())
    spawner, made = Spawner(), []
    start = Linked.start

    def remember(executable: str, environment: dict[str, str]) -> Linked:
        made.append(start(executable, environment))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch, open(os.devnull, "wb") as nothing:
        patch.setattr(Linked, "start", remember)
        for _ in range(2):
            command = ("/bin/cat", "/dev/null")
            child = spawner.spawn(command, descriptors=(), errors=nothing.fileno(), environment=ENVIRONMENT)
            assert select.select([child.pidfd], [], [], 30)[0]
            assert child.close().status == 0
            os.kill(made[-1]._tracee.pid, signal.SIGKILL)
    assert len(made) == 2


def test_no_more_processes(tmp_path: Path) -> None:
    """What clone(2) says is what the caller gets, and what was sent for that process goes to no other."""
    code = f"""
import os, resource, sys
sys.path[:0] = {sys.path!r}
from kernelproof.vm.linked import Linked
os.setgid(65534)
os.setuid(65534)
made = Linked.start("/bin/cat", {{}})
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
resource.prlimit(made._tracee.pid, resource.RLIMIT_NPROC, (0, 0))
out = os.open(os.devnull, os.O_WRONLY)
try:
    made.spawn(("cat", "/dev/null"), (), out)
except BlockingIOError as error:
    print(error.strerror, made.closed)
"""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user of whom no other process counts")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert (done.stdout, done.stderr) == ("Resource temporarily unavailable True\n", "")


def test_few_descriptors(cat: Linked, tmp_path: Path) -> None:
    """A user who may open few has no room in the table, and machines all the same."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    resource.prlimit(cat._tracee.pid, resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        assert run(cat, tmp_path, "cat", "/proc/self/environ") == (0, "A=b c\0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_number_for_errors() -> None:
    """Above all others and as high as the table is to be, or where that is not allowed just above all others."""
    assert [choose_number((), limit) for limit in (256, 255)] == [255, 3]
    assert choose_number((7, 300), 1024) == 301
    assert choose_number((9,), 100) == 10


def test_no_descriptor_is_left(cat: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that can't be waited for is killed and reaped, and the error is the first one."""

    def refuse(pid: int) -> int:
        seen.append(pid)
        raise OSError(24, "Too many open files")

    seen: list[int] = []
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with open(os.devnull, "wb") as nothing, pytest.raises(OSError, match="Too many open files"):
        cat.spawn(("cat", "/dev/zero"), (), nothing.fileno())
    assert not Path(f"/proc/{seen[0]}").exists()
    assert cat.closed


def test_killed_with_its_starter() -> None:
    """SIGKILL of the starter ends the linked process and all that were forked from it."""
    code = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from kernelproof.vm.process import Spawner
spawner = Spawner()
out = os.open(os.devnull, os.O_WRONLY)
children = [
    spawner.spawn(("/bin/sleep", "1000"), descriptors=(), errors=out, environment={{}}) for _ in range(3)
]
for task in os.listdir("/proc/self/task"):
    print(*open(f"/proc/self/task/{{task}}/children").read().split(), flush=True)
print("end", flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = {int(word) for line in iter(starter.stdout.readline, "end\n") for word in line.split()}
        assert len(pids) == 4  # three, and the linked one
        ends = [os.pidfd_open(pid) for pid in pids]
        starter.kill()
        for end in ends:
            assert select.select([end], [], [], 30)[0]
            os.close(end)
