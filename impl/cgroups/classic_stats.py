"""Statistics with the keys that the JSON of 2014 had, misspelt ones included, of both versions.

Times are nanoseconds, as they were; what version 2 does not have is 0 or empty. Numbers below 0 are 0, and the largest
of 64 bits is taken. Files of version 1 that a kernel lacks are passed over; a line that is none is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelproof.impl.cgroups.errors import FormatError, NoControllerError
from kernelproof.impl.cgroups.stats import Stats
from kernelproof.impl.cgroups.writes import Reader

if TYPE_CHECKING:
    from kernelproof.impl.cgroups.cgroup import Cgroup

_NANOSECONDS = 1000  # in a microsecond
_BLKIO = {
    "io_service_bytes_recursive": ("blkio.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"),
    "io_serviced_recusrive": ("blkio.io_serviced_recursive", "blkio.throttle.io_serviced"),
    "io_queue_recursive": ("blkio.io_queued_recursive",),
    "sectors_recursive": ("blkio.sectors_recursive",),
}


def collect(found: Stats, cgroup: Cgroup) -> dict[str, Any]:
    """The object of a cgroup.

    Args:
        found: what was measured.
        cgroup: that it was measured of; its blkio and freezer files are read if it is of version 1.

    Raises:
        FormatError: a line that is none.
    """
    return {
        "cpu_stats": cpu_stats(found),
        "memory_stats": memory_stats(found),
        "blkio_stats": blkio_stats(_reader(cgroup, "blkio")) if cgroup.version == 1 else blkio_of(found),
        "freezer_stats": freezer_stats(_reader(cgroup, "freezer")) if cgroup.version == 1 else {},
    }


def _reader(cgroup: Cgroup, controller: str) -> Reader:
    try:
        return cgroup.directory_of(controller).read_or_none
    except NoControllerError:
        return lambda file: None


def cpu_stats(found: Stats) -> dict[str, Any]:
    """CPU time, and how much of it was held back."""
    cpu = found.cpu
    if cpu is None:
        return {"cpu_usage": {}, "throlling_data": {}}
    usage = {
        "total_usage": cpu.usage_microseconds * _NANOSECONDS,
        "percpu_usage": [number * _NANOSECONDS for number in cpu.per_cpu_microseconds],
        "usage_in_kernelmode": (cpu.system_microseconds or 0) * _NANOSECONDS,
        "usage_in_usermode": (cpu.user_microseconds or 0) * _NANOSECONDS,
    }
    throttling = {
        "periods": cpu.periods or 0,
        "throttled_periods": cpu.throttled_periods or 0,
        "throttled_time": (cpu.throttled_microseconds or 0) * _NANOSECONDS,
    }
    return {"cpu_usage": usage, "throlling_data": throttling}


def memory_stats(found: Stats) -> dict[str, Any]:
    """Memory in use, the most of it, and all that memory.stat says."""
    memory = found.memory
    if memory is None:
        return {}
    return {
        "usage": memory.usage_bytes or 0,
        "max_usage": memory.peak_bytes or 0,
        "stats": {key: max(value, 0) for key, value in memory.details.items()},
        "failcnt": memory.limit_hits or 0,
    }


def blkio_of(found: Stats) -> dict[str, Any]:
    """Input and output of version 2, as entries of version 1."""
    moved, done = [], []
    for device in found.io or ():
        for operation, moved_value, done_value in (
            ("Read", device.read_bytes, device.read_operations),
            ("Write", device.write_bytes, device.write_operations),
        ):
            entry = {"major": device.major, "minor": device.minor, "op": operation}
            moved.append(entry | {"value": moved_value})
            done.append(entry | {"value": done_value})
    rest: dict[str, Any] = {"io_queue_recursive": [], "sectors_recursive": []}
    return {"io_service_bytes_recursive": moved, "io_serviced_recusrive": done} | rest


def blkio_stats(read: Reader) -> dict[str, Any]:
    """Input and output of version 1: of the first file of each kind that says anything."""
    found = {}
    for key, files in _BLKIO.items():
        entries = (parse_blkio(text, file) for file in files if (text := read(file)) is not None)
        found[key] = next((each for each in entries if each), [])
    return found


def parse_blkio(text: str, file: str = "") -> list[dict[str, Any]]:
    """Lines of a blkio file: device, operation and number; the line of the total is passed over.

    Raises:
        FormatError: a line with another number of words, or without a number.
    """
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 2 and words[0] == "Total":
            continue
        is_plain = len(words) == 3 and file.endswith("sectors_recursive")
        if not (is_plain or len(words) == 4):
            raise FormatError(file, line, "not device, operation and number")
        operation = "" if is_plain else words[2]
        major, minor = parse_number(words[0], file), parse_number(words[1], file)
        found.append({"major": major, "minor": minor, "op": operation, "value": parse_number(words[-1], file)})
    return found


def parse_number(text: str, file: str = "") -> int:
    """A number of 64 bits; one below 0 is 0.

    Raises:
        FormatError: not a number.
    """
    word = text.strip()
    if not (word.removeprefix("-").isascii() and word.removeprefix("-").isdecimal()):
        raise FormatError(file, text, "not a number")
    return max(int(word), 0)


def freezer_stats(read: Reader) -> dict[str, Any]:
    """Whether it is frozen by itself, and by an ancestor."""
    files = {"parent_state": "freezer.parent_freezing", "self_state": "freezer.self_freezing"}
    return {key: text.strip() for key, file in files.items() if (text := read(file)) is not None}
