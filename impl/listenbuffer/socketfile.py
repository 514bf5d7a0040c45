"""The file of a unix socket, and whose it is to remove.

Source: unix(7), NOTES (the file stays after the last close).
"""

from __future__ import annotations

import os


class Owned:
    """A unix socket's file, as it was when it was bound; the last owner removes it, if it is still that one.

    A relative path is kept as an absolute one: the working directory may be another one at the end.
    """

    def __init__(self, path: str, identity: tuple[int, int] | None = None) -> None:
        self.path = path if path.startswith("/") else os.path.join(os.getcwd(), path)
        if identity is None:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
        self.identity = identity

    def remove(self) -> bool:
        """Remove the file if it is still the same; return whether it was."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        if (status.st_dev, status.st_ino) != self.identity:
            return False
        os.unlink(self.path)
        return True
