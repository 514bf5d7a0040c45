"""One mount: a record that is the same whether mountinfo or statmount(2) was asked."""

from __future__ import annotations

from kernelproof.impl._syscalls.mount import MountAttribute

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.numbered import IntFlag


class Propagation(IntFlag):
    """What happens to mounts below a mount; the values are those of mount(2)."""

    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


# Word of mountinfo's sixth field -> attribute, in the order in which the kernel writes them (show_mnt_opts in
# fs/proc_namespace.c). No word for the time of access means strictatime.
ATTRIBUTE_WORDS = (
    ("nosuid", MountAttribute.NOSUID),
    ("nodev", MountAttribute.NODEV),
    ("noexec", MountAttribute.NOEXEC),
    ("noatime", MountAttribute.NOATIME),
    ("nodiratime", MountAttribute.NODIRATIME),
    ("relatime", MountAttribute(0)),
    ("nosymfollow", MountAttribute.NOSYMFOLLOW),
    ("idmapped", MountAttribute.IDMAP),
)
_NOT_RELATIME = MountAttribute.NOATIME | MountAttribute.STRICTATIME


class Mount(NamedTuple):
    """A mount as a process sees it.

    Paths are text; bytes that are no UTF-8 are kept as os.fsdecode keeps them. Nothing is escaped any more.

    Attributes:
        id: the mount ID; used again when the mount is gone.
        parent_id: of the mount that this one is on. It need not be in the table.
        major, minor: number of the filesystem's device (st_dev).
        root: directory or file of the filesystem that is the root of this mount; `//deleted` at its end says that it
            was removed.
        mount_point: relative to the root of the process that was asked.
        attributes: per-mount options; RELATIME is 0, and STRICTATIME is set where neither it nor NOATIME holds.
        propagation: SHARED, SLAVE, both, UNBINDABLE, or PRIVATE.
        peer_group: of a shared mount, else None.
        master: peer group that a slave receives from, else None.
        propagate_from: the nearest dominating peer group in sight, if that is not the master.
        fstype: with its subtype, as in `fuse.sshfs`.
        source: what was given to mount; "none" often stands for nothing.
        super_options: of the filesystem, so of all its mounts: `rw`, `size=64m`.
        other_options: per-mount options that this release does not know.
        other_fields: optional fields that it does not know.
        unique_id: 64 bits, never used again; None where the kernel was not asked for it.
        namespace_id: of the mount namespace; None likewise.
    """

    id: int
    parent_id: int
    major: int
    minor: int
    root: str
    mount_point: str
    attributes: MountAttribute
    propagation: Propagation
    peer_group: int | None
    master: int | None
    propagate_from: int | None
    fstype: str
    source: str
    super_options: tuple[str, ...]
    other_options: tuple[str, ...] = ()
    other_fields: tuple[str, ...] = ()
    unique_id: int | None = None
    namespace_id: int | None = None

    @property
    def mount_options(self) -> tuple[str, ...]:
        """The per-mount options in words, in the order of mountinfo."""
        return (*format_attributes(self.attributes), *self.other_options)

    @property
    def subtype(self) -> str | None:
        """`sshfs` of `fuse.sshfs`; None without one."""
        return self.fstype.partition(".")[2] or None

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written through this mount: the mount or its filesystem is read-only."""
        return bool(self.attributes & MountAttribute.RDONLY) or "ro" in self.super_options

    @property
    def is_root_deleted(self) -> bool:
        """Whether the file or directory that was bound here has been removed, as far as its name tells."""
        return self.root.endswith("//deleted")

    @property
    def optional_fields(self) -> tuple[str, ...]:
        """The optional fields of mountinfo."""
        words = (
            None if self.peer_group is None else f"shared:{self.peer_group}",
            None if self.master is None else f"master:{self.master}",
            None if self.propagate_from is None else f"propagate_from:{self.propagate_from}",
            "unbindable" if self.propagation & Propagation.UNBINDABLE else None,
        )
        return (*filter(None, words), *self.other_fields)

    # The names of 2014.
    @property
    def parent(self) -> int:
        """`parent_id`."""
        return self.parent_id

    @property
    def mountpoint(self) -> str:
        """`mount_point`."""
        return self.mount_point

    @property
    def opts(self) -> str:
        """`mount_options`, with commas."""
        return ",".join(self.mount_options)

    @property
    def optional(self) -> str:
        """`optional_fields`, with blanks."""
        return " ".join(self.optional_fields)

    @property
    def vfs_opts(self) -> str:
        """`super_options`, with commas."""
        return ",".join(self.super_options)


MountInfo = Mount  # the name of 2014


def format_attributes(attributes: MountAttribute) -> tuple[str, ...]:
    """Return per-mount attributes as mountinfo's words."""
    words = ["ro" if attributes & MountAttribute.RDONLY else "rw"]
    for word, bit in ATTRIBUTE_WORDS:
        if attributes & bit if bit else not attributes & _NOT_RELATIME:
            words.append(word)
    return tuple(words)
