"""Decides what discs a machine has, and of which files each is made. Pure.

A disc lies in memory files that nobody else has: what a clone writes ends with it. One that can lose its power keeps,
beside its content, a log of all writes and flushes in the format of the kernel's dm-log-writes; what had been flushed
can be told from it at any moment (`kernelproof.vm.guest.write_log`). The guest sees such a disc as three:

    NAME            the disc itself; its write cache is never written back unless the guest says so
    NAME-log        the log, read-only
    NAME-after      what the disc was when the machine began; a power cut is replayed onto it

Killing QEMU instead would lose nothing: what the guest wrote without a flush lies in the host's page cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LOG, AFTER = "-log", "-after"
_LOG_FACTOR = 8  # times a disc may be overwritten before its log is full; unwritten parts of it take no memory


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc of a machine.

    Args:
        name: What the guest calls it: `/dev/disc/NAME`.
        mib: Its size.
        loses: Whether its power can be cut: see above.
    """

    name: str
    mib: int
    loses: bool = False


@dataclass(frozen=True, slots=True)
class DiscFile:
    """One of the files that discs are made of.

    Args:
        name: Of the disc that shows it to the guest.
        mib: Its size.
        content: The disc whose content it begins with; None if it begins empty.
    """

    name: str
    mib: int
    content: str | None


def read_disc(row: Mapping[str, object]) -> Disc:
    """A disc from a row of data.

    Raises:
        ValueError: a member is missing, unknown or of another type.
    """
    if not {"name", "mib"} <= set(row) <= {"name", "mib", "loses"}:
        raise ValueError(f"a disc has name, mib and loses, not {sorted(row)}")
    name, mib, loses = row["name"], row["mib"], row.get("loses", False)
    if not isinstance(name, str) or type(mib) is not int or mib < 1 or not isinstance(loses, bool):
        raise ValueError(f"disc {name!r}: name is a text, mib a number, loses true or false")
    return Disc(name, mib, loses)


def plan_files(discs: Iterable[Disc]) -> tuple[DiscFile, ...]:
    """All files of `discs`, in the order in which `disc_arguments` wants their paths."""
    found: list[DiscFile] = []
    for disc in discs:
        found.append(DiscFile(disc.name, disc.mib, disc.name))
        if disc.loses:
            found.append(DiscFile(f"{disc.name}{LOG}", disc.mib * _LOG_FACTOR, None))
            found.append(DiscFile(f"{disc.name}{AFTER}", disc.mib, disc.name))
    return tuple(found)


def disc_arguments(discs: Iterable[Disc], paths: Sequence[str]) -> tuple[str, ...]:
    """QEMU's words for `discs`, whose files lie at `paths`.

    No discarding and no writing of zeroes by command: such requests are not whole in the log of older QEMUs.
    """
    discs = tuple(discs)
    where = dict(zip((file.name for file in plan_files(discs)), paths, strict=True))
    words: list[str] = []
    for disc in discs:
        content = f"driver=file,filename={where[disc.name]},locking=off"
        if not disc.loses:
            words += ["-blockdev", f"{content},node-name={disc.name}", *_device(disc.name)]
            continue
        log = f"{disc.name}{LOG}"
        file = f"driver=file,filename={where[log]},locking=off"
        after = f"driver=file,filename={where[disc.name + AFTER]},locking=off,node-name={disc.name}{AFTER}"
        logged = f"driver=blklogwrites,node-name={disc.name},file={disc.name}-content,log={log}-written"
        words += ["-blockdev", f"{content},node-name={disc.name}-content"]
        words += ["-blockdev", f"{file},node-name={log}-written", "-blockdev", logged, *_device(disc.name)]
        words += ["-blockdev", f"{file},node-name={log},read-only=on", *_device(log)]
        words += ["-blockdev", after, *_device(f"{disc.name}{AFTER}")]
    return tuple(words)


def _device(name: str) -> tuple[str, str]:
    # An error of the host's (no memory left) is the guest's error, too: stopping the machine would be a riddle.
    # Merged requests have as many segments as a write takes: the log, which adds two, would refuse them.
    options = "discard=off,write-zeroes=off,request-merging=off,werror=report,rerror=report"
    return "-device", f"virtio-blk-pci,drive={name},serial={name},{options}"
