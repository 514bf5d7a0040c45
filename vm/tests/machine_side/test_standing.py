"""Forks of a process with threads that stands still: a Python whose threads wait for messages."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.vm import standing as module
from kernelproof.vm.linked import Linked, NotLinked
from kernelproof.vm.process import Child, Spawner
from kernelproof.vm.standing import NotStanding, Standing, find_numbers, identify

# Three threads: the first reads a socket and asks the second through an eventfd, the third waits for a lock.
CODE = """
import os, socket, sys, threading
link = socket.socket(fileno=int(sys.argv[1]))
event, answer, never = os.eventfd(0), os.eventfd(0), threading.Lock()
numbers = []

def count():
    while True:
        numbers.append(os.eventfd_read(event))
        os.eventfd_write(answer, 1)

def wait():
    never.acquire()
    numbers.append("never")
    os.eventfd_write(answer, 1)

never.acquire()
for function in (count, wait):
    threading.Thread(target=function, daemon=True).start()
link.send(b"ready")
while word := link.recv(100):
    if word == b"release":
        never.release()
    else:
        os.eventfd_write(event, int(word))
    os.eventfd_read(answer)
    own = {thread.native_id for thread in threading.enumerate()}
    tasks = len(os.listdir("/proc/self/task"))
    link.send(repr((numbers, tasks, os.getppid(), os.getsid(0) == os.getpid())).encode())
    print("said", flush=True)
"""

# Says itself that it computes, once the first thread receives (recvfrom(2) is 45): before, the two wait for each other.
COMPUTE = """while not open("/proc/self/syscall").read().startswith("45 "): pass
    link.send(b"ready")
    while True: pass
    """


@pytest.fixture(scope="module", autouse=True)
def can_stand() -> None:
    """A host that does without says why; then nothing here can be asked of it."""
    try:
        Linked.start("/bin/cat", {}).close()
    except NotLinked as error:
        pytest.skip(str(error))


class Forks:
    """A process that stands, and what it is asked through."""

    def __init__(self, code: str = CODE) -> None:
        self.spawner = Spawner()
        ours, theirs = socket.socketpair()
        sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, receiving, ours, open(os.devnull, "wb") as nothing:
            command = (os.path.realpath(sys.executable), "-I", "-S", "-c", code, str(theirs.fileno()))
            files = [identify(os.fstat(each.fileno())) for each in (theirs, receiving)]
            descriptors = (theirs.fileno(), receiving.fileno())
            environment = {"PYTHONHOME": sys.base_prefix}
            child = self.spawner.spawn(
                command, descriptors=descriptors, errors=nothing.fileno(), environment=environment
            )
            assert ours.recv(100) == b"ready"
            found = find_numbers(child.pid)
            self.pid = child.pid
            self.before = os.listdir(f"/proc/{child.pid}/task")
            link, spare = (found[file] for file in files)
            self.standing = self.spawner.stand(child, sending, spare[0], [link, [1, 2]])

    def fork(self, said: int) -> tuple[Child, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                return self.spawner.fork(self.standing, (theirs.fileno(), said)), ours
            except BaseException:
                ours.close()
                raise


@pytest.fixture
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.standing.close()


def test_each_goes_on_for_itself(forks: Forks, tmp_path: Path) -> None:
    """Each has the memory, the threads, event counters and output of its own; what one does another does not see."""
    with (tmp_path / "a").open("w+b") as a, (tmp_path / "b").open("w+b") as b:
        made = [forks.fork(file.fileno()) for file in (a, b)]
        rest = (3, os.getpid(), True)
        for (_, link), number in zip(made, (5, 7), strict=True):
            link.send(str(number).encode())
            assert link.recv(100) == repr(([number], *rest)).encode()
        first = made[0][1]
        first.send(b"6")
        assert first.recv(100) == repr(([5, 6], *rest)).encode()
        first.send(b"release")  # the thread that waits for a lock is awake, and ends
        assert first.recv(100).startswith(b"([5, 6, 'never'], ")
        for child, link in made:
            link.close()
            assert select.select([child.pidfd], [], [], 30)[0]
            assert child.close().status == 0
        a.seek(0)
        b.seek(0)
        assert (a.read(), b.read()) == (b"said\nsaid\nsaid\n", b"said\n")


def test_many(forks: Forks) -> None:
    """Forty one after the other, and their descriptors are gone after."""
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull, "wb") as nothing:
        for number in range(1, 41):
            child, link = forks.fork(nothing.fileno())
            with link:
                link.send(b"%d" % number)
                assert link.recv(100).startswith(b"([%d], 3, " % number)
            child.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_is_killed_and_reaped(forks: Forks) -> None:
    """Closed, it is gone with all of its threads; what was forked from it goes on."""
    with open(os.devnull, "wb") as nothing:
        child, link = forks.fork(nothing.fileno())
    tasks = os.listdir(f"/proc/{forks.pid}/task")
    assert tasks == forks.before
    forks.standing.close()
    forks.standing.close()
    assert not any(Path(f"/proc/{task}").exists() for task in tasks)
    with link:
        link.send(b"1")
        assert link.recv(100).startswith(b"([1], 3, ")
    child.close()


def test_is_forgotten() -> None:
    """Whoever forgets one leaves nothing behind, also as the thread that traces it is forgotten in that moment."""
    for _ in range(20):
        made = Forks()
        pid = made.pid
        assert Path(f"/proc/{pid}").exists()
        del made
        assert not Path(f"/proc/{pid}").exists()


def test_that_was_killed(forks: Forks) -> None:
    """The next fork says so."""
    os.kill(forks.pid, signal.SIGKILL)
    with open(os.devnull, "wb") as nothing, pytest.raises(NotStanding, match=r"is gone|did not take"):
        forks.fork(nothing.fileno())
    assert forks.standing.closed
    assert not Path(f"/proc/{forks.pid}").exists()


def user_ticks(pid: int) -> int:
    """How long it has computed outside of system calls: proc_pid_stat(5), field 14."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_thread_that_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What computes has registers that a copy would lack: then there is none, and nothing is left."""
    monkeypatch.setattr(module, "_TRIES", 20)
    code = CODE.replace('link.send(b"ready")\n', "").replace("never.acquire()\n    numbers", f"{COMPUTE}numbers")
    made: list[int] = []
    stop = Standing.stop

    def remember(pid: int, *rest: object) -> Standing:
        made.append(pid)
        computed = 2 + user_ticks(pid)
        while user_ticks(pid) < computed:
            pass
        return stop(pid, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Standing, "stop", remember)
    with pytest.raises(NotStanding, match="does not come to rest"):
        Forks(code)
    assert not Path(f"/proc/{made[0]}").exists()


