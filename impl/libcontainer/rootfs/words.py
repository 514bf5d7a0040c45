"""Words of a mount's options as the OCI specification has them: flags, attributes of trees, data, and its extensions.

    >>> wanted = parse_words(("nosuid", "rro", "size=64m", "nofail"))
    >>> wanted.options.data
    'size=64m,nofail'

fstab's words for programs mean nothing here: what is not in the specification's list goes to the filesystem.

Source: OCI runtime specification, config.md, "Linux mount options".
"""

from __future__ import annotations

from kernelproof.impl._syscalls.mount import MountFlag
from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.mount.errors import OptionError
from kernelproof.impl.mount.options import PROPAGATION_WORDS, Options, parse_options

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from functools import lru_cache
else:
    from kernelproof.impl._syscalls.unwinding import lru_cache

FLAG_WORDS = frozenset((*names.MOUNT_FLAGS, *names.PROPAGATIONS))
TREE_WORDS = frozenset(names.MOUNT_RECURSIVE)
_KNOWN = FLAG_WORDS | TREE_WORDS


class Wanted:
    """What the words of one mount ask for.

    Attributes:
        options: flags, attributes, propagation and data.
        copy_up: the tmpfs begins with what the directory holds.
        mapped: "idmap", "ridmap" or "".
        is_bind: whether something that is there is mounted a second time, whatever the type says.
        is_remount: whether the flags of what is mounted there are changed.
    """

    __slots__ = ("copy_up", "is_bind", "is_remount", "mapped", "options")

    def __init__(self, options: Options, copy_up: bool, mapped: str) -> None:
        self.options = options
        self.copy_up = copy_up
        self.mapped = mapped
        self.is_bind = bool(options.flags & MountFlag.BIND)
        self.is_remount = bool(options.flags & MountFlag.REMOUNT)


def parse_words(words: Iterable[str]) -> Wanted:
    """Take the words of one mount apart; of two that contradict each other the later one holds.

    Raises:
        OptionError: a bind with data for a filesystem; a copy or a map of owners where there can be none.
    """
    return _parse(tuple(words))


@lru_cache(maxsize=64)  # a plan asks, and then its operation
def _parse(words: tuple[str, ...]) -> Wanted:
    given = [word for word in words if word]
    data = [word for word in given if word not in _KNOWN and word not in names.MOUNT_EXTENSIONS]
    parsed = parse_options(word for word in given if word in _KNOWN)
    mapped = next((word for word in reversed(given) if word in ("idmap", "ridmap")), "")
    options = parsed._replace(data=",".join(data), userspace=(), words=(*parsed.words, *data))
    wanted = Wanted(options, "tmpcopyup" in given, mapped)
    if wanted.is_bind and data:
        raise OptionError(f"a bind mount has no filesystem of its own to take {options.data!r}")
    if wanted.mapped and not wanted.is_bind:
        raise OptionError(f"{wanted.mapped} maps the owners of a bind mount; bind or rbind is not among the options")
    if wanted.copy_up and wanted.is_bind:
        raise OptionError("tmpcopyup fills a new tmpfs; a bind mount shows what is there already")
    return wanted


def parse_propagation(word: str) -> MountFlag:
    """Return the flags of a type of propagation.

    Raises:
        OptionError: there is no such type.
    """
    if word not in PROPAGATION_WORDS:
        raise OptionError(f"no type of propagation: {word!r}; there are {', '.join(PROPAGATION_WORDS)}")
    return PROPAGATION_WORDS[word]
