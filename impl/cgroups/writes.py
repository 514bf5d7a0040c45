"""Writes to interface files as values: planned, printed, done in order, undone if one fails. Pure but `apply`."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import CgroupError, LimitError, NoControllerError
from kernelproof.impl.cgroups.remedies import remedy_of

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NamedTuple, Protocol, TypeAlias

    class Files(Protocol):
        """The interface files of one cgroup."""

        def read(self, file: str) -> str:
            """Return the text. Raises OSError: ENOENT and what else read(2) refuses."""

        def write(self, file: str, value: str) -> None:
            """Write the text at once. Raises OSError."""
else:
    from kernelproof.impl._syscalls.named import NamedTuple

Reader: TypeAlias = "Callable[[str], str | None]"  # the text of an interface file, None if there is no such file


class Write(NamedTuple):
    """One write to an interface file.

    Attributes:
        file: its name.
        value: the text.
        limit: the member of `Limits` that it is for.
        undo: what to write if a later write fails; None: nothing, as the file can't take its old text back.
    """

    file: str
    value: str
    limit: str
    undo: str | None = None

    def describe(self) -> str:
        """The write as text: "memory.max: 67108864"."""
        return f"{self.file}: {self.value}"


def need(read: Reader, file: str, limit: str) -> str:
    """The current text of a file that a limit needs.

    Raises:
        NoControllerError: this cgroup has no such file.
    """
    text = read(file)
    if text is None:
        raise NoControllerError(
            f"{limit}: this cgroup has no {file}: the kernel lacks it, or no ancestor enables its controller"
        )
    return text


def refuse(limits: Mapping[str, object], names: Iterable[str], version: int) -> None:
    """Raises: LimitError: one of these limits is asked for, and the version has no such thing."""
    for name in names:
        if limits.get(name) is not None:
            raise LimitError(name, limits[name], f"version {version} of cgroups has no such limit")


def in_order(raising: Iterable[Write], lowering: Iterable[Write]) -> list[Write]:
    """Writes of limits that bound each other: those that raise go first, the outermost of them first."""
    return [*raising, *lowering]


def apply(files: Files, writes: Iterable[Write]) -> None:
    """Do writes in order; if one fails, undo those that were done, the last first.

    Raises:
        OSError: the write that failed, with a note of file, value and limit, and notes of what could not be undone.
    """
    done: list[Write] = []
    for write in writes:
        try:
            files.write(write.file, write.value)
        except OSError as error:
            error.add_note(f"writing {write.value!r} to {write.file} for {write.limit}")
            if remedy := remedy_of(error.errno):
                error.add_note(remedy)
            _undo(files, done, error)
            raise
        done.append(write)


def _undo(files: Files, done: list[Write], error: OSError | CgroupError) -> None:
    for write in reversed(done):
        if write.undo is None:
            error.add_note(f"{write.file} stays as written: {write.value!r}")
            continue
        try:
            files.write(write.file, write.undo)
        except OSError as second:
            error.add_note(
                f"{write.file} stays as written: {write.value!r}; its old {write.undo!r} was refused: {second}"
            )
