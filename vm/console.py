"""What a machine says on its serial line, and how guest text is shown.

The lines go to a memory file without a name, so nothing is left behind however the host ends.
"""

from __future__ import annotations

import os
import weakref

LIMIT = 8 * 1024 * 1024  # bytes held; the older part is forgotten
TAIL = 256 * 1024  # bytes shown with an error: a panic with all tasks takes about 60 KiB


def escape_text(data: bytes | str) -> str:
    """Text that can't do anything to a terminal: what is not printable, but for tab and newline, is a backslash escape.

    Args:
        data: Bytes are read as UTF-8; what is no UTF-8 is escaped as well. A carriage return before a newline goes.
    """
    text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    return "\n".join(
        line if line.isprintable() else _escape_line(line) for line in text.replace("\r\n", "\n").split("\n")
    )


def _escape_line(line: str) -> str:
    return "".join(
        character
        if character == "\t" or character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in line
    )


class Console:
    """A memory file that QEMU appends to."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(f"kernelproof-{name}", os.MFD_CLOEXEC)
        self._forgotten = False
        self._close = weakref.finalize(self, os.close, self.descriptor)

    @property
    def path(self) -> str:
        """By which a child of this process opens it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def read(self, limit_bytes: int = TAIL) -> bytes:
        """The last bytes, as the guest wrote them."""
        size = os.fstat(self.descriptor).st_size
        return os.pread(self.descriptor, limit_bytes, max(0, size - limit_bytes))

    def text(self, limit_bytes: int = TAIL) -> str:
        """The last bytes, safe to show; says so when there were more."""
        more = self._forgotten or os.fstat(self.descriptor).st_size > limit_bytes
        return ("[earlier lines left out]\n" if more else "") + escape_text(self.read(limit_bytes))

    def trim(self) -> None:
        """Forget all when it grew past `LIMIT`; whoever appends goes on at the new end."""
        if os.fstat(self.descriptor).st_size > LIMIT:
            os.ftruncate(self.descriptor, 0)
            self._forgotten = True

    def close(self) -> None:
        """Give the memory back; a console that is forgotten does so too. A second call changes nothing."""
        self._close()
