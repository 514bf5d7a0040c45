"""Sockets that another process opened: taken over with care, and passed on.

Three ways are understood: systemd's (`LISTEN_FDS` and its kin), einhorn's (`EINHORN_FD_0` …), and a map of names to
descriptors that the caller has from elsewhere. That a socket is of the family, type and state that the program wants is
looked at, never assumed, and it is not made to listen again.

Sources: sd_listen_fds(3); systemd 259 notes, LISTEN_PIDFDID; einhorn's README, "Being run under Einhorn"; socket(7),
SO_DOMAIN, SO_TYPE, SO_PROTOCOL, SO_ACCEPTCONN.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from kernelproof.impl.listenbuffer.address import Address, describe, protocol_of
from kernelproof.impl.listenbuffer.errors import WrongDescriptor
from kernelproof.impl.listenbuffer.gate import Gate
from kernelproof.impl.listenbuffer.listener import GatedListener

FIRST: Final = 3
"""The descriptor at which systemd's sockets begin."""

UNKNOWN: Final = "unknown"
"""The name of a descriptor without one."""

SYSTEMD: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")

NAME_MAX: Final = 255


class Inherited(NamedTuple):
    """A socket that was passed to this process.

    Attributes:
        name: Its name, `unknown` without one.
        descriptor: Its descriptor, close-on-exec from now on.
        family: Such as `AF_UNIX`.
        type: Such as `SOCK_STREAM`.
        protocol: The protocol's number.
        listening: Whether it accepts connections.
        address: Where it is bound, None for a family that this package does not write down.
        source: `systemd`, `einhorn`, `map` or `hand-over`.
    """

    name: str
    descriptor: int
    family: int
    type: int
    protocol: int
    listening: bool
    address: Address | None
    source: str

    def check(self, *, family: int | None = None, type: int | None = None, listening: bool | None = None) -> Inherited:
        """Return itself if it is what is wanted.

        Raises:
            WrongDescriptor: It is of another family or type, or in another state.
        """
        for what, wanted, found in (
            ("family", family, self.family), ("type", type, self.type), ("listening", listening, self.listening),
        ):  # fmt: skip
            if wanted is not None and wanted != found:
                raise WrongDescriptor(f"descriptor {self.descriptor} ({self.name}): {what} is {found}, not {wanted}")
        return self

    def socket(self) -> socket.socket:
        """Make a socket object of it; closing that closes the descriptor."""
        return socket.socket(self.family, self.type, self.protocol, fileno=self.descriptor)

    def listener(self, gate: Gate | None = None) -> GatedListener:
        """Put it behind a gate; None for a new one."""
        return GatedListener.adopt(self.socket(), gate or Gate(), address=self.address)


def inherit(
    *,
    unset: bool = True,
    limit: int = 64,
    names: Mapping[str, int] | None = None,
    environment: MutableMapping[str, str] | None = None,
) -> tuple[Inherited, ...]:
    """Take over the sockets that were passed to this process.

    That none were passed, or that they were meant for another process, is no error: the answer is empty. All
    descriptors are set close-on-exec before anything is looked at. For a unit that has FIFOs or files too count them
    with `listen_fds`, and give the sockets as `names`.

    Args:
        unset: Take the variables away, whether or not sockets were meant for this process, so that no child of ours
            takes them for its own.
        limit: How many are taken at most.
        names: Names of descriptors that the caller knows from elsewhere.
        environment: The environment, None for the process's.

    Raises:
        WrongDescriptor: There are more than `limit`, or one of them is no open socket.
    """
    given = os.environ if environment is None else environment
    try:
        found = [("systemd", number, name) for number, name in _from_systemd(given, limit)]
        found += [("einhorn", number, name) for number, name in _from_einhorn(given, limit)]
    finally:
        for variable in [name for name in given if name in SYSTEMD or name.startswith("EINHORN_FD")] if unset else ():
            del given[variable]
    found += [("map", number, name) for name, number in (names or {}).items()]
    _set_all_close_on_exec([number for _, number, _ in found])
    return tuple(look_at(number, name, source) for source, number, name in found)


def _from_systemd(given: Mapping[str, str], limit: int) -> list[tuple[int, str]]:
    if not _is_for_me(given):
        return []
    count = _number(given.get("LISTEN_FDS", "0"))
    if count is None or count > limit:
        raise WrongDescriptor(f"LISTEN_FDS={given['LISTEN_FDS']!r}: expected a number up to {limit}")
    names = given.get("LISTEN_FDNAMES", "").split(":") if given.get("LISTEN_FDNAMES") else []
    return [
        (FIRST + position, (names[position] if position < len(names) else "") or UNKNOWN) for position in range(count)
    ]


def _is_for_me(given: Mapping[str, str]) -> bool:
    # Process numbers are used again: systemd 259 adds the inode of a pidfd, which is not.
    if _number(given.get("LISTEN_PID", "")) != os.getpid():
        return False
    expected = given.get("LISTEN_PIDFDID")
    if expected is None:
        return True
    own = read_pidfd_id()
    return own is None or _number(expected) == own


