"""Sockets from others: taken with care, passed on in the same way, and what the service manager is told."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from kernelproof.impl.listenbuffer import InvalidAddress, WrongDescriptor, listen, messages
from kernelproof.impl.listenbuffer.inherit import (
    Inherited,
    inherit,
    placed,
    read_pidfd_id,
    spawn_with_sockets,
)
from kernelproof.impl.listenbuffer.notify import notify, sd_booted, sd_notify

Inherit = Callable[[dict[str, str]], object]

# --- L5 ---------------------------------------------------------------------------------------------------------------


def count_and_trust(environment: dict[str, str]) -> int:
    """LISTEN_FDS, and nothing else looked at."""
    return int(environment.get("LISTEN_FDS", "0"))


def take_ours(environment: dict[str, str]) -> int:
    """Ours."""
    return len(inherit(environment=environment))


@pytest.mark.rule("L5", ours=take_ours, wrong=count_and_trust)
@pytest.mark.parametrize("variables", [
    {"LISTEN_PID": "1"}, {}, {"LISTEN_PID": "x"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_PIDFDID": "12345"},
])  # fmt: skip
def test_another_processs_sockets_are_not_ours(subject: Inherit, variables: dict[str, str]) -> None:
    """Without our number, or with another one, or with another pidfd's, no sockets were passed, which is no error."""
    if "LISTEN_PIDFDID" in variables and read_pidfd_id() is None:
        pytest.skip("this kernel has no pidfs")
    assert subject({"LISTEN_FDS": "2", **variables}) == 0


RECEIVER = """
import fcntl, json, os, sys
from kernelproof.impl.listenbuffer.inherit import inherit
found = inherit()
left = sorted(name for name in os.environ if name.startswith("LISTEN_"))
flags = [fcntl.fcntl(one.descriptor, fcntl.F_GETFD) for one in found]
print(json.dumps([[one.name, one.descriptor, one.listening, str(one.address), one.source] for one in found]))
print(json.dumps([flags, left, len(inherit())]))
"""


def run_receiver(sockets: Mapping[str, socket.socket], program: str = RECEIVER) -> list[str]:
    """Start the receiver with sockets, in systemd's way; return its lines."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    moved = f"import os; os.dup2({write_end}, 1)\n"
    pid = spawn_with_sockets([sys.executable, "-c", moved + program], sockets)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as output:
        lines = output.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return lines


@pytest.mark.rule("L5")
@pytest.mark.rule("L10")
def test_sockets_passed_and_taken(tmp_path: Path) -> None:
    """Spawned with sockets, a program finds them from 3 on, in order and named, once, close-on-exec, variables gone."""
    with (
        listen("tcp://127.0.0.1:0") as web,
        listen(f"unix:{tmp_path}/c.sock") as control,
        listen("udp://127.0.0.1:0") as log,
    ):
        lines = run_receiver({"web": web, "control": control, "log": log})
        assert lines[0] == (
            f'[["web", 3, true, "{web.address}", "systemd"], ["control", 4, true, "unix:{tmp_path}/c.sock", "systemd"],'
            f' ["log", 5, false, "{log.address}", "systemd"]]'
        )
        assert lines[1] == "[[1, 1, 1], [], 0]"


def test_the_environment_of_systemd() -> None:
    """Names are filled up with unknown, a count out of bounds and a promised descriptor that is not open are errors."""
    own = str(os.getpid())
    saved = [os.dup(number) if is_open(number) else None for number in (3, 4)]
    try:
        with socket.socket() as one, socket.socket(socket.AF_UNIX) as other:
            placing = [one.fileno(), other.fileno()]
            with placed(placing) as actions:
                for _, copy, target in actions:
                    os.dup2(copy, target)
        environment = {"LISTEN_FDS": "2", "LISTEN_PID": own, "LISTEN_FDNAMES": "web", "OTHER": "x"}
        found = inherit(environment=environment)
        assert [(one.name, one.family) for one in found] == [("web", socket.AF_INET), ("unknown", socket.AF_UNIX)]
        assert environment == {"OTHER": "x"}
        assert all(fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for number in (3, 4))
        kept = {"LISTEN_FDS": "1", "LISTEN_PID": own}
        assert inherit(environment=kept, unset=False)[0].name == "unknown"
        assert kept == {"LISTEN_FDS": "1", "LISTEN_PID": own}
        for count in ("65", "-1", "x", "9" * 30):
            environment = {"LISTEN_FDS": count, "LISTEN_PID": own}
            with pytest.raises(WrongDescriptor, match="LISTEN_FDS"):
                inherit(environment=environment)
            assert environment == {}
        os.close(4)
        with pytest.raises(WrongDescriptor, match="promised and is not open"):
            inherit(environment={"LISTEN_FDS": "2", "LISTEN_PID": own})
    finally:
        for number, kept_copy in zip((3, 4), saved, strict=True):
            if kept_copy is not None:
                os.dup2(kept_copy, number)
                os.close(kept_copy)
            elif is_open(number):
                os.close(number)


WITH_FIFO = """
import os, sys
from kernelproof.impl.listenbuffer import WrongDescriptor
from kernelproof.impl.listenbuffer.inherit import inherit, listen_fds
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3"}
try:
    print(listen_fds(unset=False), [os.get_inheritable(number) for number in (3, 4, 5)])
    print(inherit(names={"web": 4}, environment={})[0].listening, listen_fds(), listen_fds())
