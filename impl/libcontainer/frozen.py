"""Whether a cgroup is frozen, by the one file that says it: what every look at a container's state asks.

`impl.cgroups` answers this too, with all else that it knows; to load its 30 modules takes longer than all else that
`state` and `start` do. This is not for anything but that one question.

Source: proc_pid_mountinfo(5); cgroup-v2, "cgroup.events"; cgroup-v1/freezer-subsystem.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def is_frozen(name: str, *, proc: str = "/proc") -> bool:
    """Whether all processes of a cgroup have stopped; False where there is no such cgroup, or no freezer.

    Args:
        name: its path from the mount point of each hierarchy.
        proc: where procfs is.

    Raises:
        OSError: no procfs.
    """
    with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    for path, is_second in freezers(text):
        said = _read(f"{path}/{name}/{'cgroup.events' if is_second else 'freezer.state'}")
        if said is not None:
            return "frozen 1" in said.split("\n") if is_second else said.strip() == "FROZEN"
    return False


def freezers(mountinfo: str) -> Iterator[tuple[str, bool]]:
    """The mount points of hierarchies that can freeze, as mountinfo lists them, and whether each is of version 2."""
    for line in mountinfo.split("\n"):
        front, _, back = line.partition(" - ")
        words = back.split(" ")
        is_second = words[0] == "cgroup2"
        if is_second or (words[0] == "cgroup" and "freezer" in words[-1].split(",")):
            yield unescape(front.split(" ")[4]), is_second


def unescape(path: str) -> str:
    """A path of mountinfo as it is."""
    for escape, character in _ESCAPES if "\\" in path else ():
        path = path.replace(escape, character)
    return path


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
