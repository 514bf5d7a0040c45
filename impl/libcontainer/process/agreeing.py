"""ID maps of a user namespace that is joined by its path: it has them already, and they are not changed.

Engines give them in the configuration all the same. Then they must be those of the namespace: what is made for the
container by the configuration's numbers would else belong to somebody else.

Source: OCI runtime specification 1.3, config-linux.md, "User namespace mappings"; user_namespaces(7), "Defining user
and group ID mappings".
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.operations import Operation, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelproof.impl.libcontainer.config.records import IdMapping

Range = tuple[int, int, int]  # first ID inside, first ID outside, how many


class CompareIdMaps(Operation):
    """Compares the maps of the process's user namespace with those that the configuration has."""

    __slots__ = ("gid_mappings", "uid_mappings")
    stage = "host"
    gid_mappings: tuple[IdMapping, ...]
    uid_mappings: tuple[IdMapping, ...]

    def describe(self) -> str:
        """What will happen."""
        return "compare the ID maps of the joined user namespace with the configuration's"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            ValueError: they differ.
            OSError: ESRCH: the process is gone.
        """
        pid = site.found["pid"]
        for file, mappings in (("uid_map", self.uid_mappings), ("gid_map", self.gid_mappings)):
            with open(f"/proc/{pid}/{file}", encoding="ascii") as lines:
                theirs = join_ranges(read_ranges(lines))
            asked = join_ranges([(one.container_id, one.host_id, one.size) for one in mappings])
            if mappings and asked != theirs:
                key = file[:3] + "Mappings"
                raise ValueError(
                    f"linux.{key} {shown(asked)}: the user namespace that is joined has {shown(theirs)}; leave them out"
                )


def read_ranges(lines: Iterable[str]) -> list[Range]:
    """The ranges of a map file."""
    found = []
    for line in lines:
        inside, outside, count = map(int, line.split())
        found.append((inside, outside, count))
    return found


def join_ranges(ranges: list[Range]) -> list[Range]:
    """The same in order, with ranges that go on where another ends made one.

    >>> join_ranges([(10, 110, 5), (0, 100, 10)])
    [(0, 100, 15)]
    """
    joined: list[Range] = []
    for inside, outside, count in sorted(ranges):
        if joined:
            first, other, size = joined[-1]
            if first + size == inside and other + size == outside:
                joined[-1] = (first, other, size + count)
                continue
        joined.append((inside, outside, count))
    return joined


def shown(ranges: list[Range]) -> str:
    """Ranges for people."""
    return ", ".join(f"{inside} is {outside} ({count})" for inside, outside, count in ranges) or "nothing"