except WrongDescriptor as error:
    print(error, [os.get_inheritable(number) for number in (4, 5)])
"""


@pytest.mark.rule("L5")
@pytest.mark.parametrize("is_given", [True, False])
def test_a_unit_with_a_fifo(tmp_path: Path, is_given: bool) -> None:
    """Descriptors of all kinds are counted; that one is not open leaves none of the others to be inherited."""
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    with socket.create_server(("127.0.0.1", 0)) as web:
        placing = [fifo, web.fileno(), web.fileno()]
        reading, writing = os.pipe()
        with placed(placing) as actions:
            there: list[tuple[int, ...]] = [*actions, (os.POSIX_SPAWN_DUP2, writing, 1)]
            if not is_given:
                there.append((os.POSIX_SPAWN_CLOSE, 3))
            pid = os.posix_spawn(sys.executable, [sys.executable, "-c", WITH_FIFO], os.environ, file_actions=there)
    os.close(writing)
    os.close(fifo)
    with open(reading) as output:
        said = output.read().splitlines()
    os.waitpid(pid, 0)
    if is_given:
        assert said == ["3 [False, False, False]", "True 3 0"]
    else:
        assert said == ["descriptor 3: Bad file descriptor; it was promised and is not open [False, False]"]


def is_open(number: int) -> bool:
    """Whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# --- L6 ---------------------------------------------------------------------------------------------------------------


def assume_unix(names: dict[str, int]) -> list[tuple[int, int]]:
    """What servers did with an inherited descriptor: it will be a unix stream."""
    return [(socket.AF_UNIX, socket.SOCK_STREAM) for _ in names]


def look(names: dict[str, int]) -> list[tuple[int, int]]:
    """Ours."""
    return [(one.family, one.type) for one in inherit(names=names, environment={})]


@pytest.mark.rule("L6", ours=look, wrong=assume_unix)
def test_family_and_type_are_read(subject: Callable[[dict[str, int]], list[tuple[int, int]]]) -> None:
    """An inherited socket is what it is: IPv4 stream, IPv6 datagrams, unix packets."""
    kinds = [
        (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ]  # fmt: skip
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(*kind)) for kind in kinds]
        assert subject({f"n{one.fileno()}": one.fileno() for one in sockets}) == kinds


@pytest.mark.rule("L6")
def test_what_is_not_wanted_is_refused(tmp_path: Path) -> None:
    """A file, a closed number, another family, type or state are refused with what was found."""
    with open(tmp_path / "file", "w") as file, pytest.raises(WrongDescriptor, match="is no socket"):
        inherit(names={"x": file.fileno()}, environment={})
    with pytest.raises(WrongDescriptor, match="not open"):
        inherit(names={"x": 9999}, environment={})
    with socket.socket() as plain:
        (found,) = inherit(names={"x": plain.fileno()}, environment={})
        assert found.check(family=socket.AF_INET, type=socket.SOCK_STREAM, listening=False) is found
        for wanted in ({"family": socket.AF_UNIX}, {"type": socket.SOCK_DGRAM}, {"listening": True}):
            with pytest.raises(WrongDescriptor, match=next(iter(wanted))):
                found.check(**wanted)


