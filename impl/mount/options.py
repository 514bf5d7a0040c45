"""Mount options as fstab(5) and mount(8) have them: words to flags, and back.

    >>> options = parse_options("bind,ro,size=64m")
    >>> options.flags, options.data
    (<MountFlag.RDONLY|BIND: 4097>, 'size=64m')

Of words that contradict each other the last one wins. A word that nobody here knows belongs to the filesystem and goes
to it as data, in its place among the others. Words for programs (`nofail`, `x-systemd.automount`) are kept apart: the
kernel never sees them.
"""

from __future__ import annotations

from kernelproof.impl._syscalls.mount import MOUNT_ATTRIBUTE_ATIME
from kernelproof.impl._syscalls.mount import MountAttribute as MountAttribute
from kernelproof.impl._syscalls.mount import MountFlag as MountFlag
from kernelproof.impl.mount.errors import OptionError

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_NOTHING = MountFlag(0)

# Word -> flags that it sets, flags that it clears.
_WORDS: dict[str, tuple[MountFlag, MountFlag]] = {
    "ro": (MountFlag.RDONLY, _NOTHING),
    "rw": (_NOTHING, MountFlag.RDONLY),
    "suid": (_NOTHING, MountFlag.NOSUID),
    "nosuid": (MountFlag.NOSUID, _NOTHING),
    "dev": (_NOTHING, MountFlag.NODEV),
    "nodev": (MountFlag.NODEV, _NOTHING),
    "exec": (_NOTHING, MountFlag.NOEXEC),
    "noexec": (MountFlag.NOEXEC, _NOTHING),
    "sync": (MountFlag.SYNCHRONOUS, _NOTHING),
    "async": (_NOTHING, MountFlag.SYNCHRONOUS),
    "dirsync": (MountFlag.DIRSYNC, _NOTHING),
    "remount": (MountFlag.REMOUNT, _NOTHING),
    "mand": (MountFlag.MANDLOCK, _NOTHING),
    "nomand": (_NOTHING, MountFlag.MANDLOCK),
    "atime": (_NOTHING, MountFlag.NOATIME),
    "noatime": (MountFlag.NOATIME, _NOTHING),
    "diratime": (_NOTHING, MountFlag.NODIRATIME),
    "nodiratime": (MountFlag.NODIRATIME, _NOTHING),
    "relatime": (MountFlag.RELATIME, _NOTHING),
    "norelatime": (_NOTHING, MountFlag.RELATIME),
    "strictatime": (MountFlag.STRICTATIME, _NOTHING),
    "nostrictatime": (_NOTHING, MountFlag.STRICTATIME),
    "lazytime": (MountFlag.LAZYTIME, _NOTHING),
    "nolazytime": (_NOTHING, MountFlag.LAZYTIME),
    "symfollow": (_NOTHING, MountFlag.NOSYMFOLLOW),
    "nosymfollow": (MountFlag.NOSYMFOLLOW, _NOTHING),
    "iversion": (MountFlag.I_VERSION, _NOTHING),
    "noiversion": (_NOTHING, MountFlag.I_VERSION),
    "silent": (MountFlag.SILENT, _NOTHING),
    "loud": (_NOTHING, MountFlag.SILENT),
    "bind": (MountFlag.BIND, _NOTHING),
    "rbind": (MountFlag.BIND | MountFlag.REC, _NOTHING),
    "move": (MountFlag.MOVE, _NOTHING),
}

PROPAGATION_WORDS = {
    "shared": MountFlag.SHARED,
    "rshared": MountFlag.SHARED | MountFlag.REC,
    "private": MountFlag.PRIVATE,
    "rprivate": MountFlag.PRIVATE | MountFlag.REC,
    "slave": MountFlag.SLAVE,
    "rslave": MountFlag.SLAVE | MountFlag.REC,
    "unbindable": MountFlag.UNBINDABLE,
    "runbindable": MountFlag.UNBINDABLE | MountFlag.REC,
}

# Per-mount words -> attributes of mount_setattr(2) that they set and clear. An `r` before the word (rro, rnosuid), as
# the OCI runtime specification has it, or `=recursive` after it, as mount(8) has it, means the whole tree.
_ATIME = int(MOUNT_ATTRIBUTE_ATIME)
_ATTRIBUTE_WORDS: dict[str, tuple[MountAttribute, MountAttribute]] = {
    "ro": (MountAttribute.RDONLY, MountAttribute(0)),
    "rw": (MountAttribute(0), MountAttribute.RDONLY),
    "nosuid": (MountAttribute.NOSUID, MountAttribute(0)),
    "suid": (MountAttribute(0), MountAttribute.NOSUID),
    "nodev": (MountAttribute.NODEV, MountAttribute(0)),
    "dev": (MountAttribute(0), MountAttribute.NODEV),
    "noexec": (MountAttribute.NOEXEC, MountAttribute(0)),
    "exec": (MountAttribute(0), MountAttribute.NOEXEC),
    "nodiratime": (MountAttribute.NODIRATIME, MountAttribute(0)),
    "diratime": (MountAttribute(0), MountAttribute.NODIRATIME),
    "nosymfollow": (MountAttribute.NOSYMFOLLOW, MountAttribute(0)),
    "symfollow": (MountAttribute(0), MountAttribute.NOSYMFOLLOW),
    # The time of access is one of three values, not a bit: all of it is cleared, then the value is set.
    "noatime": (MountAttribute.NOATIME, MountAttribute(_ATIME)),
    "atime": (MountAttribute(0), MountAttribute(_ATIME)),
    "relatime": (MountAttribute(0), MountAttribute(_ATIME)),
    "norelatime": (MountAttribute.STRICTATIME, MountAttribute(_ATIME)),
    "strictatime": (MountAttribute.STRICTATIME, MountAttribute(_ATIME)),
    "nostrictatime": (MountAttribute(0), MountAttribute(_ATIME)),
}

