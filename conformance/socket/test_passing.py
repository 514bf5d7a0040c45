"""Descriptors and credentials that travel over unix sockets, as generations hand their listeners over."""

from __future__ import annotations

import array
import fcntl
import os
import resource
import select
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import PATIENCE_SECONDS
from kernelproof.impl.listenbuffer import GatedListener, HandOverRefused, listen, messages
from kernelproof.impl.listenbuffer.listening import who_listens_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

NOBODY = 65534
SO_PEERPIDFD = 77
CREDENTIALS = struct.Struct("3i")
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def packets(listening: Listen, client: Client) -> Iterator[Pair]:
    """A client of a listener for packets, as the control of a hand-over is one, and its accepted other end."""
    listener = listening("unixpacket:@control")
    connected = client(listener)
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(PATIENCE_SECONDS)
        yield connected, accepted


@pytest.fixture
def stream(listening: Listen, client: Client) -> Iterator[Pair]:
    """A client of a stream listener and its accepted other end."""
    listener = listening("unix:@stream")
    connected = client(listener)
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(PATIENCE_SECONDS)
        yield connected, accepted


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file of 100 bytes."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


def open_descriptors() -> int:
    """How many descriptors this process has open, by /proc."""
    return len(os.listdir("/proc/self/fd"))


def status_of(descriptor: int) -> tuple[int, int]:
    """Offset and status flags of a descriptor (proc_pid_fdinfo(5)); large file is left out."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines())
    return int(lines["pos"]), int(lines["flags"], 8) & ~0o100000


@behaviour("socket.rights.limit-253")
def test_a_message_carries_so_many(packets: Pair, file: int, seen: Seen) -> None:
    """253 descriptors go in one message, 254 give EINVAL; `messages.send` stops at 250."""
    sender, receiver = packets
    with pytest.raises(HandOverRefused, match="too large"):
        messages.send(sender, "sockets", [file] * 251)
    answers = [seen.errno_of(socket.send_fds, sender, [b"x"], [file] * number) for number in (253, 254)]
    before = open_descriptors()
    _, received, _, _ = socket.recv_fds(receiver, 1, 300)
    assert (len(received), open_descriptors() - before) == (253, 253)
    for descriptor in received:
        os.close(descriptor)
    assert seen(answers) == ["no error", "EINVAL"]


@behaviour("socket.rights.bad-fd")
def test_what_is_not_open_is_not_sent(packets: Pair, seen: Seen) -> None:
    """A number that is no open descriptor gives EBADF, and nothing is sent."""
    sender, receiver = packets
    number = os.dup(0)
    os.close(number)
    refused = seen.errno_of(messages.send, sender, "sockets", [number])
    assert not select.select([receiver], [], [], 0)[0]
    assert refused == "EBADF"


@behaviour("socket.rights.same-description")
def test_what_was_passed_is_the_same_description(packets: Pair, file: int, seen: Seen) -> None:
    """A descriptor that was received shares offset and status flags with the one that was sent."""
    sender, receiver = packets
    messages.send(sender, "sockets", [file])
    message = messages.receive(receiver, PATIENCE_SECONDS)
    assert message is not None
    (received,) = message.descriptors
    assert status_of(received) == (0, os.O_RDWR | os.O_CLOEXEC)
    os.lseek(file, 42, os.SEEK_SET)
    os.set_blocking(file, False)
    found = status_of(received)
    message.close()
    assert received != file
    assert seen(found) == (42, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


@behaviour("socket.rights.small-buffer-closes")
def test_what_does_not_fit_is_closed(packets: Pair, file: int, seen: Seen) -> None:
    """Descriptors beyond the control buffer are closed and MSG_CTRUNC says so; `receive` refuses such a message."""
    sender, receiver = packets
    socket.send_fds(sender, [b"x"], [file] * 3)
    before = open_descriptors()
    _, ancillary, flags, _ = receiver.recvmsg(1, socket.CMSG_LEN(4))
    kept = array.array("i", ancillary[0][2][:4])
    assert open_descriptors() - before == 1
    os.close(kept[0])
    socket.send_fds(sender, [b'{"kind": "x", "version": 1}'], [file] * 253)
    before = open_descriptors()
    with pytest.raises(HandOverRefused, match="its descriptors are too many"):
        messages.receive(receiver, PATIENCE_SECONDS)
    assert open_descriptors() == before
    assert seen(bool(flags & socket.MSG_CTRUNC))


@behaviour("socket.rights.nofile-excess")
def test_what_is_beyond_the_limit_is_closed(packets: Pair, file: int, in_child: InChild, seen: Seen) -> None:
    """Descriptors that would pass RLIMIT_NOFILE are closed in the receiver, and `receive` keeps none of the others."""
    sender, receiver = packets
    for _ in range(2):
        socket.send_fds(sender, [b'{"kind": "x", "version": 1}'], [file] * 5)

    def receive() -> list[object]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        before = open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, hard))
        _, received, flags, _ = socket.recv_fds(receiver, 100, 5)
        for descriptor in received:
            os.close(descriptor)
        try:
            messages.receive(receiver, PATIENCE_SECONDS)
        except HandOverRefused as refused:
            answer = "too many for this process" in str(refused)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return [len(received), bool(flags & socket.MSG_CTRUNC), answer, open_descriptors() - before]

    assert seen(in_child(receive)) == [2, True, True, 0]


@behaviour("socket.rights.cmsg-cloexec")
def test_close_on_exec_must_be_asked_for(packets: Pair, file: int, seen: Seen) -> None:
    """What `receive` takes is close-on-exec, as it says MSG_CMSG_CLOEXEC; without that it is not."""
    sender, receiver = packets
    for _ in range(2):
        messages.send(sender, "sockets", [file])
    message = messages.receive(receiver, PATIENCE_SECONDS)
    assert message is not None
    _, (plain,), _, _ = socket.recv_fds(receiver, 1000, 1)
    flags = [bool(status_of(number)[1] & os.O_CLOEXEC) for number in (message.descriptors[0], plain)]
    assert flags == [bool(fcntl.fcntl(number, fcntl.F_GETFD)) for number in (message.descriptors[0], plain)]
    message.close()
    os.close(plain)
    assert seen(flags) == [True, False]


@behaviour("socket.rights.needs-data-on-stream")
def test_on_a_stream_descriptors_need_a_byte(stream: Pair, file: int, seen: Seen) -> None:
    """A message with descriptors and no byte delivers nothing; one of `messages` always has bytes."""
    sender, receiver = stream
    assert socket.send_fds(sender, [b""], [file]) == 0
    receiver.setblocking(False)
    answer = seen.errno_of(receiver.recvmsg, 10, 100)
    messages.send(sender, "sockets", [file])
    message = messages.receive(receiver, PATIENCE_SECONDS)
    assert message is not None
    assert len(message.descriptors) == 1
    message.close()
    assert answer == "EAGAIN"


@behaviour("socket.rights.barrier")
def test_descriptors_end_a_read(stream: Pair, file: int, seen: Seen) -> None:
    """After 4 bytes, 1 with a descriptor, and 4 more, reads of 20 give 5 and 4."""
    sender, receiver = stream
    sender.send(b"1234")
    socket.send_fds(sender, [b"5"], [file])
    sender.send(b"6789")
    first, descriptors, _, _ = socket.recv_fds(receiver, 20, 5)
    second, none, _, _ = socket.recv_fds(receiver, 20, 5)
    for descriptor in descriptors:
        os.close(descriptor)
    assert (first + second, len(descriptors), none) == (b"123456789", 1, [])
    assert seen([len(first), len(second)]) == [5, 4]


@behaviour("socket.rights.in-flight-limit")
def test_so_many_may_be_under_way(packets: Pair, file: int, in_child: InChild, seen: Seen) -> None:
    """An unprivileged sender with more descriptors under way than RLIMIT_NOFILE gets ETOOMANYREFS."""
    sender, _ = packets

    def send() -> list[object]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.setresuid(NOBODY, NOBODY, NOBODY)
        sent = 0
        while sent < 500 and seen.errno_of(messages.send, sender, "sockets", [file] * 10) == "no error":
            sent += 10
        return [seen.last, 64 <= sent <= 74]

    assert seen(in_child(send)) == ["ETOOMANYREFS", True]


def credentials_of(receiver: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a datagram and the credentials that came with it."""
    data, ancillary, _, _ = receiver.recvmsg(100, socket.CMSG_SPACE(CREDENTIALS.size))
    found = [value for level, kind, value in ancillary if (level, kind) == (1, socket.SCM_CREDENTIALS)]
    return data, [number for value in found for number in CREDENTIALS.unpack(value)]


