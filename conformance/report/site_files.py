"""A report on disc: written whole beside its place and moved there; what others put there is never deleted.

A report knows its own files: `report-files.txt` names them. A folder that holds anything else is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

MANIFEST = "report-files.txt"
_HEAD = "files of a kernelproof report; it may be replaced by a newer one"
Exchange = Callable[[Path, Path], None]


class ForeignFilesError(ValueError):
    """The folder is there and holds files that are not of a report; says which."""


def write_site(folder: Path, files: Iterable[tuple[str, str]], exchange: Exchange) -> int:
    """Write a report and return how many files it has.

    A report that is there is replaced at once, or with a moment in between where the file system can't exchange two
    folders. Until then all is as it was.

    Args:
        folder: New, empty, or an older report.
        files: Path below the folder and text of each.
        exchange: Exchanges two folders; an OSError says that it can't.

    Raises:
        ForeignFilesError: the folder holds files of others; nothing was changed.
        OSError: EACCES, ENOSPC …: it could not be written; nothing was changed.
    """
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    names: list[str] = []
    try:
        for name in _write_all(work, files):
            names.append(name)
        text = "\n".join([_HEAD, *sorted(names), MANIFEST]) + "\n"
        (work / MANIFEST).write_text(text, "utf-8")
        names.append(MANIFEST)
        os.chmod(work, 0o755)
        check_place(folder)  # a file may have come while this was made
        _move(work, folder, exchange)
    except BaseException:
        _remove(work, names)
        raise
    return len(names)


def check_place(folder: Path) -> None:
    """See that nobody else's files would be lost.

    Raises:
        ForeignFilesError: there are some.
        OSError: the folder can't be read.
    """
    if not folder.is_symlink() and not folder.exists():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise ForeignFilesError(f"{folder}: is there and is no folder")
    own = _read_manifest(folder)
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if name not in own:
            raise ForeignFilesError(f"{folder}: holds {name}, which is not of a report")


def _read_manifest(folder: Path) -> frozenset[str]:
    try:
        lines = (folder / MANIFEST).read_text("utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return frozenset()
    return frozenset(lines[1:]) if lines[:1] == [_HEAD] else frozenset()


def _walk(folder: Path) -> Iterator[Path]:
    # Everything but folders that hold something; an empty folder is a foreign thing too.
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            yield from _walk(path)
        else:
            yield path


def _write_all(work: Path, files: Iterable[tuple[str, str]]) -> Iterator[str]:
    made = {PurePosixPath(".")}
    for name, text in files:
        parent = PurePosixPath(name).parent
        if parent not in made:
            (work / parent).mkdir(parents=True)
            made.add(parent)
        yield name
        with open(work / name, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)


def _move(work: Path, folder: Path, exchange: Exchange) -> None:
    if not folder.exists():
        os.rename(work, folder)
        return
    old = _read_manifest(folder)
    try:
        exchange(work, folder)
    except OSError:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        os.rename(folder, aside)
        try:
            os.rename(work, folder)
        except BaseException:
            os.rename(aside, folder)
            raise
        work = aside
    _remove(work, old)


def _remove(folder: Path, names: Iterable[str]) -> None:
    # By name: what anyone else put there stays, and its folder with it.
    folders = {folder}
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        folders.update(parent for parent in path.parents if parent.is_relative_to(folder))
    for path in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