@pytest.mark.rule("L6")
def test_listen_is_not_called_again() -> None:
    """An inherited listener keeps the backlog that its maker gave it, and is put behind a gate."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(7)
    (found,) = inherit(names={"web": bound.detach()}, environment={})
    with found.listener() as listener:
        assert listener.effective_backlog == 7
        assert not listener.gate.is_open
        assert listener.address.protocol == "tcp"


# --- L10 --------------------------------------------------------------------------------------------------------------


def place_in_order(descriptors: list[int]) -> list[int]:
    """dup2 one after the other: a target may be another one's source."""
    for position, descriptor in enumerate(descriptors):
        os.dup2(descriptor, 3 + position)
    return [3 + position for position in range(len(descriptors))]


def place_ours(descriptors: list[int]) -> list[int]:
    """Ours."""
    with placed(descriptors) as actions:
        for _, copy, target in actions:
            os.dup2(copy, target)
    return [3 + position for position in range(len(descriptors))]


PLACING = """
import os, sys
sys.path[:0] = [sys.argv[1]]
import importlib.util
spec = importlib.util.spec_from_file_location("subject", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for number in (3, 4, 5):
    os.dup2(os.open(f"{sys.argv[4]}/{number}", os.O_RDWR | os.O_CREAT), number)
placed = getattr(module, sys.argv[3])([5, 3, 4])
print([os.readlink(f"/proc/self/fd/{number}")[-1] for number in placed])
"""