# For mount(8), its helpers and systemd: never for the kernel.
_USERSPACE_WORDS = frozenset(
    (
        *("defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup"),
        *("_netdev", "nofail", "loop"),
    )
)
_USERSPACE_KEYS = ("comment", "helper", "loop", "offset", "sizelimit", "uhelper", "user")
# What these allow to everybody must not help anybody (mount(8)); later words undo it.
_IMPLIED = {
    "user": MountFlag.NOEXEC | MountFlag.NOSUID | MountFlag.NODEV,
    "users": MountFlag.NOEXEC | MountFlag.NOSUID | MountFlag.NODEV,
    "owner": MountFlag.NOSUID | MountFlag.NODEV,
    "group": MountFlag.NOSUID | MountFlag.NODEV,
}

PER_MOUNT_FLAGS = (
    MountFlag.RDONLY
    | MountFlag.NOSUID
    | MountFlag.NODEV
    | MountFlag.NOEXEC
    | MountFlag.NOATIME
    | MountFlag.NODIRATIME
    | MountFlag.RELATIME
    | MountFlag.STRICTATIME
    | MountFlag.NOSYMFOLLOW
)


_NOATIME, _STRICTATIME = int(MountFlag.NOATIME), int(MountFlag.STRICTATIME)
_ATIME_FLAGS = int(MountFlag.NOATIME | MountFlag.RELATIME | MountFlag.STRICTATIME)
_NUMBERS = {word: (int(sets), int(clears)) for word, (sets, clears) in _WORDS.items()}
_ATTRIBUTE_NUMBERS = {word: (int(sets), int(clears)) for word, (sets, clears) in _ATTRIBUTE_WORDS.items()}


class Options(NamedTuple):
    """What the words of an option list mean.

    Attributes:
        flags: for mount(2), without types of propagation.
        cleared: flags that a word asked to be off: `rw`, `exec`.
        propagation: types of propagation, in order; each is a step of its own, after the mount.
        data: what the filesystem gets, with commas.
        userspace: what the kernel never gets.
        attributes_set, attributes_cleared: per-mount attributes that were asked for, for mount_setattr(2).
        recursive_set, recursive_cleared: the same for the whole tree: `rro`, `nosuid=recursive`.
        words: as they were given.
    """

    flags: MountFlag = _NOTHING
    cleared: MountFlag = _NOTHING
    propagation: tuple[MountFlag, ...] = ()
    data: str = ""
    userspace: tuple[str, ...] = ()
    attributes_set: MountAttribute = MountAttribute(0)
    attributes_cleared: MountAttribute = MountAttribute(0)
    recursive_set: MountAttribute = MountAttribute(0)
    recursive_cleared: MountAttribute = MountAttribute(0)
    words: tuple[str, ...] = ()

    @property
    def data_words(self) -> tuple[str, ...]:
        """`data`, word by word."""
        return tuple(split_options(self.data))

    @property
    def is_recursive(self) -> bool:
        """Whether attributes of a whole tree are asked for."""
        return bool(self.recursive_set | self.recursive_cleared)

    def __str__(self) -> str:
        return ",".join(self.words)


def parse_options(text: str | Iterable[str]) -> Options:
    """Take a list of mount options apart.

    Args:
        text: words with commas between, or the words. A comma between double quotes or after a backslash is part of
            its word; blanks are part of it too.

    Source: mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS; fstab(5), the fourth field.
    """
    words = tuple(split_options(text) if isinstance(text, str) else (word for word in text if word))
    flags = cleared = 0  # plain numbers until the end: measured, flags take four times as long
    plain, tree = _Attributes(), _Attributes()
    propagation: list[MountFlag] = []
    data: list[str] = []
    userspace: list[str] = []
    for word in words:
        recursive, name = _attribute_word(word)
        if recursive:
            tree.add(name)
        elif name in _NUMBERS:
            sets, clears = _NUMBERS[name]
            flags, cleared = (flags | sets) & ~clears, (cleared | clears) & ~sets
            plain.add(name)
        elif word in PROPAGATION_WORDS:
            propagation.append(PROPAGATION_WORDS[word])
        elif is_userspace(word):
            userspace.append(word)
            implied = int(_IMPLIED.get(word.partition("=")[0], _NOTHING))
            flags, cleared = flags | implied, cleared & ~implied
            plain.imply(implied)
        else:
            data.append(word)
    plain.take_atime(flags, cleared)
    return Options(
        MountFlag(flags), MountFlag(cleared), tuple(propagation), ",".join(data), tuple(userspace),
        MountAttribute(plain.set), MountAttribute(plain.cleared), MountAttribute(tree.set),
        MountAttribute(tree.cleared), words,
    )  # fmt: skip


