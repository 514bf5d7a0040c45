"""Small filters for one system call, and what is told of calls under them."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from kernelproof.impl._syscalls import seccomp as calls
from kernelproof.impl._syscalls.prctl import PR_SET_NO_NEW_PRIVS, prctl
from kernelproof.impl.libcontainer.security.actions import ALLOW, ERRNO
from kernelproof.impl.libcontainer.security.architectures import native_architecture
from kernelproof.impl.libcontainer.security.bpf import EQUAL, NUMBER_OFFSET, Code

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen

RETURN_ALLOW = b"\x06\0\0\0\0\0\xff\x7f"
PROBED = "sched_yield"  # nothing in an interpreter calls it, and os raises what it gives


def number_of(name: str) -> int:
    """The number of a system call here."""
    return native_architecture().numbers()[name]


def filter_of(action: int, *names: str) -> bytes:
    """A program that returns an action for some calls and allows all others."""
    code = Code()
    allow, hit = code.ret(ALLOW), code.ret(action)
    label = allow
    for name in names or (PROBED,):
        label = code.jump(EQUAL, number_of(name), hit, label)
    code.load(NUMBER_OFFSET, label)
    return code.words()


def install(action: int, *names: str, flags: int = 0) -> int:
    """Have a filter in force for the calling process."""
    return calls.set_filter(filter_of(action, *names), flags)


def install_all(*actions: int) -> None:
    """Have several filters in force, the first one first."""
    for action in actions:
        install(action)


def long_program(instructions: int) -> bytes:
    """A program of many instructions that allows everything."""
    load = b"\x20\0\0\0\0\0\0\0"
    return load * (instructions - 1) + RETURN_ALLOW


def probe(seen: Seen) -> str:
    """What the probed call gives."""
    return seen.errno_of(os.sched_yield)


def forbid_new_privileges() -> None:
    """Set no_new_privs."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def no_core() -> None:
    """Have no core written when a filter kills the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def errno_action(number: int) -> int:
    """The action that gives an errno."""
    return ERRNO | number
