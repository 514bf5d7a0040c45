"""bind(2) and connect(2): addresses, ports and who may have them, for IPv4 and IPv6."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import LISTEN, SYSCTL, TIME_WAIT, port_of, states_of_port
from kernelproof.impl.listenbuffer import Address, GatedListener, listen
from kernelproof.impl.listenbuffer.listening import Choices, bind, who_listens_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

IPV4 = SYSCTL / "ipv4"
NOBODY = 65534


def errno_of_listening(seen: Seen, address: str, **choices: Any) -> str:
    """Listen, stop, and return what was refused."""
    return seen.errno_of(lambda: listen(address, **choices).close())


def as_user(uid: int, answer: Callable[[], list[str]]) -> Callable[[], list[str]]:
    """What a child asks as another user."""

    def ask() -> list[str]:
        os.setresuid(uid, uid, uid)
        return answer()

    return ask


@behaviour("socket.bind.already-bound")
def test_a_socket_is_bound_once(tcp: GatedListener, seen: Seen) -> None:
    """A second bind gives EINVAL and leaves the first address."""
    before = tcp.getsockname()
    answer = seen.errno_of(tcp.bind, ("127.0.0.1", 0))
    assert tcp.getsockname() == before
    assert answer == "EINVAL"


@behaviour("socket.bind.not-local")
def test_an_address_is_an_interfaces_own(seen: Seen) -> None:
    """An address of no interface gives EADDRNOTAVAIL, until ip_nonlocal_bind is 1; `freebind` is for one listener."""
    address = "tcp4://192.0.2.1:4711"
    answers = [errno_of_listening(seen, address), errno_of_listening(seen, address, freebind=True)]
    (IPV4 / "ip_nonlocal_bind").write_text("1")
    answers.append(errno_of_listening(seen, address))
    assert seen(answers) == ["EADDRNOTAVAIL", "no error", "no error"]


@behaviour("socket.bind.privileged-port")
def test_ports_below_1024_are_privileged(in_child: InChild, seen: Seen) -> None:
    """Without CAP_NET_BIND_SERVICE a port below 1024 is refused with EACCES, and 1024 is not."""

    def answers() -> list[str]:
        return [errno_of_listening(seen, f"tcp://127.0.0.1:{port}") for port in (1, 1023, 1024)]

    assert in_child(answers) == ["no error"] * 3
    assert seen(in_child(as_user(NOBODY, answers))) == ["EACCES", "EACCES", "no error"]


@behaviour("socket.bind.unprivileged-port-start")
def test_where_privileged_ports_end_can_be_moved(in_child: InChild, seen: Seen) -> None:
    """With ip_unprivileged_port_start 80 in a network namespace anyone binds 80 there, and nobody else 79."""

    def answers() -> list[str]:
        return [errno_of_listening(seen, f"tcp4://0.0.0.0:{port}") for port in (79, 80)]

    def in_a_namespace() -> list[str]:
        os.unshare(os.CLONE_NEWNET)  # type: ignore[attr-defined]  # Python 3.12; the guest has a newer one
        (IPV4 / "ip_unprivileged_port_start").write_text("80")
        return as_user(NOBODY, answers)()

    assert in_child(as_user(NOBODY, answers)) == ["EACCES", "EACCES"]
    assert seen(in_child(in_a_namespace)) == ["EACCES", "no error"]


@behaviour("socket.bind.ephemeral-range")
def test_all_ports_of_the_range_can_be_taken(listening: Listen, seen: Seen) -> None:
    """Port 0 gives EADDRINUSE once each port of ip_local_port_range is listened at."""
    (IPV4 / "ip_local_port_range").write_text("40000 40003")
    ports = sorted(port_of(listening("tcp4://127.0.0.1:0")) for _ in range(4))
    assert ports == [40000, 40001, 40002, 40003]
    assert [states_of_port(port) for port in ports] == [[LISTEN]] * 4
    assert errno_of_listening(seen, "tcp4://127.0.0.1:0") == "EADDRINUSE"


@behaviour("socket.bind.ephemeral-in-range")
def test_free_ports_come_from_the_range(listening: Listen, seen: Seen) -> None:
    """Port 0 gives a port within ip_local_port_range, for TCP as for UDP."""
    (IPV4 / "ip_local_port_range").write_text("45000 45031")
    ports = [port_of(listening(f"{word}://127.0.0.1:0")) for word in ("tcp", "udp") for _ in range(10)]
    assert seen([port for port in ports if not 45000 <= port <= 45031]) == []


@behaviour("socket.bind.reserved-ports")
def test_reserved_ports_are_not_given_away(listening: Listen, seen: Seen) -> None:
    """Port 0 never gives a port of ip_local_reserved_ports."""
    (IPV4 / "ip_local_port_range").write_text("45000 45007")
    (IPV4 / "ip_local_reserved_ports").write_text("45001-45003,45006")
    ports = sorted(port_of(listening("tcp4://127.0.0.1:0")) for _ in range(4))
    assert errno_of_listening(seen, "tcp4://127.0.0.1:0") == "EADDRINUSE"
    assert seen(ports) == [45000, 45004, 45005, 45007]


@behaviour("socket.bind.reserved-port-explicit")
def test_a_reserved_port_is_had_by_its_number(listening: Listen, seen: Seen) -> None:
    """A reserved port that is asked for by number is given."""
    (IPV4 / "ip_local_reserved_ports").write_text("45001")
    assert seen(port_of(listening("tcp4://127.0.0.1:45001"))) == 45001
    assert states_of_port(45001) == [LISTEN]


@behaviour("socket.reuse.addr-active-listener")
def test_a_listening_socket_is_not_joined(tcp: GatedListener, seen: Seen) -> None:
    """With SO_REUSEADDR, which `listen` sets, an address that is listened at gives EADDRINUSE all the same."""
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    with pytest.raises(OSError, match="Address already in use") as used:
        bind(tcp.address, Choices())
    assert f"in use by pid {os.getpid()}" in used.value.__notes__[0]
    assert seen.errno_of(bind, tcp.address, Choices()) == "EADDRINUSE"


@behaviour("socket.reuse.addr-time-wait")
def test_a_server_comes_back_to_its_port(listening: Listen, tcp: GatedListener, client: Client, seen: Seen) -> None:
    """A port with connections in TIME_WAIT can be listened at again, as the first listener had SO_REUSEADDR too."""
    other = client(tcp)
    accepted, _ = tcp.accept()
    port = port_of(tcp)
    accepted.close()
    assert other.recv(1) == b""
    other.close()
    tcp.close()
    assert states_of_port(port) == [TIME_WAIT]
    assert seen.errno_of(listening, f"tcp://127.0.0.1:{port}") == "no error"
    assert states_of_port(port) == [TIME_WAIT, LISTEN]


@behaviour("socket.reuse.port-both-need-it")
def test_a_group_is_joined_by_those_who_all_want_it(listening: Listen, seen: Seen) -> None:
    """With SO_REUSEPORT on both, two listen at one port; if either lacks it the second gives EADDRINUSE."""
    answers = []
    for first, second in ((True, True), (True, False), (False, True)):
        one = listening("tcp://127.0.0.1:0", reuse_port=first)
        other = f"tcp://127.0.0.1:{port_of(one)}"
        answers.append(seen.errno_of(listening, other, reuse_port=second))
        assert states_of_port(port_of(one)) == [LISTEN] * (1 + (answers[-1] == "no error"))
    assert seen(answers) == ["no error", "EADDRINUSE", "EADDRINUSE"]


@behaviour("socket.reuse.port-same-uid")
def test_a_group_is_one_users(listening: Listen, in_child: InChild, seen: Seen) -> None:
    """A process of another user cannot join the group and gets EADDRINUSE."""
    address = f"tcp://127.0.0.1:{port_of(listening('tcp://127.0.0.1:0', reuse_port=True))}"

    def answers() -> list[str]:
        return [errno_of_listening(seen, address, reuse_port=True)]

    assert in_child(answers) == ["no error"]
    assert seen(in_child(as_user(NOBODY, answers))) == ["EADDRINUSE"]


@behaviour("socket.connect.no-listener")
def test_bound_is_not_listening(tmp_path: Path, seen: Seen) -> None:
    """connect to a port or a path that is bound, not listened at, gives ECONNREFUSED; `who_listens_at` says nobody."""
    path = str(tmp_path / "socket")
    answers = []
    for address in (Address("tcp4", "127.0.0.1", 0), Address("unix", path=path)):
        bound, _ = bind(address, Choices())
        with bound, socket.socket(bound.family) as client:
            answers.append(seen.errno_of(client.connect, bound.getsockname()))
    assert who_listens_at(path, socket.SOCK_STREAM) is None
    assert seen(answers) == ["ECONNREFUSED", "ECONNREFUSED"]


@behaviour("socket.connect.twice")
def test_a_connection_is_not_connected_again(listening: Listen, client: Client, seen: Seen) -> None:
    """connect on an accepted connection, of TCP or of a unix stream, gives EISCONN."""
    answers = []
    for address in ("tcp://127.0.0.1:0", "unix:@twice"):
        listener = listening(address)
        client(listener)
        accepted, _ = listener.accept()
        with accepted:
            answers.append(seen.errno_of(accepted.connect, listener.getsockname()))
    assert seen(answers) == ["EISCONN", "EISCONN"]


@behaviour("socket.connect.nonblocking")
def test_connecting_without_waiting(listening: Listen, seen: Seen) -> None:
    """connect gives EINPROGRESS, then the socket is writable; SO_ERROR gives 0, or the reason without a listener."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    bound, _ = bind(Address("tcp4", "127.0.0.1", 0), Choices())
    answers = []
    for target in (listener, bound):
        with socket.socket() as client:
            client.setblocking(False)
            answers.append(seen.errno_of(client.connect, target.getsockname()))
            assert select.select([], [client], [], 30)[1] == [client]
            error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            answers.append(os.strerror(error) if error else "connected")
    bound.close()
    assert seen(answers) == ["EINPROGRESS", "connected", "EINPROGRESS", "Connection refused"]


