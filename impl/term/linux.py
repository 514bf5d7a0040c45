"""Pseudoterminals of Linux: requests that no other system has, and proofs of what a descriptor is.

The numbers are those of the generic table of ioctls. Machines that have another one (alpha, mips, parisc, powerpc,
sparc) are an error, never a guess.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import termios
from typing import Any

from kernelproof.impl.term.calls import control, sigttou_blocked
from kernelproof.impl.term.errors import NotPseudoterminalError

TIOCGPTN = 0x80045430
TIOCSPTLCK = 0x40045431
TIOCGPTLCK = 0x80045439
TIOCGEXCL = 0x80045440
TIOCGPTPEER = 0x5441
TIOCGSID = 0x5429
TCGETS2 = 0x802C542A
TCSETS2 = 0x402C542B

_TERMIOS2 = "=4IB19s2I"  # four sets of flags, the line discipline, characters, input and output speed
_CONTROL_FLAGS, _INPUT_SPEED, _OUTPUT_SPEED = 2, 6, 7  # places in it
_BOTHER = 0o010000  # the speed is the number itself
_SPEED_BITS = 0o010017
_INPUT_SHIFT = 16

_OTHER_TABLES = ("alpha", "mips", "parisc", "ppc", "sparc")
_MULTIPLEXER = os.makedev(5, 2)
_PEERS = range(136, 144)  # majors of Unix98 peers, 256 terminals each


def check_machine(machine: str | None = None) -> None:
    """Refuse a machine whose requests have other numbers.

    Raises:
        NotImplementedError: it is one.
    """
    machine = os.uname().machine if machine is None else machine
    if machine.startswith(_OTHER_TABLES):
        raise NotImplementedError(f"{__name__}: {machine} has other numbers of ioctls than those on record here")


def check_multiplexer(fd: int) -> None:
    """Prove that a descriptor is a master: character device 5:2.

    Raises:
        NotPseudoterminalError: it is not.
    """
    found = os.fstat(fd)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _MULTIPLEXER:
        raise NotPseudoterminalError(f"descriptor {fd} is no pseudoterminal multiplexer (character device 5:2)")


def check_on_devpts(fd: int) -> None:
    """Prove that a descriptor is a file of a devpts filesystem.

    Raises:
        NotPseudoterminalError: it is not.
    """
    # Only for a devpts of somebody else: loading libc costs more than a pair.
    from kernelproof.impl._syscalls.filesystem import DEVPTS_SUPER_MAGIC, filesystem_type

    if filesystem_type(fd) != DEVPTS_SUPER_MAGIC:
        raise NotPseudoterminalError(f"descriptor {fd} is not on a devpts filesystem")


def check_peer(fd: int, index: int) -> None:
    """Prove that a descriptor is the peer of a number, in some devpts.

    Raises:
        NotPseudoterminalError: it is not.
    """
    found = os.fstat(fd)
    major = os.major(found.st_rdev)
    is_peer = stat.S_ISCHR(found.st_mode) and major in _PEERS
    if not is_peer or (major - _PEERS[0]) * 256 + os.minor(found.st_rdev) != index:
        raise NotPseudoterminalError(f"descriptor {fd} is not the pseudoterminal number {index}")


def unlock(master: int) -> None:
    """Let the peer of a master be opened. Raises OSError: ENOTTY no master."""
    control(master, "TIOCSPTLCK", TIOCSPTLCK, struct.pack("i", 0))


def is_locked(master: int) -> bool:
    """Return whether the peer of a master cannot be opened yet. Raises OSError: ENOTTY no master."""
    return _number(control(master, "TIOCGPTLCK", TIOCGPTLCK, bytes(4))) != 0


def pseudoterminal_number(master: int) -> int:
    """Return the number of a master's peer in its devpts. Raises OSError: ENOTTY no master."""
    return _number(control(master, "TIOCGPTN", TIOCGPTN, bytes(4)))


def is_exclusive(fd: int) -> bool:
    """Return whether a terminal is in exclusive mode. Raises OSError: ENOTTY no terminal."""
    return _number(control(fd, "TIOCGEXCL", TIOCGEXCL, bytes(4))) != 0


def set_exclusive(fd: int, on: bool) -> None:
    """Let nobody else open a terminal, but who has CAP_SYS_ADMIN, or let everybody again.

    Raises:
        OSError: ENOTTY no terminal; EBADF.

    Source: TIOCEXCL(2const).
    """
    if on:
        control(fd, "TIOCEXCL", termios.TIOCEXCL)
    else:
        control(fd, "TIOCNXCL", termios.TIOCNXCL)


def read_session(fd: int) -> int:
    """Return the id of the session that has a terminal as controlling terminal; by the master, or from inside.

    Raises:
        OSError: ENOTTY no session has it, or another one than this process's, unless it is asked by the master.

    Source: TIOCGSID(2const).
    """
    return _number(control(fd, "TIOCGSID", TIOCGSID, bytes(4)))


def read_speeds(fd: int) -> tuple[int, int]:
    """Return the input and output speed of a terminal in bits a second, also those that have no constant.

    Raises:
        OSError: ENOTTY no terminal; EBADF; EIO hung up.

    Source: TCSETS(2const), TCGETS2.
    """
    fields = _read_termios2(fd)
    return fields[_INPUT_SPEED], fields[_OUTPUT_SPEED]


def set_speeds(fd: int, input_speed: int, output_speed: int) -> None:
    """Set the input and output speed of a terminal in bits a second, to any number.

    Raises:
        ValueError: a speed is negative or has more than 32 bits.
        OSError: as read_speeds.

    Source: TCSETS(2const), TCSETS2 and BOTHER.
    """
    fields = _read_termios2(fd)
    cleared = fields[_CONTROL_FLAGS] & ~(_SPEED_BITS | _SPEED_BITS << _INPUT_SHIFT)
    fields[_CONTROL_FLAGS] = cleared | _BOTHER | _BOTHER << _INPUT_SHIFT
    fields[_INPUT_SPEED], fields[_OUTPUT_SPEED] = input_speed, output_speed
    try:
        stored = struct.pack(_TERMIOS2, *fields)
    except struct.error:
        raise ValueError(f"speeds {input_speed} and {output_speed} are not both numbers of 32 bits") from None
    with sigttou_blocked():
        control(fd, "TCSETS2", TCSETS2, stored)


def _read_termios2(fd: int) -> list[Any]:
    stored = control(fd, "TCGETS2", TCGETS2, bytes(struct.calcsize(_TERMIOS2)))
    assert isinstance(stored, bytes)
    return list(struct.unpack(_TERMIOS2, stored))


def _number(stored: int | bytes) -> int:
    assert isinstance(stored, bytes)
    (number,) = struct.unpack("i", stored)
    return int(number)


def open_peer(master: int, flags: int) -> int:
    """Open the peer of a master by the master itself, in whatever devpts it is, and return the descriptor.

    Raises:
        OSError: EIO the peer is locked; ENOTTY no master.
        NotPseudoterminalError: before Linux 4.13, the path of the peer is something else.
    """
    index = pseudoterminal_number(master)
    try:
        peer = control(master, "TIOCGPTPEER", TIOCGPTPEER, flags | os.O_CLOEXEC)
        assert isinstance(peer, int)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
            raise
        peer = os.open(f"/dev/pts/{index}", flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        check_peer(peer, index)
    except BaseException:
        os.close(peer)
        raise
    return peer
