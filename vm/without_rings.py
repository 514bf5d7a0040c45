"""Takes io_uring(7) from a process that stands still: a fork can have no ring of its own, and must not share one.

QEMU 10.2 and later wait for all their events at a ring where they get one, and with ppoll(2) where they don't, as on a
host that forbids it.

Sources: seccomp(2); linux-doc, admin-guide/sysctl/kernel, "io_uring_disabled".
"""

from __future__ import annotations

import errno
import struct

from kernelproof.vm.first_steps import PRCTL, SECCOMP
from kernelproof.vm.tracee import Tracee

_NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS: seccomp(2) demands it of who has no privilege
_FILTER, _SPEC_ALLOW = 1, 4  # SECCOMP_SET_MODE_FILTER; the flag: no mitigation, which would slow down all of it
_IO_URING_SETUP = 425  # on all processors
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_ERRNO, _ALLOW = 0x50000, 0x7FFF0000


def pack_filter(address: int) -> bytes:
    """A `struct sock_fprog` that is to lie at `address`, with its filter behind it. Pure.

    io_uring_setup(2) gives EPERM, as where `kernel.io_uring_disabled` is 2; all else is allowed.
    """
    steps = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )
    head = struct.pack("=H6xQ", len(steps), address + 16)
    return head + b"".join(struct.pack("=HBBI", *step) for step in steps)


def take_rings(tracee: Tracee, place: int, room: int) -> None:
    """Have a process that stands still, and whatever is forked from it, do without io_uring(7), if the host lets us.

    A process that has a ring all the same is seen by its descriptors: `standing.Standing` refuses it.

    Args:
        tracee: It stands at `syscall; int3`.
        place: Address of these.
        room: Address of 48 bytes that nothing else uses.

    Raises:
        TraceeEnded: it ended.
        OSError: it can't be reached.
    """
    tracee.write(room, pack_filter(room))
    tracee.run({"rax": PRCTL, "rdi": _NO_NEW_PRIVS, "rsi": 1, "rdx": 0, "r10": 0, "r8": 0, "rip": place})
    tracee.run({"rax": SECCOMP, "rdi": _FILTER, "rsi": _SPEC_ALLOW, "rdx": room, "rip": place})