@behaviour("socket.connect.unix-full-eagain")
def test_a_full_unix_queue_is_eagain(listening: Listen, client: Client, tmp_path: Path, seen: Seen) -> None:
    """Without waiting, connect to a unix listener whose queue is full gives EAGAIN; `who_listens_at` says so."""
    path = str(tmp_path / "socket")
    listener = listening(f"unix:{path}", backlog=1, is_open=False)
    for _ in range(2):
        client(listener)
    assert who_listens_at(path, socket.SOCK_STREAM) == "a process whose queue is full"
    with socket.socket(socket.AF_UNIX) as late:
        late.setblocking(False)
        assert seen.errno_of(late.connect, path) == "EAGAIN"


@behaviour("socket.ipv6.dual-stack")
def test_one_listener_serves_both(listening: Listen, seen: Seen) -> None:
    """A listener on :: that is dual-stack accepts an IPv4 client and shows it as ::ffff:a.b.c.d."""
    listener = listening("tcp6://[::]:0", dual_stack=True)
    with socket.socket() as client:
        client.connect(("127.0.0.1", port_of(listener)))
        accepted, peer = listener.accept()
        accepted.close()
        assert peer[1] == port_of(client)
    assert states_of_port(port_of(listener), "tcp").count(LISTEN) == 0
    assert seen(peer[0]) == "::ffff:127.0.0.1"


