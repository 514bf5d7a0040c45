"""What is seen: mounts, process status and cgroups of a container, as the kernel shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.libcontainer.box import Box
from kernelproof.conformance.libcontainer.configs import DEV, PROC

CGROUPS = Path("/sys/fs/cgroup")


class Mounted(NamedTuple):
    """A line of mountinfo: options of the mount and of the file system, propagation without numbers, type."""

    options: frozenset[str]
    propagation: list[str]
    fstype: str

    def has(self, *words: str) -> bool:
        """Whether all these are set."""
        return self.options >= set(words)

    def lacks(self, *words: str) -> bool:
        """Whether none of these is set."""
        return not self.options & set(words)


def mount_at(box: Box, place: str, *mounts: Mapping[str, object], **members: Any) -> Mounted:
    """What stands last at a place of a container with these mounts, as its own mountinfo has it."""
    said = box.said("cat", "/proc/self/mountinfo", mounts=[PROC, *([] if DEV in mounts else [DEV]), *mounts], **members)
    return mounted_at(said, place)


def mounted_at(mountinfo: str, place: str) -> Mounted:
    """What stands last at a place."""
    line = [line for line in mountinfo.splitlines() if line.split()[4] == place][-1]
    before, _, after = line.partition(" - ")
    fstype, _, of_fs = after.split(" ", 2)
    fields = before.split()
    words = [*fields[5].split(","), *of_fs.split(",")]
    propagation = [field.partition(":")[0] for field in fields[6:]]
    return Mounted(frozenset(words), propagation, fstype)


def value_of(box: Box, name: str, **process: object) -> str:
    """A line of /proc/PID/status of a program that is asked for with these members of `process`."""
    line = box.said("grep", f"^{name}:", "/proc/self/status", process=process)
    return line.partition(":")[2].replace("\t", " ").strip()


def cgroup_of(pid: int) -> Path:
    """The directory of a process's cgroup of version 2."""
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return CGROUPS / line[len("0::/") :]


def reason_of(line: str) -> str:
    """What a program of busybox says behind the last colon: the kernel's error."""
    return line.rpartition(": ")[2].strip()