def send_as(address: str, pid: int, uid: int, gid: int) -> None:
    """Send a datagram that says whose it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        said = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, CREDENTIALS.pack(pid, uid, gid))
        sender.sendmsg([b"said"], [said])


@pytest.fixture
def told(listening: Listen) -> GatedListener:
    """A receiver of datagrams that is told whose they are."""
    receiver = listening("unixgram:@told")
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return receiver


@behaviour("socket.creds.passcred-default")
def test_whose_a_message_is(told: GatedListener, in_child: InChild, seen: Seen) -> None:
    """With SO_PASSCRED each message tells pid, uid and gid of its sender, who said nothing of it."""

    def send() -> int:
        os.setresgid(1001, 1001, 1001)
        os.setresuid(1000, 1000, 1000)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"silent", "\0told")
        return os.getpid()

    pid = in_child(send)
    data, found = credentials_of(told)
    assert data == b"silent"
    assert seen([found[0] == pid, *found[1:]]) == [True, 1000, 1001]


@behaviour("socket.creds.forged-refused")
def test_another_cannot_be_claimed(told: GatedListener, in_child: InChild, seen: Seen) -> None:
    """An unprivileged process that claims another uid or pid gets EPERM, and its own may be said."""

    def claim() -> list[str]:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        own = os.getpid()
        claims = ((own, 0, NOBODY), (1, NOBODY, NOBODY), (own, NOBODY, NOBODY))
        return [seen.errno_of(send_as, "\0told", *claimed) for claimed in claims]

    answers = in_child(claim)
    assert credentials_of(told)[1][1:] == [NOBODY, NOBODY]
    assert not select.select([told.real_fileno()], [], [], 0)[0]
    assert seen(answers) == ["EPERM", "EPERM", "no error"]


@behaviour("socket.creds.unknown-pid")
def test_a_claimed_process_must_be(told: GatedListener, bystander: Bystander, seen: Seen) -> None:
    """A privileged sender may name another process, and gets ESRCH for a number that is none's."""
    other = bystander()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    answers = [seen.errno_of(send_as, "\0told", pid, 5, 6) for pid in (other, child)]
    assert credentials_of(told)[1] == [other, 5, 6]
    assert seen(answers) == ["no error", "ESRCH"]


