"""Kinds of namespaces by the names that configurations give them; which ones a container makes, joins or shares.

Source: OCI runtime specification 1.3, config-linux.md, "Namespaces"; namespaces(7).
"""

from __future__ import annotations

from kernelproof.impl._syscalls.namespaces import CloneFlag

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Namespace

# Kind -> its flag of unshare(2), its file below /proc/PID/ns. In the order in which they are joined: mount is last, as
# paths mean something else after it.
FLAGS = {
    "user": int(CloneFlag.NEWUSER),
    "ipc": int(CloneFlag.NEWIPC),
    "uts": int(CloneFlag.NEWUTS),
    "network": int(CloneFlag.NEWNET),
    "pid": int(CloneFlag.NEWPID),
    "cgroup": int(CloneFlag.NEWCGROUP),
    "time": int(CloneFlag.NEWTIME),
    "mount": int(CloneFlag.NEWNS),
}
FILES = {
    "user": "user",
    "ipc": "ipc",
    "uts": "uts",
    "network": "net",
    "pid": "pid",
    "cgroup": "cgroup",
    "time": "time",
    "mount": "mnt",
}


def flags_of(kinds: tuple[str, ...]) -> int:
    """The flags of several kinds.

    Raises:
        LookupError: a kind that there is none of.
    """
    flags = 0
    for kind in kinds:
        flags |= FLAGS[kind]
    return flags


class Division:
    """How a container's namespaces come to be: new ones, those of a path, and the rest, which it shares.

    Attributes:
        new: kinds, in the order of FLAGS.
        joined: pairs of kind and path, in that order.
    """

    __slots__ = ("joined", "new")

    def __init__(self, namespaces: tuple[Namespace, ...]) -> None:
        listed = {namespace.type: namespace.path for namespace in namespaces}
        # An empty path is what Go writes for none.
        self.new = tuple(kind for kind in FLAGS if kind in listed and not listed[kind])
        self.joined = tuple((kind, path) for kind in FLAGS if (path := listed.get(kind)))

    def is_private(self, kind: str) -> bool:
        """Whether the container has one that is new or of a path."""
        return kind in self.new or any(kind == joined for joined, _ in self.joined)
