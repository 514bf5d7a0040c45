"""Writes what a guest sends below one directory of the host, and nowhere else.

A guest names its files as it likes. Each part of a name is opened or made below the descriptor of the one before,
never following a symbolic link; files are created, never opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from kernelproof.vm.messages import broken

MAX_PARTS = 64
MAX_FILES = 100_000

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def split_path(path: str) -> tuple[str, ...]:
    """The parts of a relative path that a guest named; none for the empty path, which is the pulled file itself.

    Raises:
        ChannelError: absolute, with an empty, `.` or `..` part, with a NUL, too long, or too deep.
    """
    if not path:
        return ()
    parts = tuple(path.split("/"))
    if len(parts) > MAX_PARTS or any(
        part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts
    ):
        raise broken(f"a path that does not stay where it belongs: {path[:80]!r}")
    return parts


class PulledTree:
    """The files of one pull.

    Args:
        directory: Descriptor of the directory; the caller closes it.
        name: What the file or tree is called in it: one part of a path.
        limit_bytes: Of all files together.

    Raises:
        ValueError: `name` is no single part.
    """

    def __init__(self, directory: int, name: str, limit_bytes: int) -> None:
        if "/" in name or name in ("", ".", "..") or "\0" in name:
            raise ValueError(f"{name!r} is not the name of a file in a directory")
        self.files = 0
        self._directory, self._name, self._left = directory, name, limit_bytes

    @contextmanager
    def writing(self, path: str) -> Iterator[Callable[[bytes], None]]:
        """Create a file and hand out what appends to it.

        Raises:
            ChannelError: the path leaves the tree, or there are too many files or bytes.
            OSError: EEXIST, ELOOP (a part is a symbolic link), ENOTDIR, ENOSPC and what else the host refuses.
        """
        parts = (self._name, *split_path(path))
        self.files += 1
        if self.files > MAX_FILES:
            raise broken(f"more than {MAX_FILES} files in one pull")
        with ExitStack() as stack:
            folder = self._directory
            for part in parts[:-1]:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
                folder = os.open(part, _DIRECTORY, dir_fd=folder)
                stack.callback(os.close, folder)
            file = stack.enter_context(os.fdopen(os.open(parts[-1], _FILE, 0o644, dir_fd=folder), "wb"))

            def write(chunk: bytes) -> None:
                self._left -= len(chunk)
                if self._left < 0:
                    raise broken("more bytes in one pull than were allowed")
                file.write(chunk)

            yield write
