"""Numbers of system calls that a libc may not name, by machine.

This is not a list of all calls: a call that glibc or musl exports is called by its name, and its row is here only
if one of the two lacks it. Two columns are enough for three machines, as aarch64 and riscv64 share the kernel's
generic table (include/uapi/asm-generic/unistd.h); x86-64 has its own (arch/x86/entry/syscalls/syscall_64.tbl).
From 424 on, a call has the same number on every machine.
"""

from __future__ import annotations

import os
import sys

# machine as uname(2) names it -> column in _NUMBERS
_COLUMNS = {"x86_64": 0, "aarch64": 1, "riscv64": 1}

_NUMBERS = {
    #                  x86-64, generic
    "setresuid": (117, 147),  # the raw calls below change one thread; libc's change the whole process
    "setresgid": (119, 149),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setgroups": (116, 159),
    "capget": (125, 90),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "bpf": (321, 280),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "ioprio_set": (251, 30),
    "ioprio_get": (252, 31),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "sched_setattr": (314, 274),
    "sched_getattr": (315, 275),
    "seccomp": (317, 277),
    "close_range": (436, 436),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "statx": (332, 291),
    "getcwd": (79, 17),  # libc's refuses a directory outside the root
    "sched_setscheduler": (144, 119),  # musl's function refuses always
    "sched_setaffinity": (203, 122),
    "reboot": (169, 142),
    "mq_open": (240, 180),
    "prlimit64": (302, 261),
    "execveat": (322, 281),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
}

SIXTY_FOUR_BITS = sys.maxsize > 2**32
# Read once: personality(2) changes what uname(2) says, and not what calls this process makes.
_MACHINE = os.uname().machine if hasattr(os, "uname") else ""


class UnsupportedPlatformError(NotImplementedError):
    """The call exists only on Linux, or its number is not known for this machine."""


def system_call_number(name: str, machine: str | None = None, *, sixty_four_bits: bool = SIXTY_FOUR_BITS) -> int:
    """Return the number of a system call.

    Args:
        name: the kernel's name of the call.
        machine: as `uname -m` prints it; default is this machine.
        sixty_four_bits: whether the process has 64-bit pointers. A 32-bit process on a 64-bit kernel uses other
            numbers than its machine's name says.

    Raises:
        UnsupportedPlatformError: the machine is unknown, or the process has 32-bit pointers.
        LookupError: the table has no such call.
    """
    machine = _MACHINE if machine is None else machine
    column = _COLUMNS.get(machine)
    if column is None or not sixty_four_bits:
        bits = 64 if sixty_four_bits else 32
        known = ", ".join(_COLUMNS)
        raise UnsupportedPlatformError(
            f"{name}: no system call numbers for machine {machine!r} with {bits}-bit pointers (known, with 64-bit: "
            f"{known}); use a libc that exports {name}, or add a column to {__name__}"
        )
    numbers = _NUMBERS.get(name)
    if numbers is None:
        raise LookupError(f"no number on record for the system call {name!r}")
    return numbers[column]
