"""Socket activation: what libsystemd makes of what impl passes, and impl of what the protocol says."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.listenbuffer import GatedListener, WrongDescriptor
from kernelproof.impl.listenbuffer.inherit import SYSTEMD, inherit, listen_fds, read_pidfd_id, spawn_with_sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Listen


# libsystemd is in every guest's root, as a command's dependency: no machine of systemd's is needed for it.
pytestmark = pytest.mark.machine(profile="plain")


def libsystemd() -> ctypes.CDLL:
    """The reference implementation of sd_listen_fds(3)."""
    return ctypes.CDLL("libsystemd.so.0", use_errno=True)


def place(descriptors: list[int]) -> None:
    """Put descriptors at 3 and on, without close-on-exec, as a service manager leaves them; in a child."""
    copies = [os.dup(number) for number in descriptors]
    high = [os.dup2(number, 200 + position, inheritable=False) for position, number in enumerate(copies)]
    for position, number in enumerate(high):
        os.dup2(number, 3 + position, inheritable=True)


def count_with(variables: dict[str, str], count: Callable[[], int]) -> int:
    """Count with these variables in the environment, of the C library too."""
    for name in SYSTEMD:
        os.environ.pop(name, None)
    os.environ.update(variables)
    return count()


def is_close_on_exec(number: int) -> bool:
    """Whether a descriptor is close-on-exec, by /proc (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/self/fdinfo/{number}").read_text().splitlines()
    (flags,) = [line.split()[1] for line in lines if line.startswith("flags:")]
    return bool(int(flags, 8) & os.O_CLOEXEC)


REPORT = """
import ctypes, fcntl, json, os, socket, sys
library = ctypes.CDLL("libsystemd.so.0")
names = ctypes.POINTER(ctypes.c_char_p)()
count = library.sd_listen_fds_with_names(0, ctypes.byref(names))
found = []
for position in range(count):
    passed = socket.socket(fileno=3 + position)
    flags = fcntl.fcntl(3 + position, fcntl.F_GETFD)
    found.append([names[position].decode(), os.fsdecode(passed.getsockname()), bool(flags)])
    passed.detach()
with open(sys.argv[1], "w") as file:
    json.dump([count, found, os.environ["LISTEN_PID"] == str(os.getpid())], file)
"""


@behaviour("socket.activation.first-fd")
def test_passed_sockets_begin_at_three(tmp_path: Path, listening: Listen, seen: Seen) -> None:
    """libsystemd finds what `spawn_with_sockets` passes: at 3 and on, in order, as many as were given."""
    sockets: dict[str, GatedListener] = {name: listening(f"unix:@{name}") for name in ("one", "two", "three")}
    program = tmp_path / "report.py"
    program.write_text(REPORT)
    pid = spawn_with_sockets(["python3", str(program), str(tmp_path / "answer")], sockets)
    assert os.waitpid(pid, 0)[1] == 0
    expected = '[3, [["one", "\\u0000one", true], ["two", "\\u0000two", true], ["three", "\\u0000three", true]], true]'
    assert seen((tmp_path / "answer").read_text()) == expected


@behaviour("socket.activation.pid-must-match")
def test_another_processs_sockets(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """Without LISTEN_PID, and with another process's, 0 are passed and that is no error, for libsystemd and for us."""
    number = listening("unix:@pid").real_fileno()

    def count() -> list[list[int]]:
        place([number])
        environments = ({"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
                        {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})  # fmt: skip
        library = libsystemd()
        theirs = [count_with(given, lambda: int(library.sd_listen_fds(0))) for given in environments]
        return [theirs, [count_with(given, lambda: len(inherit())) for given in environments]]

    assert seen(in_child(count)) == [[0, 0, 1], [0, 0, 1]]


@behaviour("socket.activation.pidfdid")
def test_a_process_is_known_by_its_pidfd(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """With LISTEN_PIDFDID of this process the sockets are taken, with another number none are."""
    number = listening("unix:@pidfd").real_fileno()

    def count() -> list[int]:
        place([number])
        own = os.pidfd_open(os.getpid())
        inode = os.fstat(own).st_ino
        os.close(own)
        assert read_pidfd_id() == inode
        mine = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        numbers = (inode + 1, inode)
        return [count_with({**mine, "LISTEN_PIDFDID": str(one)}, lambda: len(inherit())) for one in numbers]

    assert seen(in_child(count)) == [0, 1]


@behaviour("socket.activation.cloexec")
def test_what_is_taken_over_is_close_on_exec(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """Each of the descriptors is close-on-exec after `inherit`, and was not before."""
    number = listening("unix:@cloexec").real_fileno()

    def take() -> list[bool]:
        place([number, number])
        before = [os.get_inheritable(3 + position) for position in range(2)]
        count_with({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}, lambda: len(inherit()))
        return before + [is_close_on_exec(3 + position) for position in range(2)]

    assert seen(in_child(take)) == [True, True, True, True]


@behaviour("socket.activation.unset-environment")
def test_the_variables_are_taken_away(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """All four variables are gone after `inherit`, also after one that failed, and a second one finds none."""
    number = listening("unix:@unset").real_fileno()

    def take() -> list[object]:
        place([number])
        mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": str(read_pidfd_id() or 1)}
        answers: list[object] = [count_with({"LISTEN_FDS": "1", **mine}, listen_fds), listen_fds()]
        with pytest.raises(WrongDescriptor):
            count_with({"LISTEN_FDS": "many", **mine}, listen_fds)
        library = libsystemd()
        answers += [[name for name in SYSTEMD if name in os.environ], int(library.sd_listen_fds(1))]
        return answers

    assert seen(in_child(take)) == [1, 0, [], 0]


@behaviour("socket.activation.names")
def test_sockets_have_names(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """Names are divided by colons and may repeat; a descriptor without one is `unknown`."""
    number = listening("unix:@names").real_fileno()

    def take() -> list[list[str]]:
        place([number] * 3)
        answers = []
        for names in ({"LISTEN_FDNAMES": "web:web:admin"}, {}):
            for name in SYSTEMD:
                os.environ.pop(name, None)
            os.environ.update({"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid()), **names})
            answers.append([found.name for found in inherit()])
        return answers

    assert seen(in_child(take)) == [["web", "web", "admin"], ["unknown"] * 3]


@behaviour("socket.activation.shared-options")
def test_options_are_shared(tcp: GatedListener, in_child: InChild, seen: Seen) -> None:
    """An option that a child sets on the socket that it inherited is seen through the listener that this one kept."""
    before = tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    def set_option() -> None:
        place([tcp.real_fileno()])
        os.environ.update({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
        (found,) = inherit()
        with found.socket() as passed:
            passed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    in_child(set_option)
    assert seen([before, tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]) == [0, 1]
