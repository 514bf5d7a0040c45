"""The hugetlb controller. Source: cgroup-v2.rst, HugeTLB; cgroup-v1/hugetlb.rst.

Reservations are limited where the kernel can (`rsvd`, Linux 5.7): a process over a limit of pages in use dies by
SIGBUS when it touches one, over a limit of reservations it gets ENOMEM from mmap(2).
"""

from __future__ import annotations

from collections.abc import Callable

from kernelproof.impl.cgroups.controllers.memory import check_bytes
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import format_value, parse_flat, parse_value
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple


class HugetlbStats(NamedTuple):
    """What was measured of one page size; bytes.

    Attributes:
        size: of a page as the kernel writes it: "2MB".
        usage_bytes: in use.
        peak_bytes: the most that it was; version 1 only.
        refused: how often the limit was hit.
        reserved_bytes: reserved; None where the kernel does not limit that.
    """

    size: str
    usage_bytes: int
    peak_bytes: int | None
    refused: int | None
    reserved_bytes: int | None


def plan_v2(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 2.

    Raises:
        LimitError: no page size, or no number of bytes.
        NoControllerError: the cgroup has no such file.
    """
    return _plan(limits, read, "max", format_value)


def plan_v1(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 1; errors as `plan_v2`."""
    return _plan(limits, read, "limit_in_bytes", str)


def _is_size(text: str) -> bool:
    number, unit = text[:-2], text[-2:]
    return unit in ("KB", "MB", "GB") and number.isascii() and number.isdigit() and number[0] != "0"


def _plan(limits: Limits, read: Reader, file_end: str, convert: Callable[[int], str]) -> list[Write]:
    writes = []
    for size, value in (limits.hugetlb_bytes or {}).items():
        if not _is_size(size):
            raise LimitError("hugetlb_bytes", size, "a page size is a number and KB, MB or GB: 2MB")
        check_bytes("hugetlb_bytes", value)
        plain = f"hugetlb.{size}.{file_end}"
        reserved = f"hugetlb.{size}.rsvd.{file_end}"
        before = need(read, plain, "hugetlb_bytes").strip()
        if (reserved_before := read(reserved)) is not None:
            writes.append(Write(reserved, convert(value), "hugetlb_bytes", reserved_before.strip()))
        writes.append(Write(plain, convert(value), "hugetlb_bytes", before))
    return writes


def read_v2(read: Reader, sizes: tuple[str, ...]) -> tuple[HugetlbStats, ...]:
    """What version 2 measured.

    Args:
        read: reads interface files.
        sizes: the page sizes of the machine, as `list_sizes` gives them.

    Raises:
        FormatError: a file that can't be read.
    """
    found = []
    for size in sizes:
        usage, reserved = read(f"hugetlb.{size}.current"), read(f"hugetlb.{size}.rsvd.current")
        if usage is not None:
            events = parse_flat(read(f"hugetlb.{size}.events") or "", "hugetlb.events")
            found.append(HugetlbStats(size, parse_value(usage), None, events.get("max"), _number(reserved)))
    return tuple(found)


def read_v1(read: Reader, sizes: tuple[str, ...]) -> tuple[HugetlbStats, ...]:
    """What version 1 measured; arguments and errors as `read_v2`."""
    found = []
    for size in sizes:
        usage = read(f"hugetlb.{size}.usage_in_bytes")
        if usage is not None:
            rest = (
                _number(read(f"hugetlb.{size}.{file}"))
                for file in ("max_usage_in_bytes", "failcnt", "rsvd.usage_in_bytes")
            )
            found.append(HugetlbStats(size, parse_value(usage), *rest))
    return tuple(found)


def list_sizes(files: tuple[str, ...]) -> tuple[str, ...]:
    """The page sizes that a cgroup has files for, from the names of its files."""
    names = (name.split(".") for name in files if name.startswith("hugetlb."))
    return tuple(sorted({parts[1] for parts in names if len(parts) > 2}))


def _number(text: str | None) -> int | None:
    return None if text is None else parse_value(text, "hugetlb")
