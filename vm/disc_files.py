"""Makes and holds the files of one machine's discs, and says what is on them after a power cut."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from kernelproof.vm.discs import AFTER, LOG, Disc, plan_files
from kernelproof.vm.guest.write_log import Extent, read_extent, replay
from kernelproof.vm.memory import MIB, copy_sparse, create_memory


class DiscFiles:
    """Files without names, made for one machine, closed with it.

    Args:
        discs: The machine's discs.
        contents: Descriptors of what the discs begin with, by name; owned by the caller. A disc without is empty.

    Raises:
        OSError: no descriptors or no memory: EMFILE, ENOMEM, ENOSPC.
    """

    def __init__(self, discs: Iterable[Disc] = (), contents: Mapping[str, int] | None = None) -> None:
        self._discs = tuple(discs)
        self._files: dict[str, int] = {}
        self._close = weakref.finalize(self, _close_all, self._files)
        try:
            for file in plan_files(self._discs):
                self._files[file.name] = create_memory(file.name, file.mib * MIB)
                if file.content is not None and (source := (contents or {}).get(file.content)) is not None:
                    copy_sparse(source, self._files[file.name])
        except BaseException:
            self._close()
            raise

    @property
    def lose(self) -> bool:
        """Whether the power of one of them can be cut."""
        return any(disc.loses for disc in self._discs)

    def paths(self) -> tuple[str, ...]:
        """Where another process of this user finds the files, in their order, while they are open here."""
        return tuple(f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in self._files.values())

    def contents(self) -> dict[str, int]:
        """New descriptors of what the discs hold now, by name; the caller closes them.

        Raises:
            OSError: EMFILE.
        """
        return duplicate({disc.name: self._files[disc.name] for disc in self._discs})

    def extents(self) -> dict[str, Extent]:
        """How long the logs are at this moment.

        Raises:
            ValueError: a log is damaged.
        """
        found = {}
        for disc in self._discs:
            if disc.loses:
                found[disc.name] = read_extent(partial(_pread, self._files[disc.name + LOG]))
        return found

    def survivors(self, extents: Mapping[str, Extent]) -> dict[str, int]:
        """What a power cut at `extents` leaves on the discs that lose, by name; the caller closes the descriptors.

        The files are not good for a machine after: `NAME-after` is what is returned.

        Raises:
            ValueError: a log is damaged or full.
            OSError: no memory for what survived: ENOSPC, ENOMEM.
        """
        for name, extent in extents.items():
            replay(self._files[name + LOG], self._files[name + AFTER], extent)
        return duplicate({name: self._files[name + AFTER] for name in extents})

    def close(self) -> None:
        """Give the files back; a second call changes nothing."""
        self._close()


def duplicate(descriptors: Mapping[str, int]) -> dict[str, int]:
    """New descriptors of the same files.

    Raises:
        OSError: EMFILE.
    """
    made: dict[str, int] = {}
    try:
        for name, descriptor in descriptors.items():
            made[name] = os.dup(descriptor)
    except BaseException:
        _close_all(made)
        raise
    return made


def save_contents(contents: Mapping[str, int], folder: Path) -> None:
    """Write what discs hold below a folder, holes left out.

    Raises:
        OSError: as for writing: ENOSPC, EDQUOT, EACCES.
    """
    for name, descriptor in contents.items():
        with (folder / f"disc-{name}").open("wb") as target:
            copy_sparse(descriptor, target.fileno())
            os.fsync(target.fileno())


def open_contents(discs: Iterable[Disc], folder: Path) -> dict[str, int]:
    """Descriptors of what `save_contents` wrote, by name; the caller closes them.

    Raises:
        OSError: a file is not there or can't be read.
    """
    found: dict[str, int] = {}
    try:
        for disc in discs:
            found[disc.name] = os.open(folder / f"disc-{disc.name}", os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        _close_all(found)
        raise
    return found


def _pread(descriptor: int, length: int, at: int) -> bytes:
    return os.pread(descriptor, length, at)


def _close_all(files: Mapping[str, int]) -> None:
    for descriptor in files.values():
        os.close(descriptor)
