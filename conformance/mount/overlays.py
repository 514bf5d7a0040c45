"""An overlay for a test: its layers on one filesystem, filled before they are mounted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernelproof.impl import mount

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = ("lower", "second", "upper", "work", "merged")


class Overlay:
    """Directories of an overlay on one filesystem, which a test fills before it mounts them."""

    def __init__(self, tree: Path) -> None:
        for name in LAYERS:
            (tree / name).mkdir()
        self.tree = tree
        self.lower, self.second, self.upper, self.work, self.merged = (tree / name for name in LAYERS)

    def mount(self, *options: str) -> None:
        """Mount the lower and the upper layer by way of the library."""
        with mount.mount_overlay([self.lower], upper=self.upper, work=self.work, options=options) as made:
            made.attach(self.merged)

    def data(self, *options: str) -> str:
        """The same as data of mount(2)."""
        words = (f"lowerdir={self.lower}", f"upperdir={self.upper}", f"workdir={self.work}", *options)
        return ",".join(words)


def xattrs(path: Path) -> list[str]:
    """Names of the overlay's own attributes of a file in a layer."""
    return [name for name in os.listxattr(path, follow_symlinks=False) if ".overlay." in name]