@pytest.mark.rule("L10", ours=place_ours, wrong=place_in_order)
def test_descriptors_that_cross(tmp_path: Path, subject: Callable[[list[int]], list[int]]) -> None:
    """Descriptors 5, 3 and 4 come to lie at 3, 4 and 5 in that order: none overwrites another one's source."""
    done = subprocess.run(
        [sys.executable, "-c", PLACING, str(Path(__file__).parents[3]), __file__, subject.__name__, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "['5', '3', '4']\n", done.stderr


@pytest.mark.rule("L10")
@pytest.mark.parametrize("name", ["", "a:b", "a\n", "x" * 256])
def test_names_that_cannot_be(name: str) -> None:
    """A name with a colon or a control character, an empty or an overlong one is refused before anything starts."""
    with socket.socket() as one, pytest.raises(ValueError, match="cannot name a descriptor"):
        spawn_with_sockets(["/bin/true"], {name: one})


# --- L+3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("L+3")
def test_other_ways_of_passing(tmp_path: Path) -> None:
    """einhorn's variables and a map of names give the same records as systemd's."""
    with listen("tcp://127.0.0.1:0") as one, listen(f"unixpacket:{tmp_path}/p.sock") as other:
        numbers = [one.dup().detach(), other.dup().detach()]
        environment = {"EINHORN_FD_COUNT": "2", "EINHORN_FD_0": str(numbers[0]), "EINHORN_FD_1": str(numbers[1])}
        found = inherit(environment=environment)
        assert environment == {}
        assert [record[2:] for record in found] == [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, True, one.address, "einhorn"),
            (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, True, other.address, "einhorn"),
        ]
        again = inherit(names={"web": numbers[0]}, environment={})
        assert again == (Inherited("web", *found[0][1:7], "map"),)
        for number in numbers:
            os.close(number)
        count = "EINHORN_FD_COUNT"
        for wrong in ({count: "1"}, {count: "1000"}, {count: "1", "EINHORN_FD_0": "x"}):
            with pytest.raises(WrongDescriptor):
                inherit(environment=dict(wrong))


# --- telling the manager ----------------------------------------------------------------------------------------------


@pytest.mark.rule("L+5")
@pytest.mark.parametrize("abstract", [False, True])
def test_notifications(tmp_path: Path, abstract: bool) -> None:
    """The manager gets the documented words, and sockets to keep with their name."""
    target = f"{tmp_path}/notify"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind("\0" + target if abstract else target)
        environment = {"NOTIFY_SOCKET": ("@" if abstract else "") + target}
        assert notify(ready=True, status="serving", main_pid=7, environment=environment)
        assert manager.recv(1000) == b"READY=1\nSTATUS=serving\nMAINPID=7"
        assert notify(reloading=True, environment=environment)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        with listen("tcp://127.0.0.1:0") as listener:
            assert listener.fileno() != listener.real_fileno()
            assert notify(sockets=[listener], name="web", environment=environment)
            data, descriptors, _, _ = socket.recv_fds(manager, 1000, 4)
            assert data == b"FDSTORE=1\nFDNAME=web"
            with socket.socket(fileno=descriptors[0]) as kept:
                assert kept.getsockname() == listener.getsockname()
        assert notify(remove="web", environment=environment)
        assert manager.recv(1000) == b"FDSTOREREMOVE=1\nFDNAME=web"
        assert sd_notify("STOPPING=1", unset=True, environment=environment)
        assert environment == {}
        assert not sd_notify("READY=1", environment=environment)
    for wrong in ({"status": "a\nb"}, {"name": "a:b", "ready": True}, {}):
        with pytest.raises(ValueError, match=r".+"):
            notify(**wrong)
    for address in ("relative", "vsock:x:1"):
        with pytest.raises(InvalidAddress):
            sd_notify("READY=1", environment={"NOTIFY_SOCKET": address})
    assert sd_booted(tmp_path)
    assert not sd_booted(tmp_path / "none")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("vsock", socket.SOCK_SEQPACKET),
        ("vsock-stream", socket.SOCK_STREAM),
        ("vsock-seqpacket", socket.SOCK_SEQPACKET),
    ],
    ids=["vsock", "vsock-stream", "vsock-seqpacket"],
)
def test_notifications_out_of_a_virtual_machine(monkeypatch: pytest.MonkeyPatch, word: str, kind: int) -> None:
    """With a vsock address the words go to that port of that machine, over the kind of socket that the address says."""
    calls: list[tuple[object, ...]] = []

    class Vsock:
        def __init__(self, *kinds: int) -> None:
            calls.append(("socket", *kinds))

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            calls.append(("close",))

        def connect(self, address: tuple[int, int]) -> None:
            calls.append(("connect", address))

        def sendall(self, data: bytes) -> None:
            calls.append(("sendall", data))

    names = {"SOCK_DGRAM", "SOCK_STREAM", "SOCK_SEQPACKET"}
    fake = SimpleNamespace(**{name: getattr(socket, name) for name in names}, AF_VSOCK=40, socket=Vsock)
    monkeypatch.setattr("kernelproof.impl.listenbuffer.notify.socket", fake)
    assert sd_notify("READY=1", environment={"NOTIFY_SOCKET": f"{word}:2:4711"})
    assert calls == [("socket", 40, kind), ("connect", (2, 4711)), ("sendall", b"READY=1"), ("close",)]


@pytest.mark.rule("L5")
def test_what_arrives_is_close_on_exec() -> None:
    """Descriptors that come in a message are close-on-exec from their arrival on, before anything can be started."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right, open(os.devnull, "rb") as file:
        messages.send(left, "sockets", [file.fileno(), file.fileno()])
        message = messages.receive(right, 60)
        assert message is not None
        assert [os.get_inheritable(number) for number in message.descriptors] == [False, False]
        message.close()


def test_a_number_that_is_never_used_again() -> None:
    """Where pidfds have a file system of their own the number is the pidfd's inode, else there is none."""
    descriptor, anonymous = os.pidfd_open(os.getpid()), os.eventfd(0)
    own, other = os.fstat(descriptor), os.fstat(anonymous)
    os.close(descriptor)
    os.close(anonymous)
    assert read_pidfd_id() == (own.st_ino if own.st_dev != other.st_dev else None)