@behaviour("socket.ipv6.shared-port-space")
def test_both_families_share_the_ports(listening: Listen, seen: Seen) -> None:
    """While a dual-stack listener has a port, 0.0.0.0 cannot be bound to it: EADDRINUSE."""
    listener = listening("tcp6://[::]:0", dual_stack=True)
    assert states_of_port(port_of(listener), "tcp6") == [LISTEN]
    assert errno_of_listening(seen, f"tcp4://0.0.0.0:{port_of(listener)}") == "EADDRINUSE"


@behaviour("socket.ipv6.v6only")
def test_ipv6_alone(listening: Listen, client: Client, seen: Seen) -> None:
    """A listener on :: that is not dual-stack takes IPv6 clients, and an IPv4 client is refused."""
    listener = listening("tcp6://[::]:0", dual_stack=False)
    client(listener)
    with socket.socket() as other:
        assert seen.errno_of(other.connect, ("127.0.0.1", port_of(listener))) == "ECONNREFUSED"


@behaviour("socket.ipv6.v6only-port-free")
def test_each_family_its_own_listener(listening: Listen, seen: Seen) -> None:
    """While a listener has :: for IPv6 alone, another one gets the same port on 0.0.0.0."""
    listener = listening("tcp6://[::]:0", dual_stack=False)
    answer = seen.errno_of(listening, f"tcp4://0.0.0.0:{port_of(listener)}")
    assert states_of_port(port_of(listener), "tcp", "tcp6") == [LISTEN, LISTEN]
    assert answer == "no error"


@behaviour("socket.ipv6.v6only-default")
def test_the_default_is_the_systems(listening: Listen, seen: Seen) -> None:
    """Without a word about it a listener is dual-stack as long as bindv6only is 0, and is not when it is 1."""
    found = [(SYSCTL / "ipv6/bindv6only").read_text().strip()]
    for value in ("0", "1"):
        (SYSCTL / "ipv6/bindv6only").write_text(value)
        listener = listening("tcp6://[::]:0")
        found.append(str(listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)))
        with socket.socket() as client:
            found.append(seen.errno_of(client.connect, ("127.0.0.1", port_of(listener))))
    assert seen(found) == ["0", "0", "no error", "1", "ECONNREFUSED"]
