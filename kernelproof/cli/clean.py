"""`kernelproof clean`: give the disc space back."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.errors import ProvisionError


def measure(folder: Path) -> int:
    """Bytes on the disc below a folder; what vanishes meanwhile is not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def empty(root: Path) -> None:
    """Remove what this tool keeps below `root`: moved aside first, so that no other process sees half of an entry.

    Raises:
        ProvisionError: something could not be moved or removed: EACCES, EROFS, EPERM.
    """
    try:
        for formats in sorted(root.glob("v[0-9]*")):
            aside = Path(tempfile.mkdtemp(prefix=".removed.", dir=root))
            formats.rename(aside / formats.name)
        for left in root.glob(".removed.*"):
            shutil.rmtree(left)
    except OSError as error:
        remedy = "remove it by hand, as the user it belongs to"
        raise ProvisionError(
            "empty cache", str(error.filename or root), error.strerror or str(error), remedy
        ) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--dry-run`."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")


def run(arguments: argparse.Namespace) -> int:
    """Empty the cache and say how much it was."""
    root = default_cache_root()
    size = measure(root)
    if not arguments.dry_run:
        empty(root)
    print(f"{'would remove' if arguments.dry_run else 'removed'} {size / 1e6:.0f} MB from {root}")
    return 0
