"""Results on disk: where a file goes and how it replaces an older one without a moment in between."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from kernelproof.conformance.report.records import Results

# A name given by a guest's kernel must not climb out of the folder.
_KERNEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}")


def results_path(folder: Path, kernel: str, *, whole: bool) -> Path:
    """Return where the results of `kernel` go: `<folder>/<kernel>.json`, for a part of a run `<folder>/selected/`.

    Raises:
        ValueError: The kernel's name can't be a file's name.
    """
    if not _KERNEL_NAME.fullmatch(kernel):
        raise ValueError(f"name of a kernel: {kernel!r} is not letters, digits and ._+~-; give the kernel another name")
    return (folder if whole else folder / "selected") / f"{kernel}.json"


def write_results(folder: Path, results: Results) -> Path:
    """Write a results file whole or not at all, and return its path.

    A whole run replaces the kernel's file, every other run the one below `selected/`. The file is written under a
    temporary name in the same folder, synced and renamed.

    Raises:
        OSError: EACCES, EROFS, ENOSPC: the folder can't be written; what was there before is untouched.
        ValueError: The kernel's name can't be a file's name.
    """
    path = results_path(folder, results.kernel["name"], whole=results.is_whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results.as_json(), indent=1, ensure_ascii=True) + "\n"
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    # The rename itself is data of the folder.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
