"""Filesystem contexts: fsopen(2), fsconfig(2), fsmount(2) and fspick(2), with the filesystem's own words in errors.

    with FsContext("tmpfs", source="scratch") as context:
        context.set_string("size", "64m")
        with context.create().mount(MountAttribute.NODEV) as mounted:
            mounted.attach("/scratch")

Each option is a call of its own: so no page limits them all together, and the one that is refused has a name.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENODATA, ENOENT

from kernelproof.impl._syscalls.mount import (
    FsConfig,
    FsPickFlag,
    MountAttribute,
    MountFlag,
    fsconfig,
    fsmount,
    fsopen,
    fspick,
)
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import FsContextError, LogLine, OptionError, TooLongError
from kernelproof.impl.mount.options import Options, parse_options

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from kernelproof.impl.mount.table import Path

_AT_FDCWD = -100
_NO_ATTRIBUTES = MountAttribute(0)
LONGEST_STRING = 255  # of a value, in bytes: fsconfig copies 256 with the NUL byte
_LONGEST_MESSAGE = 8192
_LEVELS = {"e": "error", "w": "warning", "i": "info"}
# Flags of the superblock: word that sets, word that clears. The kernel takes both as options without value.
_SUPER_WORDS = (
    (MountFlag.RDONLY, "ro", "rw"),
    (MountFlag.SYNCHRONOUS, "sync", "async"),
    (MountFlag.DIRSYNC, "dirsync", ""),
    (MountFlag.MANDLOCK, "mand", "nomand"),
    (MountFlag.LAZYTIME, "lazytime", "nolazytime"),
)


class FsContext:
    """A filesystem that is being set up, or set up anew; a context manager.

    Attributes:
        fd: of the context.
        fstype: the type.
        source: what was set as source, or None.
        log: what the filesystem said so far.
    """

    fd: int
    fstype: str
    source: str | None

    def __init__(self, fstype: str, *, source: Path | None = None) -> None:
        """Begin a new filesystem.

        Raises:
            OSError: ENODEV unknown type; EPERM without CAP_SYS_ADMIN; ENOSYS before Linux 5.2.
            FsContextError: the source was refused.
        """
        try:
            fd = fsopen(fstype)
        except OSError as error:
            error.add_note(f"a filesystem context for {fstype!r}: see /proc/filesystems for the types there are")
            raise
        self._begin(fd, fstype)
        if source is not None:
            try:
                self.set_string("source", os.fspath(source))
            except BaseException:
                self.close()
                raise
            self.source = os.fspath(source)

    def _begin(self, fd: int, fstype: str) -> None:
        self.fd = fd
        self.fstype = fstype
        self.source = None
        self._log: list[LogLine] = []

    @classmethod
    def pick(cls, target: Path | int) -> Self:
        """Take the filesystem of a mount, to change its options; those that are not named stay.

        Args:
            target: a mount point, links not followed, or a descriptor of one.

        Raises:
            OSError: EINVAL no mount point; ENOENT; EPERM; ENOSYS before Linux 5.2.

        Source: fspick(2).
        """
        context = cls.__new__(cls)
        if isinstance(target, int):
            fd = fspick(target, b"", FsPickFlag.CLOEXEC | FsPickFlag.EMPTY_PATH)
        else:
            fd = fspick(_AT_FDCWD, target, FsPickFlag.CLOEXEC | FsPickFlag.SYMLINK_NOFOLLOW)
        context._begin(fd, f"the filesystem at {target!r}")
        return context

    @property
    def log(self) -> tuple[LogLine, ...]:
        """What the filesystem said, in order; reading it takes it from the kernel's queue, not from here."""
        self._log += read_log(self.fd)
        return tuple(self._log)

    def set_flag(self, key: str) -> Self:
        """Set an option without value.

        Raises:
            FsContextError: EINVAL the filesystem does not know it, or not without value.
        """
        return self._configure(FsConfig.SET_FLAG, key)

    def set_string(self, key: str, value: str) -> Self:
        """Set an option with a text.

        Raises:
            FsContextError: EINVAL the filesystem refuses it.
            TooLongError: it is longer than fsconfig takes: 255 bytes.
        """
        length = len(os.fsencode(value))
        if length > LONGEST_STRING:
            raise TooLongError(
                f"fsconfig takes {LONGEST_STRING} bytes a value, and {key} of {self.fstype} has {length}"
            )
        return self._configure(FsConfig.SET_STRING, key, value)

    def set_binary(self, key: str, value: bytes) -> Self:
        """Set an option with bytes.

        Raises:
            FsContextError: EINVAL the filesystem refuses it.
        """
        return self._configure(FsConfig.SET_BINARY, key, value, len(value))

    def set_path(self, key: str, path: Path, *, dir_fd: int = _AT_FDCWD) -> Self:
        """Set an option with a path that the kernel looks up now.

        Raises:
            FsContextError: EINVAL the filesystem takes none here; ENOENT.
        """
        return self._configure(FsConfig.SET_PATH, key, path, dir_fd)

    def set_fd(self, key: str, fd: int) -> Self:
        """Set an option with an open file.

        Raises:
            FsContextError: EINVAL the filesystem takes none here; EBADF.
        """
        return self._configure(FsConfig.SET_FD, key, None, fd)

    def set_options(self, options: str | Iterable[str] | Options) -> Self:
        """Set options as for `mount -o`: those of the filesystem and of the superblock, one by one.

        Per-mount options are not among them: see `mount`.

        Raises:
            FsContextError: the first that is refused; `option` is its name.
            TooLongError: as set_string.
            OptionError: an option that asks for something else than a filesystem.
        """
        wanted = options if isinstance(options, Options) else parse_options(options)
        foreign = wanted.flags & (MountFlag.BIND | MountFlag.MOVE | MountFlag.REMOUNT)
        if foreign:
            raise OptionError(f"a filesystem context neither binds, moves nor remounts: {wanted}")
        for flag, word, opposite in _SUPER_WORDS:
            if wanted.flags & flag:
                self.set_flag(word)
            elif wanted.cleared & flag and opposite:
                self.set_flag(opposite)
        for word in wanted.data_words:
            key, equals, value = word.partition("=")
            if equals:
                self.set_string(key, unquoted(value))
            else:
                self.set_flag(key)
        return self

    def create(self, *, exclusive: bool = False) -> Self:
        """Create the filesystem's superblock, or find the one there is.

        Args:
            exclusive: only a new one (Linux 6.6).

        Raises:
            FsContextError: what the filesystem refuses: EINVAL, EBUSY, ENOENT, ENOTBLK …; the log says why.
        """
        return self._configure(FsConfig.CMD_CREATE_EXCL if exclusive else FsConfig.CMD_CREATE)

    def reconfigure(self) -> Self:
        """Give the options that were set to a filesystem that exists.

        Raises:
            FsContextError: EBUSY a file is open for writing; EINVAL an option that can't be changed.
        """
        return self._configure(FsConfig.CMD_RECONFIGURE)

    def mount(self, attributes: MountAttribute = _NO_ATTRIBUTES) -> DetachedMount:
        """Return a mount of the filesystem that is attached nowhere.

        Raises:
            FsContextError: EBUSY there is no superblock yet, or it was mounted by this context already.
        """
        return DetachedMount(self._call(lambda: fsmount(self.fd, attributes=attributes), "fsmount"), road="fsopen")

    def _configure(
        self, command: FsConfig, key: str | None = None, value: Path | bytes | None = None, aux: int = 0
    ) -> Self:
        name = command.name.lower() if key is None else f"{command.name.lower()} {key}"
        self._call(lambda: fsconfig(self.fd, command, key, value, aux), name, option=key)
        return self

    def _call(self, call: Callable[[], int | None], step: str, option: str | None = None) -> int:
        try:
            return call() or 0
        except OSError as error:
            failure = FsContextError(
                error, step=step, fstype=self.fstype, source=self.source, option=option, log=self.log
            )
            missing = self.source is not None and self.source.startswith("/") and not os.path.lexists(self.source)
            if missing and error.errno in (EINVAL, ENOENT):
                failure.add_note(f"the source does not exist: {self.source!r}")
            raise failure from error

    def fileno(self) -> int:
        """The descriptor of the context."""
        return self.fd

    def close(self) -> None:
        """Give the context up; what was mounted stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def unquoted(value: str) -> str:
    """Return a value without the quotes that keep its commas together in a list of options."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def read_log(fd: int) -> list[LogLine]:
    """Read the messages that a filesystem context holds; each is read once.

    Source: fsopen(2), "The kernel's message queue".
    """
    lines: list[LogLine] = []
    while True:
        try:
            message = os.read(fd, _LONGEST_MESSAGE)
        except OSError as error:
            if error.errno == ENODATA:
                return lines
            raise
        text = os.fsdecode(message).rstrip("\n")
        lines.append(LogLine(text[2:], _LEVELS[text[0]]) if text[:1] in _LEVELS else LogLine(text, "info"))