class _Attributes:
    """Attributes while words are read: the last word about an attribute holds."""

    __slots__ = ("cleared", "set")

    def __init__(self) -> None:
        self.set = 0
        self.cleared = 0

    def add(self, word: str) -> None:
        sets, clears = _ATTRIBUTE_NUMBERS.get(word, (0, 0))
        self.set = (self.set & ~clears) | sets
        # A mask of the time of access stays: the kernel demands it beside the value.
        self.cleared = (self.cleared & ~(sets & ~_ATIME)) | clears

    def take_atime(self, flags: int, cleared: int) -> None:
        # Of two flags of mount(2) the stronger one holds, whichever word came last: so it must here.
        if (flags | cleared) & _ATIME_FLAGS:
            chosen = int(MountAttribute.NOATIME) if flags & _NOATIME else 0
            chosen = int(MountAttribute.STRICTATIME) if flags & _STRICTATIME else chosen
            self.set = (self.set & ~_ATIME) | chosen
            self.cleared |= _ATIME

    def imply(self, flags: int) -> None:
        for word, bit in (("nosuid", MountFlag.NOSUID), ("nodev", MountFlag.NODEV), ("noexec", MountFlag.NOEXEC)):
            if flags & bit:
                self.add(word)


def _attribute_word(word: str) -> tuple[bool, str]:
    """Whether a word is a recursive attribute, and its plain form."""
    name, equals, scope = word.partition("=")
    if equals and name in _ATTRIBUTE_WORDS and scope in ("recursive", "vfs", "fs"):
        return scope == "recursive", name
    # relatime begins with an r and is none: `elatime` is no word.
    if word not in _WORDS and word[:1] == "r" and word[1:] in _ATTRIBUTE_WORDS:
        return True, word[1:]
    return False, word


def is_userspace(word: str) -> bool:
    """Return whether an option is for programs, and never for the kernel."""
    key, equals, _ = word.partition("=")
    return word in _USERSPACE_WORDS or word.startswith(("x-", "X-")) or bool(equals and key in _USERSPACE_KEYS)


def split_options(text: str) -> Iterator[str]:
    """Split a list at its commas, except between double quotes and after a backslash; empty words are nothing."""
    word: list[str] = []
    quoted = False
    before = ""
    for character in text:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted and before != "\\":
            if word:
                yield "".join(word)
            word = []
        else:
            word.append(character)
        before = character
    if word:
        yield "".join(word)


def format_options(options: Options) -> str:
    """Return options as a list that means the same: what contradicted itself is left out.

    Raises:
        OptionError: a flag has no word.
    """
    words = list(options.userspace)
    rest = options.flags
    # rbind before bind: it has both bits.
    for word in ("rbind", *_WORDS):
        sets, clears = _WORDS[word]
        if sets and rest & sets == sets:
            words.append(word)
            rest &= ~sets
        elif clears & options.cleared:
            words.append(word)
    if rest:
        raise OptionError(f"no word says {rest!r}")
    words += [word for step in options.propagation for word, flag in PROPAGATION_WORDS.items() if flag == step]
    words += _format_recursive(options)
    return ",".join([*words, *options.data_words])


def _format_recursive(options: Options) -> Iterator[str]:
    for word in ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "nodiratime", "diratime",
                 "nosymfollow", "symfollow"):  # fmt: skip
        sets, clears = _ATTRIBUTE_WORDS[word]
        if sets & options.recursive_set or clears & options.recursive_cleared:
            yield f"r{word}"
    if options.recursive_cleared & _ATIME:
        chosen = options.recursive_set & _ATIME
        words = {MountAttribute.NOATIME: "rnoatime", MountAttribute.STRICTATIME: "rstrictatime"}
        yield words.get(chosen, "rrelatime")


def merge_tmpfs_options(options: Iterable[str]) -> list[str]:
    """Return options of a tmpfs with each flag and key once, the last of them: the name of 2015.

    Raises:
        OptionError: a word that tmpfs does not take, or a key without value.
    """
    kept: dict[str, str] = {}
    for word in options:
        if word == "defaults":
            continue
        key = _merge_key(word)
        kept.pop(key, None)
        kept[key] = word
    return list(kept.values())


_TMPFS_KEYS = frozenset({"size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge"})


def _merge_key(word: str) -> str:
    if word in PROPAGATION_WORDS:
        return "propagation"
    if word in _WORDS:
        sets, clears = _WORDS[word]
        return str(int(sets | clears))
    key, equals, _ = word.partition("=")
    if equals and key in _TMPFS_KEYS:
        return key
    raise OptionError(f"Invalid tmpfs option {word!r}")
