"""Making listeners: what is bound how, with which options, in which order, and who is in the way.

A unix socket's path that exists is replaced only if nobody answers there (connect says ECONNREFUSED): the new socket is
bound beside it and renamed over it. A path that is no socket is never replaced. All of it, the listening included, is
done under a lock on the directory, so that two that start at once do not take each other for dead. In a directory that
may be written and not read there is no lock, and nothing is replaced.

What a client sees while the gate is shut: it is connected, may send, and its bytes wait in the socket's buffer; it has
no answer before an accept. Beyond the backlog (plus one) a TCP client's SYN is ignored, so that it tries again after 1,
3, 7 ... seconds and is connected as soon as there is a place, or gives up by its own timeout; a blocking unix client
waits, a non-blocking one gets EAGAIN; datagrams beyond the buffer are dropped and counted. With `at_limit="refuse"` who
comes beyond the backlog is reset at once. When the listener is closed, all who wait are reset.

Sources: bind(2), listen(2), unix(7) (pathname sockets, NOTES), ip(7) (IP_FREEBIND), ipv6(7) (IPV6_V6ONLY), socket(7)
(SO_REUSEADDR, SO_REUSEPORT), flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from kernelproof.impl.listenbuffer.address import (
    UNIX_PATH_MAX,
    Address,
    describe,
    make_address,
    parse_address,
    resolve,
)
from kernelproof.impl.listenbuffer.backlog import effective_backlog, read_somaxconn
from kernelproof.impl.listenbuffer.gate import Gate, follow
from kernelproof.impl.listenbuffer.listener import GatedListener
from kernelproof.impl.listenbuffer.socketfile import Owned

IP_FREEBIND: Final = getattr(socket, "IP_FREEBIND", 15)
_UCRED: Final = struct.Struct("3i")


class Choices(NamedTuple):
    """How a socket is bound.

    Attributes:
        backlog: How many connections may wait; None for as many as the kernel allows.
        reuse_port: Join a group of sockets on one port (SO_REUSEPORT).
        freebind: Bind an IP address that this host does not have yet (IP_FREEBIND).
        dual_stack: For IPv6: whether IPv4 clients are served too; None leaves it to the system.
        unlink_stale: Replace a unix socket's file if nobody listens there.
        mode: Permissions of the unix socket's file, such as 0o660; None leaves them to the umask.
        owner: User of that file, a number; None leaves it.
        group: Group of that file, a number; None leaves it.
    """

    backlog: int | None = None
    reuse_port: bool = False
    freebind: bool = False
    dual_stack: bool | None = None
    unlink_stale: bool = True
    mode: int | None = None
    owner: int | None = None
    group: int | None = None


def listen(
    address: str | Address,
    *,
    gate: Gate | None = None,
    backlog: int | None = None,
    reuse_port: bool = False,
    freebind: bool = False,
    dual_stack: bool | None = None,
    unlink_stale: bool = True,
    mode: int | None = None,
    owner: int | None = None,
    group: int | None = None,
    at_limit: str = "wait",
    activate_within_seconds: float | None = None,
) -> GatedListener:
    """Listen at once; accept when the gate is open.

    Args:
        address: Such as `tcp://127.0.0.1:0` or `unix:/run/x.sock`; see `address`.
        gate: The gate, None for a new one, which `listener.gate` is.
        backlog: How many connections may wait, None for as many as the kernel allows; see `effective_backlog`.
        reuse_port: Join a group of sockets on one port.
        freebind: Bind an IP address that this host does not have yet.
        dual_stack: For IPv6, whether IPv4 clients are served too; None leaves it to the system.
        unlink_stale: Replace a unix socket's file if nobody listens there.
        mode: Permissions of the unix socket's file, written in octal.
        owner: User id of that file.
        group: Group id of that file.
        at_limit: What becomes of those who come beyond the backlog while the gate is shut: `wait` is what the kernel
            does (TCP clients try again and again, unix ones are told to), `refuse` resets them at once.
        activate_within_seconds: After this time without the gate's opening the listener is closed.

    Raises:
        InvalidAddress: The address cannot be one.
        ValueError: The backlog is negative, or `at_limit` is unknown.
        OSError: What the kernel refused: EADDRINUSE (a note says by whom, where it can be seen), EACCES (a port below
            `ip_unprivileged_port_start`, a directory), EADDRNOTAVAIL, ENOENT (a unix socket's directory).
        socket.gaierror: The host name has no address.
    """
    if at_limit not in ("wait", "refuse"):
        raise ValueError(f"at_limit={at_limit!r}: choose wait or refuse")
    where = parse_address(address) if isinstance(address, str) else address
    limit = choose_backlog(backlog)
    asked = backlog if at_limit == "wait" else None  # beyond the limit the doorman must see who comes
    choices = Choices(asked, reuse_port, freebind, dual_stack, unlink_stale, mode, owner, group)
    bound, owned = bind(where, choices, listening=where.is_stream)
    try:
        at = where if where.path else describe(bound, where.protocol)
        listener = GatedListener.adopt(
            bound, gate or Gate(), address=at, owned=owned, activate_within_seconds=activate_within_seconds
        )
        if at_limit == "refuse":
            listener.refuse_beyond(limit)
        return listener
    except BaseException:
        bound.close()
        if owned is not None:
            owned.remove()
        raise


def new_listen_buffer(protocol: str, address: str, activate: object = None) -> GatedListener:
    """Listen at once; accept when `activate` says so. The function of 2014.

    Args:
        protocol: `tcp`, `tcp4`, `tcp6`, `unix`, `unixpacket`; new are `udp` and its kin, `unixgram`, `vsock`.
        address: `host:port` (empty for any), or a path.
        activate: A `Gate`, an event, a future, an asyncio event; None for `listener.activate()`.

    Raises:
        InvalidAddress, OSError: As for `listen`.
        TypeError: `activate` is nothing that can be waited for.
    """
    where = make_address(protocol, address)
    if activate is None or isinstance(activate, Gate):
        return listen(where, gate=activate, unlink_stale=False)
    gate = Gate()
    listener = listen(where, gate=gate, unlink_stale=False)
    try:
        follow(gate, activate)
    except BaseException:
        listener.close()
        raise
    return listener


listen_buffer = new_listen_buffer


def choose_backlog(asked: int | None) -> int:
    """Choose what to ask of listen: what the caller wants, else the kernel's bound.

    Raises:
        ValueError: The number is negative.
    """
    if asked is not None and asked < 0:
        raise ValueError(f"backlog={asked}: give a number of connections, or None")
    somaxconn = read_somaxconn()
    if asked is None:
        return somaxconn if somaxconn is not None else socket.SOMAXCONN
    return effective_backlog(asked, somaxconn)


def bind(address: Address, choices: Choices, *, listening: bool = False) -> tuple[socket.socket, Owned | None]:
    """Make a socket and bind it; the second is the unix socket's file, if there is one.

    Args:
        address: Where.
        choices: How.
        listening: Listen too, before another starter may look whether a path is stale.

    Raises:
        OSError: As for `listen`.
    """
    family, sockaddr = resolve(address)
    bound = socket.socket(family, address.type)
    try:
        if address.path and not address.is_abstract:
            return bound, _bind_path(bound, address.path, choices, listening)
        _set_options(bound, choices)
        try:
            bound.bind(sockaddr)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                error.add_note(f"{address}: {_who_listens(address) or 'by whom cannot be seen'}")
            raise
        if listening:
            bound.listen(choose_backlog(choices.backlog))
    except BaseException:
        bound.close()
        raise
    return bound, None


def _set_options(bound: socket.socket, choices: Choices) -> None:
    ip = bound.family in (socket.AF_INET, socket.AF_INET6)
    if ip and bound.type == socket.SOCK_STREAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if choices.reuse_port:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if choices.freebind and ip:
        bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    if choices.dual_stack is not None and bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if choices.dual_stack else 1)


# --- unix sockets' files ----------------------------------------------------------------------------------------------


def _bind_path(bound: socket.socket, path: str, choices: Choices, listening: bool) -> Owned:
    if choices.mode is not None:
        os.fchmod(bound.fileno(), choices.mode)  # Linux gives the file at most this, from its first moment on
    with _locked(os.path.dirname(path) or ".") as directory:
        try:
            bound.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _check_stale(path, bound.type, choices, error)
            if directory is None:
                error.add_note(f"{path}: nobody listens there any more, but its directory may not be locked: remove it")
                raise
            return _replace(bound, path, choices, listening, directory)
        return _make_ready(bound, path, choices, listening)


def _make_ready(bound: socket.socket, path: str, choices: Choices, listening: bool) -> Owned:
    # Under the lock, so that it is found only when it listens: else it looks dead itself.
    owned = Owned(path)
    try:
        _set_file(path, choices)
        if listening:
            bound.listen(choose_backlog(choices.backlog))
    except BaseException:
        owned.remove()
        raise
    return owned


def _set_file(path: str, choices: Choices) -> None:
    if choices.owner is not None or choices.group is not None:
        os.chown(path, -1 if choices.owner is None else choices.owner, -1 if choices.group is None else choices.group)
    if choices.mode is not None:
        os.chmod(path, choices.mode)


def _check_stale(path: str, kind: int, choices: Choices, error: OSError) -> None:
    # Raise the error, saying why, unless the path is a socket at which nobody listens.
    error.filename = path
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        error.add_note(f"{path} is no socket: it is left alone")
        raise error
    holder = who_listens_at(path, kind)
    if holder is not None:
        error.add_note(f"{path}: in use by {holder}")
        raise error
    if not choices.unlink_stale:
        error.add_note(f"{path}: nobody listens there any more; remove it, or listen with unlink_stale=True")
        raise error


def _replace(bound: socket.socket, path: str, choices: Choices, listening: bool, directory: int) -> Owned:
    beside = f"{path}.{os.getpid()}"
    if len(os.fsencode(beside)) <= UNIX_PATH_MAX:
        bound.bind(beside)
    else:  # too long for an address, though not for a file
        beside = os.path.join(os.path.dirname(path), f".{os.getpid()}")
        bound.bind(f"/proc/self/fd/{directory}/.{os.getpid()}")
    made = _make_ready(bound, beside, choices, listening)
    try:
        os.rename(beside, path)
    except BaseException:
        made.remove()
        raise
    return Owned(path, made.identity)


@contextmanager
def _locked(directory: str) -> Iterator[int | None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def who_listens_at(path: str, kind: int) -> str | None:
    """Tell who listens at a unix socket's path; None if nobody does (connect is refused, or the path is gone).

    Raises:
        OSError: It cannot be told (EACCES on the socket).
    """
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except BlockingIOError:
            return "a process whose queue is full"
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                return "a socket of another type"
            raise
        if kind == socket.SOCK_DGRAM or not hasattr(socket, "SO_PEERCRED"):
            return "a process"
        pid, uid, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return f"pid {pid}{_command_of(pid)}, uid {uid}"


def _command_of(pid: int) -> str:
    try:
        return f" ({Path(f'/proc/{pid}/comm').read_text(encoding='utf-8', errors='replace').strip()})"
    except OSError:
        return ""


def _who_listens(address: Address) -> str | None:
    # For IP: find the socket's inode by its port, then the process that has it open, as far as we may look.
    inodes = _inodes_on_port(address)
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        if inodes & set(_read_links(process / "fd")):
            return f"in use by pid {process.name}{_command_of(int(process.name))}"
    return None


def _read_links(directory: Path) -> Iterator[str]:
    # Of what we may look at, and what is still there when we do.
    with suppress(OSError):
        for entry in os.listdir(directory):
            with suppress(OSError):
                yield os.readlink(directory / entry)


def _inodes_on_port(address: Address) -> set[str]:
    table = "tcp" if address.protocol.startswith("tcp") else "udp"
    inodes = set()
    for name in (table, f"{table}6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            listens = table == "udp" or fields[3] == "0A"
            if listens and int(fields[1].rpartition(":")[2], 16) == address.port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes
