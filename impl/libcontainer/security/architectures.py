"""System calls by name, for each machine that a filter may speak of.

The numbers stand in `numbers/NAME.txt`, one `name number` a line, taken from the kernel's own headers, which the first
line names. A file is read when a filter speaks of its machine.
"""

from __future__ import annotations

import os

# Multiplexers: one system call stands for many, by its first argument. linux/net.h and linux/ipc.h.
SOCKETCALL = {
    "socket": 1,
    "bind": 2,
    "connect": 3,
    "listen": 4,
    "accept": 5,
    "getsockname": 6,
    "getpeername": 7,
    "socketpair": 8,
    "send": 9,
    "recv": 10,
    "sendto": 11,
    "recvfrom": 12,
    "shutdown": 13,
    "setsockopt": 14,
    "getsockopt": 15,
    "sendmsg": 16,
    "recvmsg": 17,
    "accept4": 18,
    "recvmmsg": 19,
    "sendmmsg": 20,
}
IPC = {
    "semop": 1,
    "semget": 2,
    "semctl": 3,
    "semtimedop": 4,
    "msgsnd": 11,
    "msgrcv": 12,
    "msgget": 13,
    "msgctl": 14,
    "shmat": 21,
    "shmdt": 22,
    "shmget": 23,
    "shmctl": 24,
}
MULTIPLEXERS = (("socketcall", SOCKETCALL), ("ipc", IPC))

X32_BIT = 0x40000000
_64BIT, _LITTLE, _N32 = 0x80000000, 0x40000000, 0x20000000


class Architecture:
    """A machine and calling convention.

    Attributes:
        name: as in a configuration, such as SCMP_ARCH_X86_64.
        audit: AUDIT_ARCH number by which the kernel tells it, linux/audit.h.
        wide: whether arguments have 64 bits.
        little: whether the low half of one comes first.
        table: name of the file of numbers.
    """

    __slots__ = ("_numbers", "audit", "little", "name", "table", "wide")

    def __init__(self, name: str, audit: int, table: str, *, wide: bool) -> None:
        self.name = name
        self.audit = audit
        self.table = table
        self.wide = wide
        self.little = bool(audit & _LITTLE)
        self._numbers: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Architecture({self.name})"

    def numbers(self) -> dict[str, int]:
        """The numbers of its system calls by name; nobody changes it.

        Raises:
            OSError: the file that came with this package can't be read.
        """
        if not self._numbers:
            self._numbers = read_numbers(self.table)
        return self._numbers


_FOLDER = os.path.join(os.path.dirname(__file__), "numbers")


def parse_numbers(text: str) -> dict[str, int]:
    """Return a table's numbers by name: `name number` a line, `#` begins a comment line.

    Raises:
        ValueError: another line.
    """
    words = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name: int(number) for name, number in words}


def read_numbers(table: str, folder: str = _FOLDER) -> dict[str, int]:
    """Read a table by its name; raises OSError where there is none, and as `parse_numbers`."""
    with open(os.path.join(folder, f"{table}.txt"), encoding="ascii") as file:
        return parse_numbers(file.read())


# As linux/elf-em.h numbers machines, with the bits of linux/audit.h. x32 has no number of its own: a bit of the system
# call's tells it. Arguments of x32 and N32 programs are 32 bits wide as C sees them.
ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("SCMP_ARCH_X86", 3 | _LITTLE, "x86", wide=False),
        Architecture("SCMP_ARCH_X86_64", 62 | _LITTLE | _64BIT, "x86_64", wide=True),
        Architecture("SCMP_ARCH_X32", 62 | _LITTLE | _64BIT, "x32", wide=False),
        Architecture("SCMP_ARCH_ARM", 40 | _LITTLE, "arm", wide=False),
        Architecture("SCMP_ARCH_AARCH64", 183 | _LITTLE | _64BIT, "aarch64", wide=True),
        Architecture("SCMP_ARCH_MIPS", 8, "mips", wide=False),
        Architecture("SCMP_ARCH_MIPS64", 8 | _64BIT, "mips64", wide=True),
        Architecture("SCMP_ARCH_MIPS64N32", 8 | _64BIT | _N32, "mips64n32", wide=False),
        Architecture("SCMP_ARCH_MIPSEL", 8 | _LITTLE, "mips", wide=False),
        Architecture("SCMP_ARCH_MIPSEL64", 8 | _LITTLE | _64BIT, "mips64", wide=True),
        Architecture("SCMP_ARCH_MIPSEL64N32", 8 | _LITTLE | _64BIT | _N32, "mips64n32", wide=False),
        Architecture("SCMP_ARCH_PPC", 20, "ppc", wide=False),
        Architecture("SCMP_ARCH_PPC64", 21 | _64BIT, "ppc64", wide=True),
        Architecture("SCMP_ARCH_PPC64LE", 21 | _LITTLE | _64BIT, "ppc64", wide=True),
        Architecture("SCMP_ARCH_S390", 22, "s390", wide=False),
        Architecture("SCMP_ARCH_S390X", 22 | _64BIT, "s390x", wide=True),
        Architecture("SCMP_ARCH_PARISC", 15, "parisc", wide=False),
        Architecture("SCMP_ARCH_PARISC64", 15 | _64BIT, "parisc64", wide=True),
        Architecture("SCMP_ARCH_RISCV64", 243 | _LITTLE | _64BIT, "riscv64", wide=True),
        Architecture("SCMP_ARCH_LOONGARCH64", 258 | _LITTLE | _64BIT, "loongarch64", wide=True),
        Architecture("SCMP_ARCH_M68K", 4, "m68k", wide=False),
        Architecture("SCMP_ARCH_SH", 42 | _LITTLE, "sh", wide=False),
        Architecture("SCMP_ARCH_SHEB", 42, "sh", wide=False),
    )
}

# Machine as uname(2) names it -> architecture of its own programs.
_NATIVE = {
    "x86_64": "X86_64",
    "i386": "X86",
    "i686": "X86",
    "armv6l": "ARM",
    "armv7l": "ARM",
    "aarch64": "AARCH64",
    "mips": "MIPS",
    "mips64": "MIPS64",
    "ppc": "PPC",
    "ppc64": "PPC64",
    "ppc64le": "PPC64LE",
    "s390": "S390",
    "s390x": "S390X",
    "parisc": "PARISC",
    "parisc64": "PARISC64",
    "riscv64": "RISCV64",
    "loongarch64": "LOONGARCH64",
    "m68k": "M68K",
    "sh4": "SH",
}


def native_architecture(machine: str | None = None) -> Architecture:
    """Return the architecture of a machine's own programs; default is this machine.

    Raises:
        LookupError: the machine is not known.
    """
    machine = os.uname().machine if machine is None else machine
    name = _NATIVE.get(machine)
    if name is None:
        raise LookupError(f"no system call table for the machine {machine!r}; known: {', '.join(_NATIVE)}")
    return ARCHITECTURES[f"SCMP_ARCH_{name}"]
