"""What /proc tells of a process: fields of status and stat, the namespaces it is in, and its descriptors."""

from __future__ import annotations

import os
from pathlib import Path


def status_words(name: str, pid: int | str = "self") -> list[str]:
    """The words of a line of /proc/PID/status."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return lines[name].split()


def status_bits(name: str, pid: int | str = "self") -> int:
    """A line of /proc/PID/status that holds a number in hexadecimal: signals or capabilities."""
    (word,) = status_words(name, pid)
    return int(word, 16)


def signals_in(name: str, pid: int | str = "self") -> set[int]:
    """The signals of a line of /proc/PID/status: SigPnd, ShdPnd, SigBlk, SigIgn or SigCgt."""
    bits = status_bits(name, pid)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def stat_fields(pid: int | str = "self") -> list[str]:
    """The fields of /proc/PID/stat from the third one on: the name before may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def state(pid: int | str = "self") -> str:
    """The letter of a process's state: R, S, T, Z …"""
    return stat_fields(pid)[0]


def is_alive(pid: int) -> bool:
    """Whether a process has not ended: it runs, waits or is stopped."""
    return state(pid) in "RSDTt"


def parent(pid: int | str = "self") -> int:
    """The pid of a process's parent."""
    return int(stat_fields(pid)[1])


def namespace(kind: str, pid: int | str = "self") -> str:
    """What the link of a process to its namespace of a kind says, such as "uts:[4026531838]"."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def namespaces(pid: int | str = "self") -> dict[str, str]:
    """All links of a process to its namespaces."""
    return {name: namespace(name, pid) for name in sorted(os.listdir(f"/proc/{pid}/ns"))}


def open_namespace(kind: str, pid: int | str = "self") -> int:
    """A descriptor of a process's namespace of a kind."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def identity(path: str | int) -> tuple[int, int]:
    """Device and inode of a file: what identifies a namespace."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def fdinfo(fd: int | None, pid: int | str = "self") -> dict[str, str]:
    """The lines of /proc/PID/fdinfo/FD by their names."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines())


def open_flags(fd: int | None, pid: int | str = "self") -> int:
    """The O_ flags of a descriptor."""
    return int(fdinfo(fd, pid)["flags"], 8)
