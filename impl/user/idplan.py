"""Give a new user namespace its ID maps: what is to be written, or which program is to be asked, and whether it may.

The kernel takes one write for each map, and answers EINVAL or EPERM to everything it dislikes. So the steps are made
first, as values that can be printed; a map that would be refused is an error here, which says why.

    unprivileged, one's own id only      deny setgroups, write a map of one line
    unprivileged, subordinate ids        newuidmap and newgidmap, which are privileged and check /etc/subuid
    CAP_SETUID and CAP_SETGID outside    write the maps
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from kernelproof.impl.user.errors import IdMapError
from kernelproof.impl.user.idmap import IdMap
from kernelproof.impl.user.records import SubordinateRange
from kernelproof.impl.user.subid import is_subordinate


class WriteFile(NamedTuple):
    """Write a file of /proc in one go."""

    path: str
    text: str

    def describe(self) -> str:
        """Return the step as a line of text."""
        return f"write {self.text!r} to {self.path}"


class RunProgram(NamedTuple):
    """Run a privileged helper."""

    argv: tuple[str, ...]

    def describe(self) -> str:
        """Return the step as a line of text."""
        return f"run {' '.join(self.argv)}"


Step: TypeAlias = WriteFile | RunProgram


class Writer(NamedTuple):
    """Who gives the maps."""

    uid: int  # effective, in the parent user namespace
    gid: int
    is_capable: bool  # has CAP_SETUID and CAP_SETGID in the parent user namespace
    subuids: tuple[SubordinateRange, ...] = ()
    subgids: tuple[SubordinateRange, ...] = ()


def newuidmap_problems(id_map: IdMap, ranges: Sequence[SubordinateRange], own_id: int) -> tuple[str, ...]:
    """Return why newuidmap (or newgidmap) would refuse a map; nothing if it would not.

    Every extent has to lie in the caller's subordinate ranges, or be the caller's own id, one long. That holds for
    root too.

    Source: newuidmap(1), DESCRIPTION.
    """
    return tuple(
        f"extent ({extent}): ids {extent.outside} to {extent.outside + extent.length - 1} are not all subordinate to "
        f"the caller"
        for extent in id_map
        if not (extent.length == 1 and extent.outside == own_id)
        and not is_subordinate(ranges, extent.outside, extent.length)
    )


def plan_id_maps(
    pid: int,
    uid_map: IdMap,
    gid_map: IdMap,
    writer: Writer,
    *,
    parent_uid_map: IdMap | None = None,
    parent_gid_map: IdMap | None = None,
    proc: str = "/proc",
    page_bytes: int = 4096,
) -> tuple[Step, ...]:
    """Return the steps that give the user namespace of a process its maps.

    Args:
        pid: a process in the new namespace, in the caller's PID namespace.
        uid_map: ids inside, and outside as the caller sees them.
        gid_map: likewise.
        writer: who takes the steps.
        parent_uid_map: map of the caller's own user namespace, to split extents at its borders; None is the
            initial namespace, where all ids are mapped.
        parent_gid_map: likewise.
        proc: where the proc filesystem is.
        page_bytes: size of a page; a map's text must be shorter.

    Raises:
        IdMapError: the kernel or the helper would refuse a map; all reasons at once.

    Source: user_namespaces(7), Defining user and group ID mappings; newuidmap(1).
    """
    whole = IdMap.identity()
    maps = (uid_map.split_at(parent_uid_map or whole), gid_map.split_at(parent_gid_map or whole))
    texts = [each.check_writable(page_bytes) for each in maps]
    uid_step, gid_step = (WriteFile(f"{proc}/{pid}/{name}", text) for name, text in zip(_FILES, texts, strict=True))
    if writer.is_capable:
        return uid_step, gid_step
    if _is_own(maps[0], writer.uid) and _is_own(maps[1], writer.gid):
        # Else a process could drop a group that denies it something.
        return WriteFile(f"{proc}/{pid}/setgroups", "deny"), uid_step, gid_step
    problems = [
        *newuidmap_problems(maps[0], writer.subuids, writer.uid),
        *newuidmap_problems(maps[1], writer.subgids, writer.gid),
    ]
    if problems:
        raise IdMapError("; ".join(problems))
    return tuple(
        RunProgram((program, str(pid), *(str(number) for extent in each for number in extent)))
        for program, each in zip(("newuidmap", "newgidmap"), maps, strict=True)
    )


_FILES = ("uid_map", "gid_map")


def _is_own(id_map: IdMap, number: int) -> bool:
    return len(id_map) == 1 and id_map[0].length == 1 and id_map[0].outside == number


def perform(step: Step) -> None:
    """Take one step of a plan.

    Raises:
        OSError: EPERM (the map was written before, a capability is missing, an id is not mapped in the parent),
            EINVAL (the kernel dislikes the map), ENOENT (the process or the program is gone).
        IdMapError: the program refused; with what it said.
    """
    if isinstance(step, WriteFile):
        fd = os.open(step.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, step.text.encode("ascii"))
        except OSError as error:
            error.add_note(step.describe())
            raise
        finally:
            os.close(fd)
        return
    done = subprocess.run(step.argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    if done.returncode:
        said = done.stderr.decode("utf-8", "backslashreplace").strip()[:1000]
        raise IdMapError(f"{step.describe()}: exit status {done.returncode}: {said}")


def read_id_map(pid: int | str = "self", kind: str = "uid", *, proc: str = "/proc") -> IdMap:
    """Return the uid or gid map of a process's user namespace.

    Raises:
        OSError: ENOENT no such process; EACCES.
        IdMapError: the text is no map.
    """
    with open(f"{proc}/{pid}/{kind}_map", encoding="ascii") as file:
        return IdMap.parse(file.read())