def read_pidfd_id(pid: int | None = None) -> int | None:
    """Read the number that names a process and is never used again; None before Linux 6.9, or elsewhere.

    Source: pidfd_open(2); before pidfs (Linux 6.9) every pidfd had the one inode of the anonymous file system, which an
    eventfd has too. The link in /proc does not tell: it is the same with pidfs.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(os.getpid() if pid is None else pid)
    except OSError:
        return None
    anonymous = os.eventfd(0)
    try:
        own, other = os.fstat(descriptor), os.fstat(anonymous)
        return None if own.st_dev == other.st_dev else own.st_ino
    finally:
        os.close(descriptor)
        os.close(anonymous)


def _from_einhorn(given: Mapping[str, str], limit: int) -> list[tuple[int, str]]:
    count = _number(given.get("EINHORN_FD_COUNT", "0")) or 0
    if count > limit:
        raise WrongDescriptor(f"EINHORN_FD_COUNT={count}: expected a number up to {limit}")
    found = []
    for position in range(count):
        number = _number(given.get(f"EINHORN_FD_{position}", ""))
        if number is None:
            raise WrongDescriptor(f"EINHORN_FD_{position} is no number")
        found.append((number, given.get(f"EINHORN_FD_NAME_{position}", UNKNOWN)))
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def set_close_on_exec(descriptor: int) -> None:
    """Set close-on-exec on a descriptor.

    Raises:
        WrongDescriptor: It is not open.
    """
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFD)
        fcntl.fcntl(descriptor, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
    except OSError as error:
        raise WrongDescriptor(f"descriptor {descriptor}: {error.strerror}; it was promised and is not open") from error


def _set_all_close_on_exec(descriptors: Sequence[int]) -> None:
    # All of them, also those after one that is not open: the caller may go on without.
    refused = None
    for descriptor in descriptors:
        try:
            set_close_on_exec(descriptor)
        except WrongDescriptor as error:
            refused = refused or error
    if refused is not None:
        raise refused


def look_at(descriptor: int, name: str, source: str) -> Inherited:
    """Look at what a descriptor is.

    Raises:
        WrongDescriptor: It is not open, or no socket.
    """
    try:
        looked = socket.socket(fileno=descriptor)
    except OSError as error:
        what = "is no socket" if error.errno == errno.ENOTSOCK else error.strerror
        raise WrongDescriptor(f"descriptor {descriptor} ({name}): {what}") from error
    try:
        listening = bool(looked.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        word = protocol_of(looked)
        address = None if word is None else describe(looked, word)
        return Inherited(name, descriptor, looked.family, looked.type, looked.proto, listening, address, source)
    finally:
        looked.detach()


def listen_fds(*, unset: bool = True) -> int:
    """Count the descriptors that systemd passed, as sd_listen_fds does: sockets, FIFOs and files; they begin at 3.

    All are set close-on-exec.

    Args:
        unset: Take the variables away.

    Raises:
        WrongDescriptor: One of them is not open, or LISTEN_FDS is no number.
    """
    try:
        found = _from_systemd(os.environ, 2**16)
    finally:
        for variable in SYSTEMD if unset else ():
            os.environ.pop(variable, None)
    _set_all_close_on_exec([number for number, _ in found])
    return len(found)


# --- the other way ----------------------------------------------------------------------------------------------------

# Runs in the new process before the program: only there are its own number and pidfd known.
_TRAMPOLINE: Final = """
import os, sys
environment = dict(os.environ, LISTEN_PID=str(os.getpid()))
if hasattr(os, "pidfd_open"):
    pidfd, anonymous = os.pidfd_open(os.getpid()), os.eventfd(0)
    if os.fstat(pidfd).st_dev != os.fstat(anonymous).st_dev:
        environment["LISTEN_PIDFDID"] = str(os.fstat(pidfd).st_ino)
    os.close(pidfd)
    os.close(anonymous)
os.execvpe(sys.argv[1], sys.argv[1:], environment)
"""


def spawn_with_sockets(
    arguments: Sequence[str],
    sockets: Mapping[str, socket.socket],
    *,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Start a program with sockets in systemd's way: from descriptor 3 on, in order, named; return its process number.

    The caller waits for it. No fork happens in this process, so threads do not matter.

    Args:
        arguments: The program and its arguments; it is looked for along PATH.
        sockets: Sockets by name.
        environment: The program's environment, None for this process's.

    Raises:
        ValueError: A name holds a colon or a control character, or is longer than 255.
        OSError: The interpreter cannot be started.
    """
    for name in sockets:
        if ":" in name or not name.isprintable() or not 0 < len(name) <= NAME_MAX:
            raise ValueError(f"{name!r} cannot name a descriptor: no colons, 1 to {NAME_MAX} printable characters")
    variables = dict(os.environ if environment is None else environment)
    for variable in SYSTEMD:
        variables.pop(variable, None)
    variables |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(sockets)}
    command = [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, *arguments]
    with placed([real_fileno(one) for one in sockets.values()]) as actions:
        return os.posix_spawn(sys.executable, command, variables, file_actions=actions)


@contextmanager
def placed(descriptors: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Give the actions that put descriptors at 3, 4 … in a spawned process, without one overwriting another's source.

    Copies are made above all targets first; they are close-on-exec and closed afterwards.
    """
    above = FIRST + len(descriptors)
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    try:
        yield [(os.POSIX_SPAWN_DUP2, copy, FIRST + position) for position, copy in enumerate(copies)]
    finally:
        for copy in copies:
            os.close(copy)


def real_fileno(one: socket.socket) -> int:
    """The socket's own descriptor, whatever a gate shows to selectors."""
    return one.real_fileno() if isinstance(one, GatedListener) else one.fileno()
