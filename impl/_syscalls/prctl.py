"""prctl(2) and personality(2): what a process may become, as bits and switches of the calling thread.

Numbers are plain integers, not enumerations: a container's start loads this module, and `enum` would be the most of
what it loads.
"""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import INT, ULONG, Call

# Of prctl(2), linux/prctl.h.
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_GET_KEEPCAPS = 7
PR_SET_KEEPCAPS = 8
PR_GET_SECCOMP = 21
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47

# What PR_CAP_AMBIENT does.
AMBIENT_IS_SET = 1
AMBIENT_RAISE = 2
AMBIENT_LOWER = 3
AMBIENT_CLEAR_ALL = 4

# Securebits; each has a companion, one bit higher, that locks it. linux/securebits.h.
SECBIT_NOROOT = 1
SECBIT_NO_SETUID_FIXUP = 4
SECBIT_KEEP_CAPS = 16
SECBIT_NO_CAP_AMBIENT_RAISE = 64

_prctl = Call("prctl", option=INT, arg2=ULONG, arg3=ULONG, arg4=ULONG, arg5=ULONG)
_personality = Call("personality", persona=ULONG)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Ask for, or change, an attribute of the calling thread.

    Args:
        option: a PR_ number.
        arg2: what the option takes, as an unsigned long; so are the further ones.

    Returns:
        What the option returns; 0 for those that only change something.

    Raises:
        OSError: EINVAL (unknown option, or arguments that it does not take), EPERM (a capability or a lock), EFAULT …
        OverflowError: an argument does not fit an unsigned long.

    Source: prctl(2), ERRORS, and the page of each option.
    """
    return _prctl(option, arg2, arg3, arg4, arg5)


def personality(persona: int) -> int:
    """Set the execution domain of the process, and return the one before; 0xffffffff only asks.

    Raises:
        OSError: EINVAL (the kernel can't).

    Source: personality(2).
    """
    return _personality(persona)