@behaviour("socket.creds.peercred-at-connect")
def test_a_peer_is_who_it_was_then(tmp_path: Path, listening: Listen, client: Client, seen: Seen) -> None:
    """SO_PEERCRED tells who listened and who connected at that time, whatever user they are now."""
    path = str(tmp_path / "socket")
    listener = listening(f"unix:{path}")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect(path)
            os.setresuid(1000, 1000, 1000)
            os.read(reader, 1)  # until the other end has looked
        os._exit(0)
    accepted, _ = listener.accept()
    with accepted:
        messages.check_peer(accepted)
        found = CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    assert (
        who_listens_at(path, socket.SOCK_STREAM)
        == f"pid {os.getpid()} ({Path('/proc/self/comm').read_text().strip()}), uid 0"
    )
    os.close(writer)
    os.close(reader)
    os.waitpid(child, 0)
    assert seen([found[0] == child, *found[1:]]) == [True, 0, 0]


@behaviour("socket.creds.peercred-not-connected")
def test_without_a_peer_there_is_nobody(tcp: GatedListener, seen: Seen) -> None:
    """SO_PEERCRED of a TCP listener, which has no peer, is not possible."""
    with pytest.raises(HandOverRefused, match="runs as uid -1"):
        messages.check_peer(tcp)
    try:
        answer: object = CREDENTIALS.unpack(tcp.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    except OSError:
        answer = "refused"
    assert seen(answer) == "refused"


@behaviour("socket.creds.unknown-option")
def test_an_unknown_option(tcp: GatedListener, listening: Listen, seen: Seen) -> None:
    """An option that nobody knows gives ENOPROTOOPT, on TCP as on unix sockets."""
    unix = listening("unix:@option")
    answers = [seen.errno_of(one.getsockopt, socket.SOL_SOCKET, 9999, 4) for one in (tcp, unix)]
    assert seen(answers) == ["ENOPROTOOPT", "ENOPROTOOPT"]


@behaviour("socket.creds.peerpidfd-not-connected")
def test_no_descriptor_of_nobody(tcp: GatedListener, listening: Listen, seen: Seen) -> None:
    """SO_PEERPIDFD of a TCP listener, and of a unix one that is bound only, gives ENODATA."""
    with listen("unixgram:@alone") as unix:
        answers = [seen.errno_of(one.getsockopt, socket.SOL_SOCKET, SO_PEERPIDFD, 4) for one in (tcp, unix)]
    assert seen(answers) == ["ENODATA", "ENODATA"]


@behaviour("socket.creds.peerpidfd-reaped")
def test_a_descriptor_of_who_has_ended(listening: Listen, seen: Seen) -> None:
    """SO_PEERPIDFD of a client that has ended and been reaped gives a pidfd, whose process is no more."""
    listener = listening("unix:@reaped")
    child = os.fork()
    if child == 0:
        with socket.socket(socket.AF_UNIX) as connected:
            connected.connect("\0reaped")
        os._exit(0)
    os.waitpid(child, 0)
    accepted, _ = listener.accept()
    with accepted:
        answer = accepted.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4)
    (descriptor,) = struct.unpack("i", answer)
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines())
    os.close(descriptor)
    assert seen(lines["Pid"].strip()) == "-1"
