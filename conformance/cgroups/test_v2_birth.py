"""Version 2: processes that are born in a cgroup by CLONE_INTO_CGROUP; acted on by clone3(2) and impl.cgroups."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import end_by_kill
from kernelproof.impl._syscalls.credentials import setresgid, setresuid
from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3
from kernelproof.impl.cgroups import enabling, freezing
from kernelproof.impl.cgroups.birth import spawn
from kernelproof.impl.cgroups.errors import NoControllerError

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import CgroupOf, Make, MakeV1
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

WAITS = ("/bin/sh", "-c", "read line")
NOT_SUPPORTED = "ENOTSUP"  # Python's first name for EOPNOTSUPP, which is the same number on Linux (errno(3))


def bear(fd: int) -> int:
    """A child that only waits, born in the cgroup of a descriptor."""
    born = clone3(CloneFlag.INTO_CGROUP, cgroup_fd=fd)
    if born.pid == 0:
        try:
            while True:
                signal.pause()
        finally:
            os._exit(1)
    return born.pid


@behaviour("cgroup-v2.clone3.into-cgroup", subject="impl")
def test_birth_in_a_cgroup(make: Make, cgroup_of: CgroupOf) -> None:
    """The child is in the cgroup of the descriptor, one of O_PATH too; a program that is started by spawn as well."""
    directory = make("cradle")
    path_fd = os.open(directory.path, os.O_PATH | os.O_CLOEXEC)
    pids = [bear(directory.fileno()), bear(path_fd)]
    born = spawn(directory, ("/bin/sh", "-c", "kill -STOP $$"), {})
    os.waitpid(born.pid, os.WUNTRACED)
    places = [cgroup_of(pid) for pid in (*pids, born.pid)]
    name = Path(f"/proc/{born.pid}/comm").read_text()
    for pid in (*pids, born.pid):
        end_by_kill(pid)
    for fd in (born.pidfd, path_fd):
        os.close(fd)
    assert places == ["/cradle"] * 3
    assert name == "sh\n"


@behaviour("cgroup-v2.clone3.after-kill", subject="impl")
def test_birth_after_a_kill(make: Make, seen: Seen) -> None:
    """Before and after cgroup.kill of the empty cgroup a child is born that ends by itself, not by SIGKILL."""
    directory = make("again")

    def live() -> int:
        born = clone3(CloneFlag.INTO_CGROUP, cgroup_fd=directory.fileno())
        if born.pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(born.pid, 0)[1])

    assert live() == 7
    directory.write("cgroup.kill", "1")
    assert seen(live()) == 7


@behaviour("cgroup-v2.clone3.domain-controller-ebusy", subject="impl")
def test_no_birth_into_who_gives_on(make: Make, seen: Seen) -> None:
    """A cgroup that gives memory on takes no child; spawn says what helps."""
    giver = make("giver", "memory")
    enabling.enable(giver, ["memory"])
    assert seen.errno_of(bear, giver.fileno()) == "EBUSY"
    with pytest.raises(OSError, match="busy") as refused:
        spawn(giver, WAITS)
    assert any("use one below it" in note for note in refused.value.__notes__)


@behaviour("cgroup-v2.clone3.invalid-domain-eopnotsupp", subject="impl")
def test_no_birth_into_an_invalid_domain(make: Make, seen: Seen) -> None:
    """What is beside a threaded cgroup takes no child."""
    sibling = make("parent/sibling")
    make("parent/child").write("cgroup.type", "threaded")
    assert seen.errno_of(bear, sibling.fileno()) == NOT_SUPPORTED
    with pytest.raises(OSError, match="not supported") as refused:
        spawn(sibling, WAITS)
    assert any("invalid domain" in note for note in refused.value.__notes__)


@behaviour("cgroup-v2.clone3.no-permission-eacces", subject="impl")
def test_no_birth_without_permission(make: Make, in_child: InChild, seen: Seen) -> None:
    """Who may not write cgroup.procs makes no child there."""
    directory = make("theirs")

    def as_nobody() -> list[str]:
        setresgid(65534, 65534, 65534)
        setresuid(65534, 65534, 65534)
        refused = seen.errno_of(spawn, directory, WAITS)
        return [seen.errno_of(bear, directory.fileno()), refused]

    assert seen(in_child(as_nobody)) == ["EACCES", "EACCES"]


@behaviour("cgroup-v2.clone3.not-a-cgroup-ebadf", subject="impl")
def test_no_birth_elsewhere(make_v1: MakeV1, seen: Seen) -> None:
    """A directory that is none of version 2 is refused: of another filesystem, and of version 1."""
    old = make_v1("old")
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    answers = [seen.errno_of(bear, number) for number in (fd, old.fileno())]
    os.close(fd)
    assert seen(answers) == ["EBADF", "EBADF"]
    with pytest.raises(NoControllerError):
        spawn(old, WAITS)


@behaviour("cgroup-v2.freeze.clone-into-frozen", subject="impl")
def test_birth_into_the_cold(unified: Path, make: Make) -> None:
    """A child born in a frozen cgroup does not run: it is frozen from the beginning."""
    directory = make("cold")
    freezing.freeze(directory)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    born = clone3(CloneFlag.INTO_CGROUP, cgroup_fd=directory.fileno())
    if born.pid == 0:
        os.write(writer, b"x")
        os._exit(0)
    freezing.freeze(directory)  # waits until all of it is
    assert "frozen 1" in (unified / "cold/cgroup.events").read_text()
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    freezing.thaw(directory)
    os.waitpid(born.pid, 0)
    assert os.read(reader, 1) == b"x"


@behaviour("cgroup-v2.pids.clone-into-full", subject="impl")
def test_no_birth_into_what_is_full(make: Make, seen: Seen) -> None:
    """A cgroup at its pids.max takes no child; spawn names the limit."""
    full = make("full", "pids")
    full.write("pids.max", "0")
    assert seen.errno_of(bear, full.fileno()) == "EAGAIN"
    with pytest.raises(BlockingIOError) as refused:
        spawn(full, WAITS)
    assert any("pids.max" in note for note in refused.value.__notes__)