WATCH = CODE.replace("numbers = []", "import select; watching = select.epoll(); numbers = []")


def test_descriptor_that_would_be_shared() -> None:
    """An epoll(7) that watches others would tell forks of each other's events: there is none then."""
    code = WATCH.replace("link.send(b", "watching.register(link); link.send(b", 1)
    with pytest.raises(NotStanding, match="an epoll that watches others, would be shared by all forks"):
        Forks(code)


def test_descriptor_of_another_kind() -> None:
    """What a fork can't have anew is not shared either."""
    code = CODE.replace("numbers = []", "import ctypes; ctypes.CDLL(None).inotify_init1(0); numbers = []")
    with pytest.raises(NotStanding, match=r"inotify.*, would be shared"):
        Forks(code)


def test_each_watches_for_itself() -> None:
    """An epoll(7) that watches nothing yet is each fork's own."""
    forks = Forks(WATCH.replace("eventfd_read(event))", "eventfd_read(event)); watching.register(event)", 1))
    try:
        with open(os.devnull, "wb") as nothing:
            made = [forks.fork(nothing.fileno()) for _ in range(2)]
        made[0][1].send(b"5")
        assert made[0][1].recv(100).startswith(b"([5], ")
        assert [watched(child.pid) for child, _ in made] == [1, 0]
        for child, link in made:
            child.kill()
            link.close()
    finally:
        forks.standing.close()


def watched(pid: int) -> int:
    """How many descriptors the one epoll of a process watches."""
    (number,) = [name for name in os.listdir(f"/proc/{pid}/fd") if "eventpoll" in os.readlink(f"/proc/{pid}/fd/{name}")]
    return Path(f"/proc/{pid}/fdinfo/{number}").read_text().count("tfd:")


def test_memory_that_can_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is none, and the process that was given up for it is gone."""
    made: list[int] = []
    opened = os.open

    def refuse(path: str, *rest: object, **more: object) -> int:
        if made and str(path) == f"/proc/{made[0]}/mem":
            raise OSError(24, "Too many open files")
        return opened(path, *rest, **more)  # type: ignore[arg-type]

    give_up = Child.give_up

    def remember(child: Child) -> None:
        made.append(child.pid)
        give_up(child)

    monkeypatch.setattr(Child, "give_up", remember)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotStanding, match="Too many open files"):
        Forks()
    assert not Path(f"/proc/{made[0]}").exists()


def test_files_are_told_by_their_devices_too(tmp_path: Path) -> None:
    """An inode's number alone may be another file's."""
    first, second = os.memfd_create("a"), os.memfd_create("b")
    try:
        found = find_numbers(os.getpid())
        assert found[identify(os.fstat(first))] == [first]
        assert found[identify(os.fstat(second))] == [second]
        assert identify(os.fstat(first))[0] != identify(tmp_path.stat())[0]
    finally:
        os.close(first)
        os.close(second)
